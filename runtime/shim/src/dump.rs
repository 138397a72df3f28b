//! `Dump`: a frozen container's processes are stored with CRIU (CKP-1, CKP-6, CKP-7), whatever OCI runtime made them.
//!
//! CRIU stores processes, memory and open files. What belongs to the outside, and is there again at a restore, it is told: the network
//! namespace, bind mounts, and the pipes of the standard streams. Which these were lies beside its image files in [`FACTS`].

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use bosun_types::Error;
use bosun_types::checkpoint::DumpOptions;
use bosun_types::shim::{DumpRequest, Response, file};
use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::criu::{self, Criu, NETWORK_KEY};
use crate::error::{Context as _, Result};
use crate::event_loop::{JobKind, Shim};
use crate::job::{Job, Outcome};
use crate::phase::{Input, Phase};
use crate::process::Waiter;

/// Ours, among CRIU's image files.
pub const FACTS: &str = "bosun.json";
/// CRIU's log, and what else it leaves, while it works.
const LOG: &str = "dump.log";
/// How CRIU names a file of the outside.
pub const OUTER_FILE: &str = "file[";
/// Of a directory that holds a container's memory.
const PRIVATE_MODE: u32 = 0o700;

/// Who waits for a dump under way.
#[derive(Debug, Default)]
pub struct Dumping {
    request: Option<DumpRequest>,
    waiters: Vec<Waiter>,
    /// Resumes that came meanwhile: CRIU must not lose its hold on the processes half way.
    resumers: Vec<Waiter>,
}

/// What a restore has to know of the dump beyond CRIU's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// What init's descriptors 0, 1 and 2 were, in CRIU's words when they are the outside's: a pipe, or an [`OUTER_FILE`].
    pub streams: Vec<String>,
    /// Mount points of what is bound from outside.
    pub mounts: Vec<String>,
    /// Whether the container had a network namespace of its own.
    pub network: bool,
    /// As the dump was asked for.
    pub options: DumpOptions,
}

impl Shim {
    /// `Dump`.
    pub fn dump(&mut self, waiter: Waiter, request: DumpRequest) {
        match self.begin_dump(&request) {
            Ok(()) => {
                self.dumping.request = Some(request);
                self.dumping.waiters.push(waiter);
            }
            Err(error) => self.reply(waiter, Err(error)),
        }
    }

    fn begin_dump(&mut self, request: &DumpRequest) -> Result<(), Error> {
        self.init.step(Input::Dump)?;
        match &self.dumping.request {
            Some(other) if other == request => return Ok(()),
            Some(_) => return Err(Error::unavailable("another checkpoint is being made")),
            None => {}
        }
        let live = |phase: Phase| matches!(phase, Phase::Starting | Phase::Running | Phase::Ending { .. });
        if let Some((id, _)) = self.execs.iter().find(|(_, it)| live(it.phase)) {
            // It is no child of init: it would be lost without a word.
            return Err(Error::failed_precondition(format!(
                "exec {id} runs, and cannot be part of a checkpoint"
            ))
            .with_hint("let it end, or kill it, first"));
        }
        let pid = self.init.live_pid().ok_or_else(|| Error::internal("a paused container without init"))?;
        let cgroup = self.container.as_ref().map(|it| it.cgroup.clone()).unwrap_or_default();
        let job = Job::spawn(&self.job_context, &[], || dump(request, pid, &cgroup))?;
        self.jobs.push((job, JobKind::Dump));
        Ok(())
    }

    /// The job has ended.
    pub fn finish_dump(&mut self, result: Result<Outcome, Error>) {
        let Dumping { waiters, resumers, .. } = std::mem::take(&mut self.dumping);
        if let Err(error) = &result {
            crate::complain(&format!("dump: {error}"));
        }
        self.reply_all(waiters, &result.map(|_| Response::Done));
        for waiter in resumers {
            let answer = self.freeze(Input::Resume);
            self.reply(waiter, answer);
        }
    }

    /// `Resume`: after a dump that is under way.
    pub fn resume(&mut self, waiter: Waiter) {
        if self.dumping.request.is_some() {
            return self.dumping.resumers.push(waiter);
        }
        let answer = self.freeze(Input::Resume);
        self.reply(waiter, answer);
    }
}

