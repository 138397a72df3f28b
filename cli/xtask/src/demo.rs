//! (being written)

use clap::Args;

/// Options.
#[derive(Args)]
pub struct Options {}

/// Runs it.
pub fn run(_options: &Options) -> anyhow::Result<()> {
    anyhow::bail!("not there yet")
}
