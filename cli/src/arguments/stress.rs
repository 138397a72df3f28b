//! The words of `bosun stress`.

use clap::{Args, Subcommand};

/// Load the daemon.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "EXAMPLES:\n  bosun stress --duration 10s registry.local:5000/library/busybox:latest\n  bosun stress -c 4 --count 100 --exec registry.local:5000/library/busybox:latest\n  bosun --json stress --count 20 registry.local:5000/library/busybox:latest\n  bosun stress density --count 10 registry.local:5000/library/busybox:latest\n\nEach worker creates, starts, waits for and deletes a container that runs `true`, over and over, in the namespace `stress` unless --namespace names\nanother. An image that is not there is taken from the namespace `default`. What was made is removed at the end, also after Ctrl-C."
)]
pub struct Stress {
    /// Something else than containers per second.
    #[command(subcommand)]
    pub command: Option<StressCommand>,
    /// Image that has `true`.
    #[arg(required = true)]
    pub image: Option<String>,
    /// Workers at once.
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub concurrent: u32,
    /// How long, such as 30s or 5m.
    #[arg(short, long, default_value = "1m", conflicts_with = "count")]
    pub duration: String,
    /// Exactly so many containers instead.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// In each container an exec of `true` too.
    #[arg(long)]
    pub exec: bool,
    /// OCI runtime: bosun (embedded), runc, crun, or a path.
    #[arg(long, default_value = bosun_types::container::RUNTIME_EMBEDDED)]
    pub runtime: String,
}

/// What else.
#[derive(Subcommand)]
pub enum StressCommand {
    /// What each idle container costs in memory outside of itself: its monitor process.
    Density {
        /// Image that has `sleep`.
        image: String,
        /// Containers.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=4096))]
        count: u32,
    },
}
