//! One daemon a root: an flock that names its holder, and goes with the process.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use crate::error::{Result, StoreError};

/// Longest name of a holder that is shown.
const HOLDER_BYTES_MAX: u64 = 128;

/// A pid says nothing without the boot that it is of: the file outlives both.
fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Held as long as it lives.
#[derive(Debug)]
pub struct RootLock {
    _file: Flock<File>,
}

impl RootLock {
    /// Locks `<root>/lock` at once, or says who holds it (SYS-16, F33).
    pub fn acquire(root: &Path) -> Result<Self> {
        let path = root.join("lock");
        let mut options = std::fs::OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let file = options.open(&path).map_err(|error| StoreError::file("cannot open", &path, &error))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let write = |file: &mut File| -> std::io::Result<()> {
                    file.set_len(0)?;
                    file.rewind()?;
                    write!(file, "pid {} (boot {})", std::process::id(), boot_id())
                };
                write(&mut file).map_err(|error| StoreError::file("cannot write", &path, &error))?;
                Ok(Self { _file: file })
            }
            Err((mut file, _)) => {
                let mut holder = String::new();
                let _ = std::io::Read::by_ref(&mut file).take(HOLDER_BYTES_MAX).read_to_string(&mut holder);
                let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
                Err(StoreError::Locked { root: root.to_path_buf(), holder })
            }
        }
    }
}
