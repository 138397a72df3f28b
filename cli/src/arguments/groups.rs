//! Words about groups.

use std::path::PathBuf;

use bosun_types::group::GroupStrategy;
use clap::{Args, Subcommand, ValueHint};

/// Containers supervised together.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun group create shop db web --strategy rest_for_one\n  bosun group start shop\n  bosun group\n  bosun group tree shop\n  bosun group inspect shop\n  bosun group stop shop\n  bosun group rm shop"
)]
pub struct Groups {
    /// What to do [default: ls].
    #[command(subcommand)]
    pub command: Option<GroupsCommand>,
}

/// What to do with groups.
#[derive(Subcommand)]
pub enum GroupsCommand {
    /// List groups.
    #[command(alias = "list")]
    Ls,
    /// Make a group of containers that there are.
    #[command(
        after_help = "EXAMPLES:\n  bosun group create shop db cache:transient web:permanent:30s --strategy rest_for_one\n  bosun group create --file shop.toml --start\n\nMEMBERS are started in this order and stopped in reverse: NAME[:RESTART[:SHUTDOWN]], a group as @NAME. RESTART is permanent (always), transient (after a failure) or temporary (never).\n\nFILE is TOML:\n  name = \"shop\"\n  strategy = \"rest_for_one\"   # one_for_one, one_for_all\n  intensity = \"3/1m\"          # one restart more, and the group is stopped and failed\n  [[member]]\n  container = \"db\"            # or: group = \"...\"\n  restart = \"permanent\"\n  shutdown = \"30s\"            # before it is killed"
    )]
    Create(GroupCreate),
    /// Show groups with their members, nested ones below.
    Tree {
        /// Groups [default: all that are in no other].
        names: Vec<String>,
    },
    /// Print groups as JSON: what was asked for, status, cause, restarts, members.
    Inspect {
        /// Groups.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Start the members in order.
    Start {
        /// Groups.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Stop the members in reverse order.
    Stop {
        /// Groups.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Remove groups; their containers stay.
    #[command(alias = "remove")]
    Rm {
        /// Groups.
        #[arg(required = true)]
        names: Vec<String>,
        /// Stop first what is up.
        #[arg(short, long)]
        force: bool,
    },
}

/// A group to make.
#[derive(Args)]
pub struct GroupCreate {
    /// Its name.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub name: Option<String>,
    /// NAME[:RESTART[:SHUTDOWN]], a group as @NAME; in the order of their start.
    #[arg(conflicts_with = "file")]
    pub members: Vec<String>,
    /// What else is started again with a member that failed.
    #[arg(long, conflicts_with = "file")]
    pub strategy: Option<GroupStrategy>,
    /// At most N restarts within a time [default: 3/1m].
    #[arg(long, value_name = "N/TIME", conflicts_with = "file")]
    pub intensity: Option<String>,
    /// Read it from a TOML file; `-`: from standard input.
    #[arg(short, long, value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Start it too.
    #[arg(long)]
    pub start: bool,
}
