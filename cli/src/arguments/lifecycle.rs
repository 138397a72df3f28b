//! Words about a container as a whole: start, stop, restart, and its restart policy.

use bosun_types::relaunch::RestartWhen;
use clap::Args;

/// Start containers again.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun start web\n  bosun start web worker\n  bosun stop db && bosun start --attach db\n\nAn ended container gets a new task with the same streams and log. One that runs is left as it is."
)]
pub struct Start {
    /// Containers.
    #[arg(required = true)]
    pub containers: Vec<String>,
    /// With our streams, and stay until it ends: the exit code is its; one container.
    #[arg(short, long)]
    pub attach: bool,
    /// With --attach: pass our standard input on.
    #[arg(short, long, requires = "attach")]
    pub interactive: bool,
}

/// Stop or restart containers.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun stop web\n  bosun stop --time 30 web worker\n  bosun restart -s QUIT web\n\nA restart policy takes a stop for your wish: `unless-stopped` stays down until `bosun start`, `always` until then or until the daemon starts again."
)]
pub struct Stop {
    /// Containers.
    #[arg(required = true)]
    pub containers: Vec<String>,
    /// Seconds until it is killed; 0: at once.
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10, alias = "timeout")]
    pub time: u32,
    /// First signal [default: the image's stop signal, else TERM].
    #[arg(short, long)]
    pub signal: Option<String>,
}

/// A restart policy.
#[derive(Args, Default)]
pub struct Restart {
    /// When it is started again: no, on-failure, on-failure:N (at most N times), always, unless-stopped.
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<RestartWhen>,
    /// At most N restarts within a time, such as 5/1m; one more, and it is given up [default: no limit].
    #[arg(long, value_name = "N/TIME", requires = "restart")]
    pub restart_intensity: Option<String>,
    /// Back-off: first pause and longest, doubled from restart to restart.
    #[arg(long, value_name = "FIRST..MOST", requires = "restart", default_value = "100ms..1m")]
    pub restart_backoff: String,
    /// A life this long was healthy: the back-off begins anew.
    #[arg(long, value_name = "TIME", requires = "restart", default_value = "10s")]
    pub restart_healthy: String,
}
