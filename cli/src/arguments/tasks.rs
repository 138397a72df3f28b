//! The words of `bosun tasks`: what runs of containers, noun first.

use clap::{Args, Subcommand};

use super::{Attach, Checkpoint, Exec, Filter, Kill, Names, Streams};

/// Tasks, noun first.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun tasks\n  bosun tasks ls -q\n  bosun stop web && bosun tasks start -d web\n  bosun tasks exec web ls /\n  bosun tasks attach --no-stdin web\n  bosun tasks ps web\n  bosun tasks metrics web\n  bosun tasks pause web\n  bosun tasks resume web\n  bosun tasks kill -s HUP web\n  bosun tasks checkpoint web\n  bosun tasks rm -f web || echo \"it ended with $?\"\n\nA task is the running part of a container: its first process and the execs. The everyday words do the same: ps, start, exec, attach, top, stats,\npause, resume, kill, checkpoint. Removing one leaves the container, which `bosun start` runs again."
)]
pub struct Tasks {
    /// What to do [default: ls].
    #[command(subcommand)]
    pub command: Option<TasksCommand>,
    /// Print names only.
    #[arg(short, long)]
    pub quiet: bool,
    /// Which.
    #[command(flatten)]
    pub filter: Filter,
}

/// What to do with tasks.
#[derive(Subcommand)]
pub enum TasksCommand {
    /// List tasks.
    #[command(alias = "list", after_help = "FILTER FIELDS: container, status, pid")]
    Ls {
        /// Print names only.
        #[arg(short, long)]
        quiet: bool,
        /// Which.
        #[command(flatten)]
        filter: Filter,
    },
    /// Start a container with our streams, and stay until it ends.
    Start(StartTask),
    /// Take part in a task: its output, and its input if it was made with --interactive.
    Attach(Attach),
    /// Run a further command in a running task.
    Exec(Exec),
    /// Send a signal.
    Kill(Kill),
    /// Freeze every process.
    Pause(Names),
    /// Let them go on.
    Resume(Names),
    /// List the processes.
    #[command(alias = "top")]
    Ps(Names),
    /// Show everything that the cgroups count.
    #[command(alias = "metric")]
    Metrics(Names),
    /// Store a task as an image, its processes included.
    Checkpoint(Checkpoint),
    /// Remove ended tasks; their containers stay. The exit code is that of the last.
    #[command(aliases = ["delete", "del", "remove"])]
    Rm {
        /// Containers.
        #[arg(required = true)]
        containers: Vec<String>,
        /// Kill first what runs.
        #[arg(short, long)]
        force: bool,
        /// Only this exec of the task.
        #[arg(long)]
        exec_id: Option<String>,
    },
}

/// A task to start.
#[derive(Args)]
pub struct StartTask {
    /// The container.
    pub container: String,
    /// Start it and return; output goes to the log.
    #[arg(short, long)]
    pub detach: bool,
    #[command(flatten)]
    pub streams: Streams,
}
