//! `bosun`: the command line. It parses words, calls `bosun-client`, prints. No logic of containers is here.
//!
//! Exit codes: 0 success; 1 the request failed (125 for `run`, `restore` and `exec`, so that a container's own code is not mistaken for
//! it); 2 wrong usage; 126 and 127 from `run`: the command in the container cannot be started, is not found; otherwise
//! what the container said.

mod accounts;
mod arguments;
mod commands;
mod completion;
mod context;
mod detach_keys;
mod format;
mod output;
mod progress;
mod registry_access;
mod signals;
mod template;
mod terminal;
mod trace;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::arguments::{Arguments, Command};

fn main() -> ExitCode {
    // Asked by a shell that completes a word, this answers and ends.
    clap_complete::CompleteEnv::with_factory(|| completion::command(Arguments::command()))
        .bin("bosun")
        .complete();
    let arguments = Arguments::parse();
    let failure = match &arguments.command {
        Command::Run(_) | Command::Restore(_) | Command::Exec(_) => 125,
        _ => 1,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::report(&anyhow::Error::new(error).context("cannot start the async runtime"));
            return ExitCode::from(failure);
        }
    };
    // The client's connection lives on this thread too.
    let result = tokio::task::LocalSet::new().block_on(&runtime, commands::dispatch(arguments));
    // A blocked read of the terminal must not keep us.
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::report(&error);
            ExitCode::from(failure)
        }
    }
}
