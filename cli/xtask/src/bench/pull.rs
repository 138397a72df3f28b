//! Cold pull and unpack of large images from a loopback registry: each time a fresh daemon on a new file system, so that nothing is there. The clock stops when
//! the bytes are durable: after the command the root's file system is synced, for both, since containerd does not sync what it unpacks.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Context as _;

use super::contestants::{Name, peak_kilobytes, start_containerd_at};
use super::disk::Disk;
use super::measure::{Figure, Samples};
use crate::build::Binaries;
use crate::run;
use crate::world::{self, Server, World};

/// Pulls of one image at a time, for the figure of many.
const CONCURRENT: usize = 10;

/// What was measured.
#[derive(Default)]
pub struct Figures {
    /// Milliseconds by figure.
    pub times: Vec<Figure>,
    /// Largest resident kilobytes of each daemon.
    pub peaks: Vec<(Name, u64)>,
    /// Ten pulls of one image at once against one, by their medians.
    pub ten_to_one: Vec<(Name, f64)>,
}

/// The registry with its images.
struct Shop<'a> {
    world: World,
    binaries: &'a Binaries,
    _registry: Server,
    host: String,
}

/// Measures all images with both.
pub fn figures(binaries: &Binaries, samples: usize) -> anyhow::Result<Figures> {
    let world = World::new("pull")?;
    let (registry, host) = world::start_registry(&world)?;
    let shop = Shop { world, binaries, _registry: registry, host };
    run::say("making large images of this machine's own files");
    shop.make("even", &[])?;
    shop.make("dominant", &["--dominant"])?;
    let mut figures = Figures::default();
    let mut peaks = [(Name::Bosun, 0), (Name::Containerd, 0)];
    let mut ones = Vec::new();
    for image in ["even-gzip", "even-zstd", "dominant-gzip", "dominant-zstd"] {
        run::say(&format!("cold pull of {image}"));
        let times = shop.interleaved(image, 1, samples, &mut peaks)?;
        if image == "even-gzip" {
            ones.clone_from(&times);
        }
        figures.times.push((format!("cold_pull_{image}_ms").replace('-', "_"), times));
    }
    run::say(&format!("{CONCURRENT} pulls of one image at once"));
    let tens = shop.interleaved("even-gzip", CONCURRENT, samples, &mut peaks)?;
    figures.ten_to_one = ones
        .iter()
        .zip(&tens)
        .map(|((name, one), (_, ten))| (*name, super::report::median(ten) / super::report::median(one)))
        .collect();
    figures.times.push((format!("cold_pull_even_gzip_{CONCURRENT}_at_once_ms"), tens));
    figures.peaks = peaks.to_vec();
    Ok(figures)
}

impl Shop<'_> {
    fn reference(&self, image: &str) -> String {
        format!("{}/bench/big:{image}", self.host)
    }

    fn make(&self, image: &str, words: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(&self.binaries.fixture);
        run::check(command.arg("big").arg(self.reference(image)).args(words))
    }

    fn interleaved(
        &self,
        image: &str,
        at_once: usize,
        samples: usize,
        peaks: &mut [(Name, u64); 2],
    ) -> anyhow::Result<Vec<(Name, Samples)>> {
        let mut times = vec![(Name::Bosun, Vec::new()), (Name::Containerd, Vec::new())];
        for _ in 0..samples {
            for ((name, times), (_, peak)) in times.iter_mut().zip(peaks.iter_mut()) {
                let (elapsed, kilobytes) = self.cold(*name, image, at_once)?;
                times.push(elapsed);
                *peak = (*peak).max(kilobytes);
            }
        }
        Ok(times)
    }

    /// One cold pull: milliseconds, and the daemon's largest resident kilobytes.
    fn cold(&self, name: Name, image: &str, at_once: usize) -> anyhow::Result<(f64, u64)> {
        let (root, state) = (self.world.root("bosun"), self.world.state("bosun"));
        let disk = Disk::mount(&root)?;
        let (server, pull) = match name {
            Name::Bosun => self.bosund(image)?,
            _ => self.containerd(&root, &state, image)?,
        };
        run::check(&mut Command::new("sync"))?;
        let begin = Instant::now();
        std::thread::scope(|scope| {
            let pulls: Vec<_> = (0..at_once).map(|_| scope.spawn(|| run::output(&mut pull()))).collect();
            pulls.into_iter().try_for_each(|pull| {
                pull.join().unwrap_or_else(|_| anyhow::bail!("a pull panicked")).map(drop)
            })
        })?;
        run::check(Command::new("sync").arg("--file-system").arg(&root))?;
        let elapsed = begin.elapsed().as_secs_f64() * 1e3;
        let peak = peak_kilobytes(server.pid())?;
        drop(server);
        drop(disk);
        std::fs::remove_dir_all(&state).with_context(|| format!("cannot remove {}", state.display()))?;
        Ok((elapsed, peak))
    }

    fn bosund(&self, image: &str) -> anyhow::Result<(Server, Pull<'_>)> {
        let server = world::start_bosund(&self.world, self.binaries, "info", &[])?;
        let reference = self.reference(image);
        await_bosund(&self.world, self.binaries)?;
        let pull = move || {
            let mut command = world::bosun(&self.world, self.binaries);
            command.args(["pull", "--quiet", &reference]);
            command
        };
        Ok((server, Box::new(pull)))
    }

    fn containerd(&self, root: &Path, state: &Path, image: &str) -> anyhow::Result<(Server, Pull<'_>)> {
        let server = start_containerd_at(&self.world.directory, root, state)?;
        let (socket, reference) = (state.join("containerd.sock"), self.reference(image));
        await_containerd(&socket)?;
        let pull = move || {
            let mut command = Command::new("ctr");
            command.arg("--address").arg(&socket).args(["image", "pull", "--plain-http", &reference]);
            command
        };
        Ok((server, Box::new(pull)))
    }
}

/// Until it answers.
pub(super) fn await_bosund(world: &World, binaries: &Binaries) -> anyhow::Result<()> {
    world::wait_until("bosund", || {
        let status = world::bosun(world, binaries).args(["daemon", "status"]).output();
        status.is_ok_and(|output| output.status.success())
    })?;
    Ok(())
}

/// Until it answers.
pub(super) fn await_containerd(socket: &Path) -> anyhow::Result<()> {
    world::wait_until("containerd", || {
        let version = Command::new("ctr").arg("--address").arg(socket).arg("version").output();
        version.is_ok_and(|output| output.status.success())
    })?;
    Ok(())
}

/// Makes the command that pulls.
type Pull<'a> = Box<dyn Fn() -> Command + Sync + 'a>;
