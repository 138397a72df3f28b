//! Words of leases and garbage collection.

use clap::{Args, Subcommand};

use super::Filter;

/// Keep what you work on.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun leases create --expires 2h build-7\n  bosun --lease build-7 pull registry.local:5000/team/app:1.2\n  bosun leases add build-7 content sha256:…\n  bosun leases add build-7 snapshots/overlayfs web\n  bosun leases resources build-7\n  bosun leases drop build-7 content sha256:…\n  bosun leases rm --sync build-7\n\nBlobs and snapshots that nothing refers to are collected. A lease keeps what is made or found under it (--lease, BOSUN_LEASE) until it is removed or expires."
)]
pub struct Leases {
    /// What to do [default: ls].
    #[command(subcommand)]
    pub command: Option<LeasesCommand>,
}

/// What to do with leases.
#[derive(Subcommand)]
pub enum LeasesCommand {
    /// List leases.
    #[command(alias = "list")]
    Ls {
        /// Print ids only.
        #[arg(short, long)]
        quiet: bool,
        /// Which: fields id, labels.<key>.
        #[command(flatten)]
        filter: Filter,
    },
    /// Make one and print its id.
    Create {
        /// Its id [default: one of its own].
        lease: Option<String>,
        /// It ends by itself after so long, such as 90s, 30m, 24h, 7d; 0: never.
        #[arg(long, default_value = "24h")]
        expires: String,
        /// It holds only its resources, not what their labels refer to.
        #[arg(long)]
        flat: bool,
        /// Label, KEY=VALUE; repeatable.
        #[arg(short, long)]
        label: Vec<String>,
    },
    /// Remove leases. What they alone held goes with the next collection.
    #[command(alias = "remove", alias = "delete")]
    Rm {
        /// Ids.
        #[arg(required = true)]
        leases: Vec<String>,
        /// Wait until it is gone.
        #[arg(long)]
        sync: bool,
    },
    /// Show what one holds.
    Resources {
        /// Its id.
        lease: String,
    },
    /// Let one hold something.
    Add(LeaseEntry),
    /// Let one let go of something.
    Drop(LeaseEntry),
}

/// A lease and a resource.
#[derive(Args)]
pub struct LeaseEntry {
    /// The lease's id.
    pub lease: String,
    /// content, snapshots/<snapshotter> or ingests.
    pub kind: String,
    /// A digest, a key or a ref.
    pub id: String,
}

/// Collect garbage.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun gc --dry-run\n  bosun gc\n  bosun --json gc --dry-run\n\nThe daemon collects by itself after deletions ([gc] in config.toml). This does it now, in all namespaces, and waits. `bosun why` tells what keeps something."
)]
pub struct Gc {
    /// Only show what would go.
    #[arg(long)]
    pub dry_run: bool,
}

/// Show what keeps something.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun why sha256:…\n  bosun why web\n  bosun why --snapshotter native web\n\nEach line is a chain: what keeps it by itself (an image, a container, a lease, a label, work in flight), then what refers to what, down to the thing. No line: nothing keeps it."
)]
pub struct Why {
    /// A blob's digest, or a snapshot's key. A digest that is both is told of both.
    pub object: String,
    /// Snapshotter of the snapshot.
    #[arg(long, env = "BOSUN_SNAPSHOTTER", default_value = bosun_types::snapshot::SNAPSHOTTER_DEFAULT)]
    pub snapshotter: String,
}
