//! Which binaries are built how: the daemon unwinds (supervision rests on it), the shim is small and aborts, the client starts fast.

use std::path::{Path, PathBuf};

use crate::run;

/// Where the built programs are.
pub struct Binaries {
    /// The client.
    pub bosun: PathBuf,
    /// The daemon.
    pub bosund: PathBuf,
    /// The shim.
    pub shim: PathBuf,
    /// Makes and pushes small images; a test tool.
    pub fixture: PathBuf,
    /// Loads daemons; a test tool.
    pub load: PathBuf,
}

/// The folder of the workspace's Cargo.toml.
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// cargo's target directory.
pub fn target_directory() -> anyhow::Result<PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new().no_deps().exec()?;
    Ok(metadata.target_directory.into_std_path_buf())
}

/// Release binaries, the shim and the client with profiles of their own.
pub fn release(fixture: bool) -> anyhow::Result<Binaries> {
    let mut command = run::cargo();
    command.args(["build", "--release", "--package", "bosun-daemon"]);
    if fixture {
        command.args(["--package", "bosun-tests"]);
    }
    run::check(&mut command)?;
    run::check(run::cargo().args(["build", "--profile", "shim", "--package", "bosun-shim"]))?;
    client()?;
    let target = target_directory()?;
    Ok(Binaries {
        bosun: target.join("client/bosun"),
        bosund: target.join("release/bosund"),
        shim: target.join("shim/bosun-shim"),
        fixture: target.join("release/bosun-fixture"),
        load: target.join("release/bosun-load"),
    })
}

/// Complete in itself and at one place: no libraries to find and map, no address in a table to be put right, each of which costs a page at each start. It holds no
/// privilege that its caller has not, so it needs no random place; the names of accounts, for which a static program must not ask the C library, it
/// asks of `getent`.
fn client() -> anyhow::Result<()> {
    let mut command = run::cargo();
    command.args(["rustc", "--profile", "client", "--package", "bosun-cli", "--bin", "bosun"]);
    run::check(command.args(["--", "-C", "relocation-model=static", "-C", "target-feature=+crt-static"]))
}
