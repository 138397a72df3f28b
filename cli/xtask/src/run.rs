//! Runs programs: prints what it runs, fails with the command line and its status.

use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// Prints a headline on stderr, so that standard output stays the programs' own.
#[expect(clippy::print_stderr, reason = "a command line tool")]
pub fn say(text: &str) {
    eprintln!("xtask: {text}");
}

/// Runs to the end with inherited streams; an error names the command line.
pub fn check(command: &mut Command) -> anyhow::Result<()> {
    let line = describe(command);
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

/// Runs to the end and gives standard output; an error carries standard error.
pub fn output(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let line = describe(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

/// A cargo of the same toolchain that runs us.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn describe(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
