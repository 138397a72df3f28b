//! The high-water mark: how far commits were acknowledged, kept beside the database, so that a database that has lost something
//! cannot pass for whole. Rewritten lazily (it may lag, never lead) and at a clean stop.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::error::{Result, StoreError};

/// Number and chained hash of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Dense, starting at 1.
    pub sequence: u64,
    /// Hash over the previous hash and this commit's writes.
    pub hash: u64,
}

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Acknowledged at least up to here.
    pub position: Position,
    /// Written by a clean stop.
    pub clean: bool,
}

fn path(root: &Path) -> PathBuf {
    root.join("db.mark")
}

/// Reads it; `None` when there is none, as for a new root.
pub fn read(root: &Path) -> Result<Option<Mark>> {
    let path = path(root);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::file("cannot read", path, &error)),
    };
    let mut words = text.split_whitespace();
    let mut number = || u64::from_str_radix(words.next()?, 16).ok();
    match (number(), number(), words.next()) {
        (Some(sequence), Some(hash), state @ Some("clean" | "open")) => {
            Ok(Some(Mark { position: Position { sequence, hash }, clean: state == Some("clean") }))
        }
        // A half-written mark cannot be: it is renamed into place.
        _ => Err(StoreError::Open { path, why: format!("the mark {text:?} is malformed") }),
    }
}

/// Replaces it atomically. The file is synced, so that a power cut leaves the old or the new one; the rename is not: it may lag.
pub fn write(root: &Path, mark: Mark) -> Result<()> {
    let path = path(root);
    let beside = root.join("db.mark.new");
    let state = if mark.clean { "clean" } else { "open" };
    let text = format!("{:016x} {:016x} {state}\n", mark.position.sequence, mark.position.hash);
    let fill = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()
    };
    fill().map_err(|error| StoreError::file("cannot write", &beside, &error))?;
    std::fs::rename(&beside, &path).map_err(|error| StoreError::file("cannot replace", &path, &error))
}

/// Why writes must be refused, if they must: the database holds less, or something else, than was acknowledged.
pub fn verdict(mark: Option<Mark>, found: Position) -> Option<String> {
    let acknowledged = mark?.position;
    if found.sequence < acknowledged.sequence {
        return Some(format!(
            "it holds {} commits, but {} were acknowledged: {} are lost",
            found.sequence,
            acknowledged.sequence,
            acknowledged.sequence - found.sequence
        ));
    }
    (found.sequence == acknowledged.sequence && found.hash != acknowledged.hash)
        .then(|| format!("commit {} is not the one that was acknowledged", found.sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_behind_its_mark_is_refused_and_one_ahead_is_not() {
        let at = |sequence, hash| Position { sequence, hash };
        let mark = Some(Mark { position: at(10, 7), clean: false });
        assert_eq!(verdict(None, at(0, 0)), None);
        assert_eq!(verdict(mark, at(10, 7)), None);
        assert_eq!(verdict(mark, at(11, 1)), None);
        assert!(verdict(mark, at(9, 7)).expect("behind").contains("1 are lost"));
        assert!(verdict(mark, at(10, 8)).is_some());
    }

    #[test]
    fn it_reads_back() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(read(root.path()).expect("reads"), None);
        let mark = Mark { position: Position { sequence: 3, hash: u64::MAX }, clean: true };
        write(root.path(), mark).expect("writes");
        assert_eq!(read(root.path()).expect("reads"), Some(mark));
    }
}
