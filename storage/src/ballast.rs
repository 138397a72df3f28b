//! A file that holds space back for the day the disk is full: it is given up then, so that what is under way can finish and things
//! can be deleted. While it is gone nothing that needs more space is begun ([`crate::batch::Batch::grows`]).

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};

/// Its size: some four flushes of the database.
pub const BALLAST_BYTES: i64 = 16 << 20;
/// It is laid down only where this many times its size is free: never the cause of a full disk.
const FREE_FACTOR: u64 = 4;
/// How often it is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// The file beside the database.
#[derive(Debug)]
pub(crate) struct Ballast {
    path: PathBuf,
    tried: Option<Instant>,
    /// It was given up and is not back.
    released: bool,
}

impl Ballast {
    /// Lays it down when there is room; a small disk goes without.
    pub(crate) fn new(root: &Path) -> Self {
        let path = root.join("db.ballast");
        let mut ballast = Self { path, tried: None, released: false };
        ballast.restore();
        ballast
    }

    /// Gives its space up; true when there was any.
    pub(crate) fn release(&mut self) -> bool {
        self.released = true;
        self.tried = Some(Instant::now());
        let removed = std::fs::remove_file(&self.path).is_ok();
        if removed {
            tracing::error!(
                "the disk is full: reserve given up, nothing that needs space is begun until there is some"
            );
        }
        removed
    }

    /// Whether space is short. Looks again, now and then.
    pub(crate) fn low(&mut self) -> bool {
        if self.released && self.tried.is_none_or(|tried| tried.elapsed() > RETRY_EVERY) {
            self.restore();
        }
        self.released
    }

    fn restore(&mut self) {
        self.tried = Some(Instant::now());
        match self.lay_down() {
            Ok(true) => self.released = false,
            Ok(false) => {}
            Err(error) => {
                let _ = std::fs::remove_file(&self.path);
                tracing::debug!(%error, "no reserve of disk space");
            }
        }
    }

    fn lay_down(&self) -> std::io::Result<bool> {
        if std::fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() == BALLAST_BYTES.unsigned_abs())
        {
            return Ok(true);
        }
        let root = self.path.parent().unwrap_or(Path::new("/"));
        let free = nix::sys::statvfs::statvfs(root)?;
        if free.blocks_available() * free.fragment_size() < BALLAST_BYTES.unsigned_abs() * FREE_FACTOR {
            return Ok(false);
        }
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&self.path)?;
        fallocate(&file, FallocateFlags::empty(), 0, BALLAST_BYTES)?;
        Ok(true)
    }
}
