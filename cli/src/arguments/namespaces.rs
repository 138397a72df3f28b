//! The words of `bosun namespaces`.

use clap::{Args, Subcommand};

use super::{Filter, SocketCommand};

/// List and manage namespaces.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun namespaces\n  bosun namespaces create -l team=web staging\n  bosun -n staging ps\n  bosun namespaces label staging team=core\n  bosun namespaces rm staging\n  bosun namespaces socket ls"
)]
pub struct Namespaces {
    /// What to do [default: ls].
    #[command(subcommand)]
    pub command: Option<NamespacesCommand>,
    /// Which.
    #[command(flatten)]
    pub filter: Filter,
}

/// What to do with namespaces.
#[derive(Subcommand)]
pub enum NamespacesCommand {
    /// List namespaces.
    #[command(alias = "list", after_help = "FILTER FIELDS: name, labels.KEY")]
    Ls {
        /// Print names only.
        #[arg(short, long)]
        quiet: bool,
        /// Which.
        #[command(flatten)]
        filter: Filter,
    },
    /// Make one.
    Create {
        /// Its name.
        name: String,
        /// Label, KEY=VALUE; repeatable.
        #[arg(short, long)]
        label: Vec<String>,
    },
    /// Set labels; without any they are printed.
    Label {
        /// Its name.
        name: String,
        /// KEY=VALUE sets, KEY= removes.
        labels: Vec<String>,
    },
    /// Remove empty ones.
    #[command(aliases = ["remove", "delete"])]
    Rm {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Make, list and revoke sockets that yield one namespace and nothing else.
    #[command(subcommand)]
    Socket(SocketCommand),
}
