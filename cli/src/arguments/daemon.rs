//! Words about the daemon and the host.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::Filter;

/// Show operations.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun operations\n  bosun operations -f state==parked\n  bosun operations retry 12\n  bosun operations forget 12\n\nAn operation that fails at its undoing too is parked: it waits, visible with its cause, for a person."
)]
pub struct Operations {
    /// What to do [default: ls].
    #[command(subcommand)]
    pub command: Option<OperationsCommand>,
    /// Which.
    #[command(flatten)]
    pub filter: Filter,
}

/// What to do with operations.
#[derive(Subcommand)]
pub enum OperationsCommand {
    /// List operations that are under way or parked.
    #[command(after_help = "FILTER FIELDS: id, namespace, kind, state")]
    Ls {
        /// Which.
        #[command(flatten)]
        filter: Filter,
    },
    /// Try a parked one again.
    Retry {
        /// Its number.
        id: u64,
    },
    /// Close a parked one without doing anything more for it; what it left is removed when bosund starts again.
    Forget {
        /// Its number.
        id: u64,
    },
}

/// Examine the host.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun doctor\n  bosun doctor --quiet\n  bosun doctor --json --root /data/bosun\n\nEXIT CODE: 0 when all that bosun needs is there, warnings included; 1 when something is not."
)]
pub struct Doctor {
    /// bosund's root directory [default: the daemon's, else /var/lib/bosun].
    #[arg(long, value_hint = ValueHint::DirPath)]
    pub root: Option<PathBuf>,
    /// Only what is not as it should be.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Ask for health.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun health\n  bosun health --wait 30 && bosun start web\n\nPrints serving, recovering (it serves; a few things are not known yet) or read-only. EXIT CODE: 0 for the first two."
)]
pub struct Health {
    /// Seconds to wait until it serves.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub wait: u32,
}

/// Ask the daemon.
#[derive(Subcommand)]
#[command(
    after_help = "EXAMPLES:\n  bosun daemon status\n  bosun daemon status --format '{{.version}} {{.containers}}'"
)]
pub enum DaemonCommand {
    /// Its version, paths, counts, and whether it recovers.
    Status,
}

/// OCI specs.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun oci spec > config.json\n  bosun oci spec --name web sleep 1000\n  bosun oci spec --format '{{json .linux.namespaces}}'"
)]
pub struct Oci {
    /// What to do.
    #[command(subcommand)]
    pub command: OciCommand,
}

/// What to do with OCI specs.
#[derive(Subcommand)]
pub enum OciCommand {
    /// Print the spec of a container for which nothing else is said: its root is `rootfs`, its command `sh` unless one is given.
    Spec {
        /// Name of the container; its cgroup is called so.
        #[arg(long, default_value = "container")]
        name: String,
        /// Command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, default_value = "sh")]
        command: Vec<String>,
    },
}
