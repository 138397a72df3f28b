//! The daemon's log: text for people, JSON for machines; `RUST_LOG` wins over the configuration.

use anyhow::bail;
use bosun_runtime::call::Calls;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::Log;

/// Installs the subscriber.
pub fn start(log: &Log) -> anyhow::Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(text)?,
        _ => EnvFilter::try_new(&log.level)?,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format.as_str() {
        "text" => builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .finish()
            .with(Calls)
            .init(),
        "json" => builder.json().finish().with(Calls).init(),
        other => bail!("log.format {other:?} is neither \"text\" nor \"json\""),
    }
    Ok(())
}
