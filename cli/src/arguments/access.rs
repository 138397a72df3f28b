//! The words of `bosun namespaces socket` and `bosun audit`.

use clap::{Args, Subcommand};

/// What to do with namespace sockets.
#[derive(Subcommand)]
#[command(
    after_help = "EXAMPLES:\n  bosun namespaces socket create web --owner ci:deploy --mode 0660\n  bosun namespaces socket create web --name web-look --owner :monitoring --read-only\n  bosun --address /run/bosun/sockets/web.sock ps\n  bosun namespaces socket rm web\n\nWhoever may connect to such a socket reaches that namespace and no other name. Who may create containers there may make one\nthat is root on the host, so a socket that is not --read-only is for people who could be root."
)]
pub enum SocketCommand {
    /// Make one. It is there again after every start of the daemon until it is removed.
    Create {
        /// The namespace that it yields.
        namespace: String,
        /// Its name; the file is <state>/sockets/<name>.sock [default: the namespace's].
        #[arg(long)]
        name: Option<String>,
        /// Who owns it: USER, USER:GROUP or :GROUP, by name or number [default: root:root].
        #[arg(long, value_name = "USER[:GROUP]", default_value = "0:0")]
        owner: String,
        /// Its permission bits, in octal.
        #[arg(long, default_value = "0660")]
        mode: String,
        /// Refuse every call that changes something.
        #[arg(long)]
        read_only: bool,
    },
    /// List them.
    #[command(alias = "list")]
    Ls,
    /// Revoke one: its connections end at once.
    #[command(alias = "remove")]
    Rm {
        /// Its name.
        name: String,
    },
}

/// Show who did what.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun audit\n  bosun audit --since 1h --user ci\n  bosun audit --subject default/web --call container --json\n  bosun audit --refused\n\nEvery call that changes something is recorded before its first effect, with the user and the process that the kernel names. An\nentry that stays `begun` was cut off when the daemon was killed: `bosun events` tells what became of it. The newest 100,000 are kept."
)]
pub struct Audit {
    /// Begun since a time (RFC 3339) or an age (10m).
    #[arg(long)]
    pub since: Option<String>,
    /// By this user, by name or number.
    #[arg(long)]
    pub user: Option<String>,
    /// About this: NAMESPACE, NAMESPACE/CONTAINER, or longer.
    #[arg(long)]
    pub subject: Option<String>,
    /// This call, or those of a noun: container, or container.create.
    #[arg(long)]
    pub call: Option<String>,
    /// Only what was refused or failed.
    #[arg(long)]
    pub refused: bool,
    /// Most entries; 0: all.
    #[arg(short = 'l', long, default_value_t = 100)]
    pub limit: u32,
}
