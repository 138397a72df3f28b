//! `cargo xtask install --prefix DIR`: release binaries, systemd unit, shell completions, man pages.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clap::Args;

use crate::{build, packages, run};

/// Where to.
#[derive(Args)]
pub struct Options {
    /// Directory that gets bin/, libexec/, lib/systemd/system/ and share/.
    #[arg(long, default_value = "/usr/local")]
    prefix: PathBuf,
    /// Put this in front of every path that is written, as packagers do.
    #[arg(long)]
    destdir: Option<PathBuf>,
}

/// Builds and installs.
pub fn run(options: &Options) -> anyhow::Result<()> {
    packages::ensure(&[packages::BUILD])?;
    let binaries = build::release(false)?;
    let base = match &options.destdir {
        Some(destdir) => destdir.join(options.prefix.strip_prefix("/").unwrap_or(&options.prefix)),
        None => options.prefix.clone(),
    };
    let bin = base.join("bin");
    for program in [&binaries.bosun, &binaries.bosund, &binaries.shim] {
        copy_program(program, &bin)?;
    }
    let unit = base.join("lib/systemd/system/bosun.service");
    write(&unit, &systemd_unit(&options.prefix))?;
    for (shell, path) in [
        ("bash", "share/bash-completion/completions/bosun"),
        ("zsh", "share/zsh/site-functions/_bosun"),
        ("fish", "share/fish/vendor_completions.d/bosun.fish"),
    ] {
        let script = run::output(Command::new(&binaries.bosun).args(["completions", shell]))?;
        write(&base.join(path), &String::from_utf8(script)?)?;
    }
    let man = base.join("share/man/man1");
    std::fs::create_dir_all(&man)?;
    run::check(Command::new(&binaries.bosun).arg("man").arg(&man))?;
    run::say(&format!("installed below {}", base.display()));
    run::say("next: systemctl daemon-reload && systemctl enable --now bosun   (or run `bosund` by hand)");
    Ok(())
}

/// Writes beside and renames, so that a running program is never written into and an upgrade is never half done.
fn copy_program(program: &Path, bin: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(bin)?;
    let name = program.file_name().context("a program has a file name")?;
    let beside = bin.join(format!(".{}.new", name.to_string_lossy()));
    std::fs::copy(program, &beside).with_context(|| format!("cannot write {}", beside.display()))?;
    std::fs::rename(&beside, bin.join(name))?;
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// `KillMode=process` is vital: containers and their shims outlive a restart of the daemon (row SYS-15).
/// `Delegate=yes`: the cgroups below the daemon's are its own. `Restart=always`: supervision does not end at our process.
fn systemd_unit(prefix: &Path) -> String {
    let bin = prefix.join("bin");
    format!(
        "[Unit]\n\
         Description=bosun container daemon\n\
         After=network.target local-fs.target\n\
         \n\
         [Service]\n\
         Type=exec\n\
         ExecStartPre=-/sbin/modprobe overlay\n\
         ExecStart={}/bosund\n\
         Restart=always\n\
         RestartSec=1\n\
         KillMode=process\n\
         Delegate=yes\n\
         OOMScoreAdjust=-999\n\
         LimitNOFILE=1048576\n\
         LimitNPROC=infinity\n\
         LimitCORE=infinity\n\
         TasksMax=infinity\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        bin.display()
    )
}
