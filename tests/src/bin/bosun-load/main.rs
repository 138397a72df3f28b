//! `bosun-load`: what the bench needs beside whole commands. Two things: metadata operations at a rate, through a long-lived client of each daemon, so
//! that what is measured is the daemon and not the start of a process; and a root with as many objects as one likes, for the collector.

mod containerd;
mod ours;
mod seed;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum};
use futures::future::{BoxFuture, try_join_all};

/// Loads daemons, for the bench.
#[derive(Parser)]
#[command(name = "bosun-load")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set labels as fast as the daemon takes it, each change durable before the next of the same client; prints operations per second.
    Rate {
        /// Whose daemon.
        #[arg(long)]
        daemon: Daemon,
        /// Its socket.
        #[arg(long)]
        address: PathBuf,
        /// Labels of what.
        #[arg(long)]
        record: Record,
        /// Clients, each with a connection and a record of its own.
        #[arg(long, default_value_t = 1)]
        clients: usize,
        /// For how long.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
    /// Put blobs and snapshots that nothing refers to into the root of a daemon that does not run.
    Seed {
        /// The daemon's root.
        root: PathBuf,
        /// Blobs.
        #[arg(long)]
        blobs: u64,
        /// Snapshots of overlayfs.
        #[arg(long)]
        snapshots: u64,
    },
}

/// A daemon that answers.
#[derive(Clone, Copy, ValueEnum)]
enum Daemon {
    /// Ours.
    Bosun,
    /// The peer.
    Containerd,
}

/// What is changed.
#[derive(Clone, Copy, ValueEnum)]
enum Record {
    /// The label of an image.
    Image,
    /// The label of a container.
    Container,
}

/// One client with its record.
trait Labeller: Send {
    /// Makes its record.
    fn prepare(&mut self) -> BoxFuture<'_, anyhow::Result<()>>;
    /// Gives its label this value; durable when it returns.
    fn label(&mut self, value: String) -> BoxFuture<'_, anyhow::Result<()>>;
    /// Removes its record.
    fn clear(&mut self) -> BoxFuture<'_, anyhow::Result<()>>;
}

/// The label that is set.
const LABEL: &str = "bench.local/turn";

/// Operations per second of all clients together.
async fn rate(mut clients: Vec<Box<dyn Labeller>>, length: Duration) -> anyhow::Result<f64> {
    for client in &mut clients {
        client.prepare().await?;
        client.label("first".to_owned()).await?;
    }
    let begin = Instant::now();
    let counts = try_join_all(clients.into_iter().map(|mut client| {
        // A task each: no client waits for another's turn.
        let work = tokio::spawn(async move {
            let mut count = 0_u32;
            while begin.elapsed() < length {
                client.label(count.to_string()).await?;
                count += 1;
            }
            anyhow::Ok((client, count))
        });
        async move { work.await? }
    }))
    .await?;
    let elapsed = begin.elapsed().as_secs_f64();
    let total: u32 = counts.iter().map(|(_, count)| count).sum();
    for (mut client, _) in counts {
        client.clear().await?;
    }
    Ok(f64::from(total) / elapsed)
}

async fn connect(
    daemon: Daemon,
    address: &std::path::Path,
    record: Record,
    number: usize,
) -> anyhow::Result<Box<dyn Labeller>> {
    let id = format!("load-{number}");
    Ok(match (daemon, record) {
        (Daemon::Bosun, Record::Image) => Box::new(ours::Image::connect(address, &id).await?),
        (Daemon::Bosun, Record::Container) => Box::new(ours::Container::connect(address, &id).await?),
        (Daemon::Containerd, Record::Image) => Box::new(containerd::Image::connect(address, &id).await?),
        (Daemon::Containerd, Record::Container) => {
            Box::new(containerd::Container::connect(address, &id).await?)
        }
    })
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the figure is the command's output")]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Rate { daemon, address, record, clients, seconds } => {
            let numbers = 0..clients;
            let clients =
                try_join_all(numbers.map(|number| connect(daemon, &address, record, number))).await?;
            println!("{}", rate(clients, Duration::from_secs_f64(seconds)).await?);
            Ok(())
        }
        Command::Seed { root, blobs, snapshots } => seed::seed(&root, blobs, snapshots).await,
    }
}
