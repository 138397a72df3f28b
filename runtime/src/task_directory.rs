//! The directory of one task, `<state>/tasks/<nonce>` (0700): what the shim needs and what it leaves for recovery. A container with users
//! of its own is made by its own root, so that one may pass through (0710).

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bosun_types::shim::codec::{RECORD_BYTES_MAX, decode_record, encode_frame, encode_record};
use bosun_types::shim::{Adoption, ExitNotice, ShimBeacon, file};
use bosun_types::{ContainerId, Error, ExecId, NamespaceName};

use crate::error::{Context as _, Result};

/// Folder of all task directories below the state directory.
pub const TASKS: &str = "tasks";
/// Bytes of randomness in a nonce.
const NONCE_BYTES: usize = 16;
/// Longest owner file in bytes.
const OWNER_BYTES_MAX: u64 = 1024;

/// Random hex for a new task.
pub fn new_nonce() -> Result<String> {
    let mut bytes = [0u8; NONCE_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| Error::internal(format!("no randomness: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether a name is a nonce as [`new_nonce`] makes them; all others are refused before they become paths.
pub fn is_nonce(text: &str) -> bool {
    text.len() == 2 * NONCE_BYTES && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskDirectory {
    path: PathBuf,
    nonce: String,
}

impl TaskDirectory {
    /// The directory of a nonce, whether it exists or not.
    pub fn of(state: &Path, nonce: &str) -> Result<Self> {
        if !is_nonce(nonce) {
            return Err(Error::invalid_argument(format!("{nonce:?} is no task nonce")).into());
        }
        Ok(Self { path: state.join(TASKS).join(nonce), nonce: nonce.to_owned() })
    }

    /// Makes it with its owner, OCI spec and compiled seccomp filter; again: the same. Modes are repaired, never widened (I12).
    pub fn ensure(
        state: &Path,
        nonce: &str,
        owner: (&NamespaceName, &ContainerId),
        spec: &[u8],
        filter: Option<&[u8]>,
    ) -> Result<Self> {
        let directory = Self::of(state, nonce)?;
        let tasks = state.join(TASKS);
        // Names in it are random, and what they name is private.
        ensure_directory(&tasks, 0o711)?;
        ensure_private(&directory.path)?;
        let owner = format!("{}/{}", owner.0, owner.1);
        directory.write(file::OWNER, owner.as_bytes())?;
        // First: a spec whose filter was taken out is never there without it.
        if let Some(filter) = filter {
            directory.write(file::SECCOMP, filter)?;
        }
        directory.write(file::CONFIG, spec)?;
        Ok(directory)
    }

    /// Lets a group pass through, to the container's root: its own root needs that (CVE-2021-41103: nobody else). Again: the same.
    pub fn let_pass(&self, gid: u32) -> Result<()> {
        let what = || format!("let group {gid} pass through {}", self.path.display());
        std::os::unix::fs::chown(&self.path, None, Some(gid)).context(what)?;
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o710)).context(what)
    }

    /// Removes it. Not there: success. The root file system's mount point is only ever taken by `rmdir` (MNT-5): should
    /// something be mounted there after all, its content is safe.
    pub fn ensure_not(&self) -> Result<()> {
        let what = || format!("remove task directory {}", self.path.display());
        match fs::remove_dir(self.path.join(file::ROOTFS)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).context(what),
            _ => {}
        }
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context(what),
            _ => Ok(()),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The task's nonce.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Whether the container's seccomp filter is a compiled one beside the spec.
    pub fn has_filter(&self) -> bool {
        self.path.join(file::SECCOMP).exists()
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Whose task it is, as written when it was made.
    pub fn owner(&self) -> Result<Option<(NamespaceName, ContainerId)>> {
        let Some(bytes) = self.read(file::OWNER, OWNER_BYTES_MAX)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let parsed = text.split_once('/').and_then(|(namespace, container)| {
            Some((NamespaceName::new(namespace).ok()?, ContainerId::new(container).ok()?))
        });
        Ok(parsed)
    }

    /// The shim's beacon; `None` when it has not written one. One of another nonce is no beacon of this task.
    pub fn beacon(&self) -> Result<Option<ShimBeacon>> {
        let beacon: Option<ShimBeacon> = self.record(file::BEACON)?;
        match beacon {
            Some(beacon) if beacon.nonce != self.nonce => Err(Error::data_loss(format!(
                "the beacon in {} is of another task, {:?}",
                self.path.display(),
                beacon.nonce
            ))
            .into()),
            other => Ok(other),
        }
    }

    /// Writes what the next shim is to take over.
    pub fn write_adoption(&self, adoption: &Adoption) -> Result<()> {
        self.write(file::ADOPTION, &encode_frame(adoption)?)
    }

    /// All exits recorded and not acknowledged yet, init's first. A damaged record is logged and left out: it is in doubt.
    pub fn exit_records(&self) -> Result<Vec<ExitNotice>> {
        let mut records: Vec<ExitNotice> = Vec::new();
        for name in self.names()? {
            let is_record = name == file::EXIT_INIT
                || (name.starts_with(file::EXIT_EXEC_PREFIX) && name.ends_with(EXIT_SUFFIX));
            if !is_record {
                continue;
            }
            match self.record(&name) {
                Ok(record) => records.extend(record),
                Err(error) => {
                    tracing::warn!(directory = %self.path.display(), name, %error, "an exit record is damaged");
                }
            }
        }
        records.sort_by(|a, b| a.exec.as_ref().map(ExecId::as_str).cmp(&b.exec.as_ref().map(ExecId::as_str)));
        Ok(records)
    }

    /// Writes an exit record as the shim would have; an existing one stays: the first word on an exit is the last (I4).
    pub fn ensure_exit_record(&self, notice: &ExitNotice) -> Result<ExitNotice> {
        let name = exit_name(notice.exec.as_ref());
        if let Some(existing) = self.record(&name).ok().flatten() {
            return Ok(existing);
        }
        self.write(&name, &encode_record(notice)?)?;
        Ok(notice.clone())
    }

    /// Forgets an exit whose commit is durable. Not there: success.
    pub fn ensure_no_exit_record(&self, exec: Option<&ExecId>) -> Result<()> {
        let path = self.path.join(exit_name(exec));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// The end of the shim's own log, for an error message; empty when there is none.
    pub fn shim_log_tail(&self, bytes_max: usize) -> String {
        let bytes = fs::read(self.path.join(file::SHIM_LOG)).unwrap_or_default();
        let tail = &bytes[bytes.len().saturating_sub(bytes_max)..];
        String::from_utf8_lossy(tail).trim().to_owned()
    }

    /// Every task directory below `state`, by nonce. What is no nonce is none and left alone.
    pub fn list(state: &Path) -> Result<Vec<Self>> {
        let tasks = state.join(TASKS);
        let mut directories = Vec::new();
        for name in names_in(&tasks)? {
            if is_nonce(&name) {
                directories.push(Self { path: tasks.join(&name), nonce: name });
            }
        }
        directories.sort_by(|a, b| a.nonce.cmp(&b.nonce));
        Ok(directories)
    }

    fn names(&self) -> Result<Vec<String>> {
        names_in(&self.path)
    }

    fn record<T: bincode::Decode<()>>(&self, name: &str) -> Result<Option<T>> {
        match self.read(name, RECORD_BYTES_MAX as u64)? {
            Some(bytes) => decode_record(&bytes)
                .map(Some)
                .map_err(|error| error.context(self.path.join(name).display()).into()),
            None => Ok(None),
        }
    }

    fn read(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(name);
        let what = || format!("read {}", path.display());
        let opened = match File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.context(what)?,
        };
        let mut bytes = Vec::new();
        opened.take(bytes_max + 1).read_to_end(&mut bytes).context(what)?;
        if bytes.len() as u64 > bytes_max {
            return Err(
                Error::data_loss(format!("{} is longer than {bytes_max} bytes", path.display())).into()
            );
        }
        Ok(Some(bytes))
    }

    /// Write, fsync, rename: a reader sees all of it or nothing.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        let part = self.path.join(format!("{name}.part"));
        let what = || format!("write {}", path.display());
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&part)
            .context(what)?;
        file.write_all(bytes).context(what)?;
        file.sync_all().context(what)?;
        fs::rename(&part, &path).context(what)
    }
}

/// End of the names of record files.
const EXIT_SUFFIX: &str = ".rec";

fn exit_name(exec: Option<&ExecId>) -> String {
    exec.map_or_else(
        || file::EXIT_INIT.to_owned(),
        |id| format!("{}{id}{EXIT_SUFFIX}", file::EXIT_EXEC_PREFIX),
    )
}

/// A directory of mode 0700 that is none of anybody else's making (P5).
pub(crate) fn ensure_private(path: &Path) -> Result<()> {
    ensure_directory(path, 0o700)
}

/// A directory of exactly this mode.
fn ensure_directory(path: &Path, wanted: u32) -> Result<()> {
    let what = || format!("make {}", path.display());
    DirBuilder::new().recursive(true).mode(wanted).create(path).context(what)?;
    let mode = fs::symlink_metadata(path).context(what)?;
    if !mode.is_dir() {
        return Err(Error::failed_precondition(format!("{} is no directory", path.display())).into());
    }
    if mode.permissions().mode() & 0o7777 != wanted {
        fs::set_permissions(path, fs::Permissions::from_mode(wanted)).context(what)?;
    }
    Ok(())
}

fn names_in(directory: &Path) -> Result<Vec<String>> {
    let what = || format!("list {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context(what)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.context(what)?.file_name();
        names.extend(OsStr::to_str(&name).map(str::to_owned));
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
