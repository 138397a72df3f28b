//! `cargo xtask test`: what CI runs. Order: the cheap refusals first (format, tidy, clippy), then every test.

use std::process::Command;

use clap::Args;

use crate::{packages, run, tidy};

/// Crash points are compiled in for tests only; one feature set for every build here, so that nothing is built twice.
const FEATURES: &str = "bosun-daemon/faults";

/// What to run.
#[derive(Args)]
pub struct Options {
    /// Skip format, tidy and clippy.
    #[arg(long)]
    no_lint: bool,
    /// Only tests whose name contains this text.
    filter: Option<String>,
}

/// Runs everything; the test runner prints the closing line.
pub fn run(options: &Options) -> anyhow::Result<()> {
    packages::require_root("test")?;
    packages::ensure(&[packages::BUILD, packages::TEST])?;
    if !options.no_lint {
        run::say("cargo fmt --check");
        run::check(run::cargo().args(["fmt", "--all", "--check"]))?;
        run::say("tidy");
        tidy::run()?;
        run::say("cargo clippy");
        run::check(run::cargo().args([
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--features",
            FEATURES,
            "--",
            "-D",
            "warnings",
        ]))?;
    }
    run::say("building the programs under test");
    run::check(run::cargo().args(["build", "--quiet", "--workspace", "--features", FEATURES]))?;
    run::say("running the tests");
    tests(options)
}

/// nextest where it is installed (a process for each test, so a hung one is ended and named), else plain `cargo test`.
fn tests(options: &Options) -> anyhow::Result<()> {
    let nextest = Command::new("cargo-nextest")
        .args(["nextest", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    // Documentation tests first, so that the closing line is that of the whole suite.
    run::check(run::cargo().args(["test", "--quiet", "--doc", "--workspace", "--features", FEATURES]))?;
    let mut command = run::cargo();
    if nextest {
        command.args(["nextest", "run", "--cargo-quiet", "--workspace", "--features", FEATURES]);
        command.args(["--status-level", "fail", "--final-status-level", "flaky", "--no-fail-fast"]);
    } else {
        command.args(["test", "--quiet", "--lib", "--bins", "--tests", "--workspace", "--no-fail-fast"]);
        command.args(["--features", FEATURES]);
    }
    command.args(options.filter.as_deref());
    run::check(&mut command)
}
