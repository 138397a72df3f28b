//! Garbage collection of very many objects while containers start: what a start takes with and without it, and what the collection takes.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::Serialize;

use super::measure::Samples;
use super::pull::await_bosund;
use crate::build::Binaries;
use crate::run;
use crate::world::{self, World};

/// The image's name.
const IMAGE: &str = "bench.local/busybox:latest";
/// One in so many objects is a snapshot, with a directory of its own; the others are blobs.
const SNAPSHOT_EVERY: u64 = 10;
/// Containers at most that are started meanwhile.
const STARTS_MAX: usize = 10_000;

/// What was measured.
#[derive(Default, Serialize)]
pub struct Figures {
    /// Objects that nothing referred to.
    pub objects: u64,
    /// Milliseconds of the collection.
    pub collection_ms: f64,
    /// What it said.
    pub said: String,
    /// Milliseconds from start to exit of a container, without a collection.
    pub starts_before_ms: Samples,
    /// The same, all that began while it ran.
    pub starts_during_ms: Samples,
}

/// Measures one collection.
pub fn figures(binaries: &Binaries, samples: usize, objects: u64) -> anyhow::Result<Figures> {
    let world = World::new("garbage")?;
    let archive = world.directory.join("busybox.tar");
    run::check(Command::new(&binaries.fixture).arg("archive").arg(&archive).args(["--reference", IMAGE]))?;
    run::say(&format!("making {objects} objects that nothing refers to"));
    let snapshots = objects / SNAPSHOT_EVERY;
    let mut seed = Command::new(&binaries.load);
    seed.arg("seed").arg(world.root("bosun"));
    seed.args(["--blobs", &(objects - snapshots).to_string(), "--snapshots", &snapshots.to_string()]);
    run::check(&mut seed)?;
    // Or the seed's dirty pages would be what the containers wait for.
    run::check(&mut Command::new("sync"))?;
    let _bosund = world::start_bosund(&world, binaries, "info", &["--no-automatic-gc"])?;
    await_bosund(&world, binaries)?;
    run::output(world::bosun(&world, binaries).args(["images", "import"]).arg(&archive))?;
    let start = || -> anyhow::Result<f64> {
        let begin = Instant::now();
        run::output(world::bosun(&world, binaries).args(["run", "--rm", IMAGE, "/bin/true"]))?;
        Ok(begin.elapsed().as_secs_f64() * 1e3)
    };
    run::say("containers started one after the other, without and with a collection");
    start()?;
    let starts_before_ms = (0..samples).map(|_| start()).collect::<anyhow::Result<Samples>>()?;
    let over = AtomicBool::new(false);
    let (collected, starts_during_ms) = std::thread::scope(|scope| {
        let collection = scope.spawn(|| {
            let begin = Instant::now();
            let said = run::output(world::bosun(&world, binaries).arg("gc"));
            over.store(true, Ordering::SeqCst);
            anyhow::Ok((begin.elapsed().as_secs_f64() * 1e3, String::from_utf8(said?)?))
        });
        let mut during = Samples::new();
        while !over.load(Ordering::SeqCst) && during.len() < STARTS_MAX {
            during.push(start()?);
        }
        let collected = collection.join().unwrap_or_else(|_| anyhow::bail!("the collection panicked"))?;
        anyhow::Ok((collected, during))
    })?;
    let (collection_ms, said) = collected;
    Ok(Figures { objects, collection_ms, said: said.trim().to_owned(), starts_before_ms, starts_during_ms })
}
