//! `bosund`: the composition root. It reads the configuration, opens the storage, starts the actors, attaches the edge,
//! waits for a signal, and stops everything in reverse order. There is no logic here that could be anywhere else.

mod config;
mod metrics;
mod probe;
mod signals;
mod telemetry;
mod wiring;

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    let arguments = config::Arguments::parse();
    match start(&arguments) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            std::process::ExitCode::FAILURE
        }
    }
}

fn start(arguments: &config::Arguments) -> anyhow::Result<()> {
    if let Some(command) = &arguments.command {
        return config::print(command);
    }
    if let Some(skew) = bosun_faults::skew() {
        bosun_types::Timestamp::skew(skew);
    }
    let config = config::load(arguments)?;
    telemetry::start(&config.log)?;
    wiring::prepare_process(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("bosund").build()?;
    let result = runtime.block_on(wiring::serve(&config));
    // A blocking worker that hangs on a dead disk must not keep a stopped daemon alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}

/// What failed, why, and what to do: once, on standard error, whatever the log is set to.
#[expect(clippy::print_stderr, reason = "the last words of a command line program")]
fn report(error: &anyhow::Error) {
    eprintln!("bosund: error: {error:#}");
    let hint = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<bosun_types::Error>())
        .and_then(|e| e.hint.clone());
    if let Some(hint) = hint {
        eprintln!("bosund: hint: {hint}");
    }
}
