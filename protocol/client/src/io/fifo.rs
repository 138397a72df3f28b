//! A set of FIFOs in a directory of its own.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bosun_types::error::class_of_io;
use bosun_types::stdio::Stdio;
use bosun_types::{Error, Result};
use nix::sys::stat::Mode;

/// Where the sets are made unless told otherwise.
pub const DEFAULT_DIRECTORY: &str = "/run/bosun/fifo";

/// How often another name is tried when one is taken: left by a client of the same pid that was killed.
const NAME_TRIES_MAX: u32 = 64;

/// Which streams a process gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error; never with a terminal, which has one output (IO-6).
    pub stderr: bool,
    /// A terminal.
    pub terminal: bool,
}

impl Ends {
    /// Output and errors, no input.
    pub const fn output() -> Self {
        Self { stdin: false, stdout: true, stderr: true, terminal: false }
    }

    /// All three.
    pub const fn streams() -> Self {
        Self { stdin: true, ..Self::output() }
    }

    /// A terminal: input and one output.
    pub const fn terminal() -> Self {
        Self { stdin: true, stdout: true, stderr: false, terminal: true }
    }
}

/// FIFOs of one process, in a fresh directory of mode 0700 that goes when this is dropped.
#[derive(Debug)]
pub struct Fifos {
    directory: PathBuf,
    ends: Ends,
}

/// Numbers the sets of one process.
static SETS: AtomicU64 = AtomicU64::new(0);

impl Fifos {
    /// Makes the directory below `parent` (which is made if need be) and the FIFOs in it.
    pub fn create(parent: impl AsRef<Path>, ends: Ends) -> Result<Self> {
        let parent = parent.as_ref();
        let at = |path: &Path, error: &std::io::Error| {
            Error::new(class_of_io(error), format!("{}: {error}", path.display()))
        };
        if !parent.is_dir() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .map_err(|error| at(parent, &error))?;
        }
        let directory = fresh_directory(parent).map_err(|error| at(parent, &error))?;
        // From here on dropping `set` removes what was made.
        let set = Self { directory, ends };
        for (wanted, path) in
            [(ends.stdin, set.stdin()), (ends.stdout, set.stdout()), (ends.stderr, set.stderr())]
        {
            if wanted {
                nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)
                    .map_err(|error| at(&path, &error.into()))?;
            }
        }
        Ok(set)
    }

    /// The paths, for a task or exec request.
    pub fn stdio(&self) -> Stdio {
        let path = |wanted: bool, path: PathBuf| wanted.then(|| path.to_string_lossy().into_owned());
        Stdio {
            stdin: path(self.ends.stdin, self.stdin()),
            stdout: path(self.ends.stdout, self.stdout()),
            stderr: path(self.ends.stderr, self.stderr()),
            terminal: self.ends.terminal,
            log: None,
        }
    }

    /// Which streams there are.
    pub const fn ends(&self) -> Ends {
        self.ends
    }

    pub(super) fn stdin(&self) -> PathBuf {
        self.directory.join("stdin")
    }

    pub(super) fn stdout(&self) -> PathBuf {
        self.directory.join("stdout")
    }

    pub(super) fn stderr(&self) -> PathBuf {
        self.directory.join("stderr")
    }
}

impl Drop for Fifos {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            tracing::debug!(directory = %self.directory.display(), %error, "fifos not removed");
        }
    }
}

fn fresh_directory(parent: &Path) -> std::io::Result<PathBuf> {
    let mut tries = 0;
    loop {
        let number = SETS.fetch_add(1, Ordering::Relaxed);
        let directory = parent.join(format!("{}-{number}", std::process::id()));
        match std::fs::DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => return Ok(directory),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && tries < NAME_TRIES_MAX => {
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}
