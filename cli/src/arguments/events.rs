//! The words of `bosun events`.

use clap::{Args, Subcommand};

use super::Filter;

/// Show events.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "EXAMPLES:
  bosun events                                    what happens from now on
  bosun events --since 1 --no-follow              all that is kept
  bosun events --topic /tasks/exit --json
  bosun events -f 'topic==/tasks/exit,event.exit_status!=0'
  bosun events --since 2026-11-24T08:00:00Z --all-namespaces
  bosun events --since 10m --topic /images/
  bosun events --cursor backup --json             go on where it was left
  bosun events cursors ls
  bosun events publish /backup/done '{\"files\": 12}'

FILTER FIELDS: namespace, topic, event.FIELD as --json shows it (event.container_id, event.exit_status, event.labels.KEY)

Events are kept, so nothing is missed between two looks: --since takes a sequence number, a time or an age. How many and how long: [events] keep_max and keep_for in bosund's configuration. Whoever asks for what is gone, or reads more slowly than events go, is told which are missing.

A named cursor remembers the place. Whoever is killed in between, nothing is left out; only what was shown and not yet acknowledged comes again."
)]
pub struct Events {
    /// Something else than showing.
    #[command(subcommand)]
    pub command: Option<EventsCommand>,
    /// Start at a sequence number, a time (RFC 3339) or an age (10m) [default: now].
    #[arg(long)]
    pub since: Option<String>,
    /// Go on where this named cursor is, and move it on with what is shown; made at --since if there is none.
    #[arg(long)]
    pub cursor: Option<String>,
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

/// What else there is to do with events.
#[derive(Subcommand)]
pub enum EventsCommand {
    /// List and remove named cursors.
    Cursors {
        /// What to do [default: ls].
        #[command(subcommand)]
        command: Option<CursorsCommand>,
    },
    /// Publish an event, or pass one on, and print its sequence number.
    #[command(after_help = "EXAMPLES:
  bosun events publish /backup/done '{\"files\": 12}'
  bosun events publish /backup/done --type text/plain yes
  bosun events publish /tasks/exit --forward 2026-11-24T08:00:00Z '{\"container_id\": \"web\"}'

A topic is /word/word…; those of bosund itself (/tasks/, /images/, …) can only be passed on, with the time at which they were published elsewhere. Filters find fields of a payload that is JSON: -f event.files==12.")]
    Publish {
        /// Under which topic.
        topic: String,
        /// The payload, at most 256 KiB.
        #[arg(default_value = "")]
        payload: String,
        /// The payload's type.
        #[arg(long = "type", default_value = "application/json")]
        type_url: String,
        /// It was published elsewhere, at this time (RFC 3339) or so long ago (10m): pass it on.
        #[arg(long)]
        forward: Option<String>,
    },
}

/// What to do with cursors.
#[derive(Subcommand)]
pub enum CursorsCommand {
    /// List cursors and how far behind they are.
    #[command(alias = "list", after_help = "FILTER FIELDS: id, namespace")]
    Ls {
        /// Which.
        #[command(flatten)]
        filter: Filter,
    },
    /// Forget cursors.
    #[command(aliases = ["remove", "delete"], after_help = "EXAMPLES:\n  bosun events --cursor audit --since 1 --no-follow && bosun events cursors rm audit")]
    Rm {
        /// Which.
        #[arg(required = true)]
        cursors: Vec<String>,
    },
}
