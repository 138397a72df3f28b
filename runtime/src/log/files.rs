//! The files of one log as open descriptors, oldest first.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::on_worker;
use crate::error::{Context as _, Result};

/// How often a snapshot that a rotation came between is taken again. One rotation is a handful of renames.
const TRIES_MAX: usize = 20;

/// One file; the same as another when it is the same inode, whatever its name is now.
#[derive(Debug, Clone)]
pub struct LogFile {
    /// For reading at offsets.
    pub file: Arc<File>,
    inode: Inode,
}

/// Device and number.
type Inode = (u64, u64);

impl PartialEq for LogFile {
    fn eq(&self, other: &Self) -> bool {
        self.inode == other.inode
    }
}

/// All files there are.
pub async fn open_all(path: &Path) -> Result<Vec<LogFile>> {
    let path = path.to_owned();
    on_worker(move || snapshot(&path).context(|| format!("open log {}", path.display()))).await
}

/// The files that came after `current`; all when there is none, or it is gone (more was written than is kept).
pub async fn newer_than(path: &Path, current: Option<&LogFile>) -> Result<Vec<LogFile>> {
    let (path, current) = (path.to_owned(), current.cloned());
    on_worker(move || {
        let Some(current) = current else {
            return snapshot(&path).context(|| format!("open log {}", path.display()));
        };
        // The common case: nothing has rotated.
        if fs::metadata(&path).is_ok_and(|meta| inode(&meta) == current.inode) {
            return Ok(Vec::new());
        }
        let mut all = snapshot(&path).context(|| format!("open log {}", path.display()))?;
        if let Some(place) = all.iter().position(|it| *it == current) {
            all.drain(..=place);
        }
        Ok(all)
    })
    .await
}

/// Takes all files again until no rotation came between: the numbers have no gap, and the newest is still the newest.
fn snapshot(path: &Path) -> io::Result<Vec<LogFile>> {
    let mut last = Vec::new();
    for _ in 0..TRIES_MAX {
        let (files, settled) = try_snapshot(path)?;
        if settled {
            return Ok(files);
        }
        last = files;
        std::thread::yield_now();
    }
    // A writer that died in the middle of a rotation leaves a gap for good: take what is there.
    Ok(last)
}

fn try_snapshot(path: &Path) -> io::Result<(Vec<LogFile>, bool)> {
    let numbers = numbers(path)?;
    let mut files: Vec<LogFile> = Vec::new();
    for number in numbers.iter().rev() {
        if let Some(file) = open(&rotated(path, *number))? {
            // Renamed between two opens.
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    let complete = numbers.iter().enumerate().all(|(index, number)| index as u64 == *number);
    let same = numbers_and_newest(path)? == (numbers.clone(), files.last().map(|it| it.inode));
    Ok((files.clone(), (complete || numbers.is_empty()) && same && files.len() == numbers.len()))
}

fn numbers_and_newest(path: &Path) -> io::Result<(Vec<u64>, Option<Inode>)> {
    Ok((numbers(path)?, fs::metadata(path).ok().map(|meta| inode(&meta))))
}

/// Numbers of the files that are there, 0 for the newest, ascending.
fn numbers(path: &Path) -> io::Result<Vec<u64>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|it| it.to_str())) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let entry = entry?.file_name();
        let Some(rest) = entry.to_str().and_then(|it| it.strip_prefix(name)) else { continue };
        match rest.strip_prefix('.') {
            None if rest.is_empty() => numbers.push(0),
            Some(digits) => {
                numbers.extend(digits.parse::<u64>().ok().filter(|it| *it > 0 && it.to_string() == digits))
            }
            None => {}
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn rotated(path: &Path, number: u64) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn open(path: &Path) -> io::Result<Option<LogFile>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    Ok(Some(LogFile { inode: inode(&meta), file: Arc::new(file) }))
}

fn inode(meta: &fs::Metadata) -> Inode {
    (meta.dev(), meta.ino())
}
