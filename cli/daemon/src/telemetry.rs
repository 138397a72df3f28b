//! The daemon's log: text for people, JSON for machines; `RUST_LOG` wins over the configuration.

use anyhow::bail;
use bosun_runtime::call::Calls;
use bosun_runtime::shim::ShimLog;
use bosun_types::shim::environment::JSON;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::Log;

/// Installs the subscriber.
pub fn start(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter(log))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format.as_str() {
        "text" => builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .finish()
            .with(Calls)
            .init(),
        JSON => builder.json().finish().with(Calls).init(),
        other => bail!("log.format {other:?} is neither \"text\" nor \"json\""),
    }
    Ok(())
}

/// Which lines: as the environment says, else the configuration.
fn filter(log: &Log) -> String {
    std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty()).unwrap_or_else(|| log.level.clone())
}

/// The same for shims, in their own logs.
pub fn of_shims(log: &Log) -> ShimLog {
    ShimLog { filter: filter(log), json: log.format == JSON }
}
