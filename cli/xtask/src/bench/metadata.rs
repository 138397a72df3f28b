//! Durable metadata operations: labels set on records of each daemon through a long-lived client, one at a time and 64 at once. Both daemons keep their
//! databases on the same disk and sync each change before they answer it; neither starts a process for it.

use std::path::PathBuf;
use std::process::Command;

use super::contestants::{Name, start_containerd_at};
use super::measure::{Figure, Samples};
use super::pull::{await_bosund, await_containerd};
use crate::build::Binaries;
use crate::run;
use crate::world::{self, World};

/// Clients at once.
const CLIENTS: [usize; 2] = [1, 64];
/// Which records.
const RECORDS: [&str; 2] = ["image", "container"];

/// Operations per second by figure.
pub fn figures(binaries: &Binaries, samples: usize, seconds: f64) -> anyhow::Result<Vec<Figure>> {
    let world = World::new("metadata")?;
    let _bosund = world::start_bosund(&world, binaries, "info", &[])?;
    let state = world.state("containerd");
    let _containerd = start_containerd_at(&world.directory, &world.root("containerd"), &state)?;
    await_bosund(&world, binaries)?;
    let peer = state.join("containerd.sock");
    await_containerd(&peer)?;
    let sockets = [(Name::Bosun, world.state("bosun").join("bosun.sock")), (Name::Containerd, peer)];
    let mut figures = Vec::new();
    for record in RECORDS {
        for clients in CLIENTS {
            run::say(&format!("labels of {record}s, {clients} at once"));
            let rates = rates(binaries, &sockets, record, clients, samples, seconds)?;
            figures.push((format!("label_{record}_{clients}_at_once_per_second"), rates));
        }
    }
    Ok(figures)
}

fn rates(
    binaries: &Binaries,
    sockets: &[(Name, PathBuf)],
    record: &str,
    clients: usize,
    samples: usize,
    seconds: f64,
) -> anyhow::Result<Vec<(Name, Samples)>> {
    let mut all: Vec<(Name, Samples)> = sockets.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for _ in 0..samples {
        for ((name, socket), (_, samples)) in sockets.iter().zip(&mut all) {
            let daemon = if *name == Name::Bosun { "bosun" } else { "containerd" };
            let mut command = Command::new(&binaries.load);
            command.args(["rate", "--daemon", daemon, "--record", record]);
            command.args(["--clients", &clients.to_string(), "--seconds", &seconds.to_string()]);
            command.arg("--address").arg(socket);
            samples.push(String::from_utf8(run::output(&mut command)?)?.trim().parse()?);
        }
    }
    Ok(all)
}
