//! Completions by the shells themselves: each reads the script that `bosun completions` prints, and completes names that are there at that moment.

use std::path::Path;
use std::process::Command;

use bosun_tests::world::{Daemon, World, program};

use crate::cli::{good, text, with_image};

const IMAGE: &str = "test.local/busybox:latest";

/// A world with containers, and the shell's script; `None`, and said: the shell is not there.
#[expect(clippy::print_stderr, reason = "a test that does not run says so")]
fn with_script(shell: &str) -> Option<(World, Daemon, String)> {
    if !["/usr/bin", "/bin"].iter().any(|folder| Path::new(folder).join(shell).exists()) {
        eprintln!("SKIPPED: there is no {shell}");
        return None;
    }
    let (world, daemon) = with_image();
    for name in ["web", "worker", "db"] {
        good(&world, &["create", "--name", name, IMAGE]);
    }
    good(&world, &["-n", "staging", "leases", "create", "build-7"]);
    let path = world.path("script");
    std::fs::write(&path, good(&world, &["completions", shell])).expect("writes");
    let script = path.to_string_lossy().into_owned();
    Some((world, daemon, script))
}

/// The shell finds our `bosun`, and that this world.
fn shell(world: &World, name: &str) -> Command {
    let mut command = Command::new(name);
    let folder = program("bosun").parent().expect("it is in a folder").to_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", folder.display())).env("BOSUN_ADDRESS", world.address());
    command.env("HOME", world.path("")).env("TERM", "xterm").env_remove("BOSUN_NAMESPACE");
    command
}

/// What is completed, and to what.
const CASES: [(&str, &[&str]); 5] = [
    ("bosun stop w", &["web", "worker"]),
    ("bosun run --rm test", &[IMAGE]),
    ("bosun -n st", &["staging"]),
    ("bosun -n staging leases rm b", &["build-7"]),
    ("bosun containers rm db wo", &["worker"]),
];

fn lines(output: &std::process::Output) -> Vec<String> {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn bash_completes_live_names() {
    let Some((world, daemon, script)) = with_script("bash") else { return };
    let complete = |line: &str| {
        // What bash does when somebody presses the key.
        let calls = format!(
            "source '{script}'; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_TYPE=9; \
             function=$(complete -p bosun | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
             $function bosun \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        lines(
            &shell(&world, "bash").args(["--norc", "--noprofile", "-c", &calls]).output().expect("bash runs"),
        )
    };
    for (line, wanted) in CASES {
        assert_eq!(complete(line), wanted, "{line}");
    }
    good(&world, &["rm", "web"]);
    assert_eq!(complete("bosun stop w"), ["worker"], "as it is now");
    daemon.kill();
    assert_eq!(complete("bosun stop w"), [""], "without a daemon there is nothing, and no error");
}

#[test]
fn fish_completes_live_names() {
    let Some((world, _daemon, script)) = with_script("fish") else { return };
    for (line, wanted) in CASES {
        let calls = format!("source '{script}'; complete --do-complete '{line}'");
        let output = shell(&world, "fish").args(["--no-config", "-c", &calls]).output().expect("fish runs");
        assert_eq!(lines(&output), wanted, "{line}");
    }
}
