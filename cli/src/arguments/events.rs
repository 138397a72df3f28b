//! The words of `bosun events`.

use clap::Args;

use super::Filter;

/// Show events.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun events\n  bosun events --since 1 --no-follow\n  bosun events --topic /tasks/exit --json\n  bosun events -f 'topic==/tasks/exit,event.exit_status!=0'\n  bosun events --since 2026-11-24T08:00:00Z --all-namespaces\n\nFILTER FIELDS: namespace, topic, event.FIELD as --json shows it (event.container_id, event.exit_status, event.labels.KEY)\n\nEvents are kept: --since takes a sequence number or a time, so nothing is missed between two looks."
)]
pub struct Events {
    /// Start at a sequence number, a time (RFC 3339) or an age (10m) [default: now].
    #[arg(long)]
    pub since: Option<String>,
    /// Only topics that start with this; repeatable.
    #[arg(long)]
    pub topic: Vec<String>,
    /// Which.
    #[command(flatten)]
    pub filter: Filter,
    /// End when everything there is has been shown.
    #[arg(long)]
    pub no_follow: bool,
    /// Of all namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}