/// In the child.
fn dump(request: &DumpRequest, pid: i32, cgroup: &Cgroup) -> Result<Outcome> {
    let directory = Path::new(&request.directory);
    let (images, work) = (directory.join("images"), directory.join("work"));
    for path in [&images, &work] {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context(|| format!("empty {}", path.display()));
            }
            _ => {}
        }
        let made = fs::DirBuilder::new().recursive(true).mode(PRIVATE_MODE).create(path);
        made.context(|| format!("make {}", path.display()))?;
    }
    let spec = crate::oci::load_init_spec()?;
    let facts = Facts::of(pid, &spec, &request.options)?;
    let json = serde_json::to_vec(&facts).map_err(|error| Error::internal(format!("{FACTS}: {error}")))?;
    fs::write(images.join(FACTS), json).context(|| format!("write {FACTS}"))?;
    let mut options = criu::options(&request.options);
    criu::set_cgroups_mode(&mut options, request.options.cgroups_mode.as_deref());
    options.external = facts.mounts.iter().map(|path| format!("mnt[{path}]:{path}")).collect();
    options.external.extend(facts.streams.iter().filter(|key| key.starts_with(OUTER_FILE)).cloned());
    if facts.has_outer_network() {
        let path = format!("/proc/{pid}/ns/net");
        let inode = fs::metadata(&path).context(|| format!("look at {path}"))?.ino();
        options.external.push(format!("net[{inode}]:{NETWORK_KEY}"));
    }
    if let Some(path) = cgroup.v1("freezer").or_else(|| cgroup.v2()) {
        // It is frozen, and CRIU leaves it so.
        options.set_freeze_cgroup(path.to_string_lossy().into_owned());
    }
    let criu = Criu { program: &request.criu, images: &images, work: &work, log: LOG };
    criu.dump(pid, options).map_err(|error| keep_log(&work.join(LOG), file::DUMP_LOG, error.into()))?;
    let _ = fs::remove_dir_all(&work);
    Ok(Outcome::Done)
}

/// CKP-7: CRIU's log of a failure goes to the task's directory, where it is looked for; the error says so.
pub fn keep_log(log: &Path, name: &str, error: Error) -> crate::error::ShimError {
    if error.hint.is_some() || fs::copy(log, name).is_err() {
        return error.into();
    }
    let kept = std::path::absolute(name).unwrap_or_else(|_| name.into());
    error.with_hint(format!("CRIU's whole log is {}", kept.display())).into()
}

impl Facts {
    fn of(pid: i32, spec: &Spec, options: &DumpOptions) -> Result<Self> {
        let path = format!("/proc/{pid}/mountinfo");
        let mounts = fs::read_to_string(&path).context(|| format!("read {path}"))?;
        Ok(Self {
            streams: [0, 1, 2].map(|fd| stream(pid, fd, &mounts)).to_vec(),
            mounts: binds(spec).map(|it| mount_point(it.destination())).collect(),
            network: has_network(spec),
            options: options.clone(),
        })
    }

    /// From the directory of a dump.
    pub fn read(images: &Path) -> Result<Self> {
        let bytes = fs::read(images.join(FACTS)).map_err(|error| {
            Error::invalid_argument(format!("the checkpoint has no {FACTS}: {error}"))
                .with_hint("only checkpoints that bosun made can be restored")
        })?;
        crate::oci::parse(&bytes, FACTS)
    }

    /// Whether the network namespace is one that we make and hand over.
    pub fn has_outer_network(&self) -> bool {
        self.network && self.options.empty_namespaces.is_empty()
    }
}

/// A pipe as `pipe:[inode]`; a file that no mount of the container has (a named pipe in the task's directory) as `file[mount:inode]`.
fn stream(pid: i32, fd: i32, mounts: &str) -> String {
    let link = format!("/proc/{pid}/fd/{fd}");
    let target = fs::read_link(&link).map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse::<u32>().ok());
    let is_inside =
        |mount: u32| mounts.lines().any(|line| line.split(' ').next() == Some(&mount.to_string()));
    match (mount, fs::metadata(&link)) {
        (Some(mount), Ok(found)) if target.starts_with('/') && !is_inside(mount) => {
            format!("{OUTER_FILE}{mount:x}:{:x}]", found.ino())
        }
        _ => target,
    }
}

/// What is bound into the container from outside.
pub fn binds(spec: &Spec) -> impl Iterator<Item = &Mount> {
    let is_bind = |mount: &&Mount| {
        let words = mount.options().as_deref().unwrap_or_default();
        mount.typ().as_deref() == Some("bind") || words.iter().any(|word| word == "bind" || word == "rbind")
    };
    spec.mounts().as_deref().unwrap_or_default().iter().filter(is_bind)
}

/// As the kernel shows it: no slash at its end.
pub fn mount_point(path: &Path) -> String {
    let text = path.to_string_lossy();
    format!("/{}", text.trim_matches('/'))
}

fn has_network(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.is_some_and(|list| list.iter().any(|it| it.typ() == LinuxNamespaceType::Network))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bound_from_outside_and_the_network_are_read_off_the_spec() {
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/data/", "type": "bind", "source": "/srv/data"},
                {"destination": "/etc/hosts", "type": "none", "source": "/srv/hosts", "options": ["rbind", "ro"]}
            ],
            "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}]}
        }))
        .unwrap();
        let points: Vec<String> = binds(&spec).map(|it| mount_point(it.destination())).collect();
        assert_eq!(points, ["/data", "/etc/hosts"]);
        assert!(has_network(&spec));
    }

    #[test]
    fn ckp_6_a_network_that_is_left_empty_is_made_by_criu() {
        let mut facts =
            Facts { streams: vec![], mounts: vec![], network: true, options: DumpOptions::default() };
        assert!(facts.has_outer_network());
        facts.options.empty_namespaces.push("network".into());
        assert!(!facts.has_outer_network());
    }
}
