//! `cargo xtask`: everything a developer or CI does beyond `cargo build`.
//!
//! Each sub-command is a file. What they share: [`packages`] (Debian packages that a fresh machine lacks), [`run`]
//! (running programs with readable failures), [`build`] (which binaries, which profiles).

mod bench;
mod build;
mod codegen;
mod demo;
mod install;
mod packages;
mod run;
mod test;
mod tidy;
mod world;

use clap::{Parser, Subcommand};

/// Builds, checks, shows and measures bosun.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show bosun at work on this machine: pull, run, kill -9 the daemon, find everything again.
    Demo(demo::Options),
    /// Run the whole test suite: format, tidy, clippy, unit, integration, chaos.
    Test(test::Options),
    /// Measure bosun against containerd, runc and crun in one interleaved run; writes all samples as JSON.
    Bench(bench::Options),
    /// Build release binaries and install them below a prefix, with systemd unit, completions and man pages.
    Install(install::Options),
    /// Renew the checked-in code generator requests from the Cap'n Proto schema (needs the `capnp` compiler).
    Codegen,
    /// Check the rules of the house: who imports whom, headers, lengths, bans.
    Tidy,
}

fn main() -> anyhow::Result<()> {
    std::env::set_current_dir(build::workspace_root())?;
    match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Install(options) => install::run(&options),
        Command::Codegen => codegen::run(),
        Command::Tidy => tidy::run(),
    }
}
