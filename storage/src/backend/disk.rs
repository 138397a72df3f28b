//! fjall. One keyspace holds all tables (the table is the first byte of a key), so that one atomic batch covers them and an
//! idle daemon holds few files and little memory. Settings measured for a small, often updated database.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use bosun_types::ErrorClass;
use bosun_types::error::class_of_io;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _};

use super::{Backend, Row, Visit};
use crate::batch::Write;
use crate::error::{Result, StoreError};
use crate::journal_scan;
use crate::key::Key;
use crate::table::Table;

/// All journals together; the smallest that fjall takes. Bounds disk use and the time of a recovery.
const JOURNALS_BYTES_MAX: u64 = 64 << 20;
/// Memory for unflushed changes.
const MEMTABLE_BYTES_MAX: u64 = 4 << 20;
/// Block cache.
const CACHE_BYTES: u64 = 8 << 20;

struct Open {
    database: Database,
    rows: Keyspace,
}

/// The database on disk.
pub struct Disk {
    path: PathBuf,
    /// `None` between a failed write and a successful reopen.
    open: RwLock<Option<Open>>,
}

impl Disk {
    /// Opens or creates. A torn last batch (a power cut in the middle of a write that nobody was told of) is cut off
    /// and kept aside; damage before intact batches is refused.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_path_buf(), open: RwLock::new(Some(open_or_mend(path)?)) })
    }

    fn with<T>(&self, act: impl FnOnce(&Open) -> Result<T>) -> Result<T> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        match &*open {
            Some(open) => act(open),
            None => Err(StoreError::Open {
                path: self.path.clone(),
                why: "it was closed after a failed write and did not open again".to_owned(),
            }),
        }
    }
}

fn open_or_mend(path: &Path) -> Result<Open> {
    match open(path) {
        Ok(open) => Ok(open),
        Err(fjall::Error::JournalRecovery(why)) => {
            journal_scan::cut_torn_tail(path, &format!("{why:?}"))?;
            open(path).map_err(|error| describe(path, &error))
        }
        Err(error) => Err(describe(path, &error)),
    }
}

fn open(path: &Path) -> fjall::Result<Open> {
    let database = Database::builder(path)
        .max_journaling_size(JOURNALS_BYTES_MAX)
        .cache_size(CACHE_BYTES)
        .worker_threads(1)
        .journal_compression(fjall::CompressionType::None)
        .open()?;
    let rows = database
        .keyspace("rows", || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES_MAX))?;
    Ok(Open { database, rows })
}

fn describe(path: &Path, error: &fjall::Error) -> StoreError {
    StoreError::Open { path: path.to_path_buf(), why: error.to_string() }
}

fn commit_error(error: &fjall::Error) -> StoreError {
    let class = match error {
        fjall::Error::Io(error) => class_of_io(error),
        // The write before it failed: most often for want of space.
        fjall::Error::Poisoned => ErrorClass::Unavailable,
        _ => ErrorClass::Internal,
    };
    StoreError::Commit { class, why: error.to_string() }
}

fn full_key(table: Table, key: &Key) -> Vec<u8> {
    let mut full = Vec::with_capacity(1 + key.as_bytes().len());
    full.push(table as u8);
    full.extend_from_slice(key.as_bytes());
    full
}

/// The first key behind every key that starts with this. A table's number stands in front and is never the largest byte.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            break;
        }
    }
    end
}

impl Backend for Disk {
    fn apply(&self, writes: &[Write]) -> Result<()> {
        self.with(|open| {
            let mut batch = open.database.batch().durability(Some(PersistMode::SyncData));
            for write in writes {
                let key = full_key(write.table, &write.key);
                match &write.value {
                    Some(value) => batch.insert(&open.rows, key, value.as_slice()),
                    None => batch.remove(&open.rows, key),
                }
            }
            batch.commit().map_err(|error| commit_error(&error))
        })
    }

    fn get(&self, table: Table, key: &Key) -> Result<Option<Vec<u8>>> {
        self.with(|open| {
            let value = open.rows.get(full_key(table, key)).map_err(|error| describe(&self.path, &error))?;
            Ok(value.map(|value| value.to_vec()))
        })
    }

    fn scan(&self, table: Table, prefix: &Key, from: &Key, limit: usize) -> Result<Vec<Row>> {
        let prefix = full_key(table, prefix);
        // With an end: whoever only stops at the first other key walks over everything removed in between to find it.
        let end = end_of(&prefix);
        let begin = prefix.max(full_key(table, from));
        if begin >= end {
            return Ok(Vec::new());
        }
        self.with(|open| {
            let mut rows = Vec::new();
            for guard in open.rows.range(begin..end).take(limit) {
                let (key, value) = guard.into_inner().map_err(|error| describe(&self.path, &error))?;
                rows.push((Key::from_bytes(&key[1..]), value.to_vec()));
            }
            Ok(rows)
        })
    }

    fn view(&self, ranges: &[(Table, Key)], visit: &mut Visit<'_>) -> Result<()> {
        self.with(|open| {
            let snapshot = open.database.snapshot();
            for (table, prefix) in ranges {
                for guard in snapshot.prefix(&open.rows, full_key(*table, prefix)) {
                    let (key, value) = guard.into_inner().map_err(|error| describe(&self.path, &error))?;
                    visit(*table, Key::from_bytes(&key[1..]), &value)?;
                }
            }
            Ok(())
        })
    }

    fn reopen(&self) -> Result<()> {
        let mut guard = self.open.write().unwrap_or_else(PoisonError::into_inner);
        // fjall's own lock on the folder goes only with the last handle.
        *guard = None;
        *guard = Some(open_or_mend(&self.path)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_ends_where_its_prefix_ends() {
        assert_eq!(end_of(b"\x07abc"), b"\x07abd");
        assert_eq!(end_of(b"\x07\xff\xff"), b"\x08");
        let root = tempfile::tempdir().expect("a folder");
        let disk = Disk::open(&root.path().join("db")).expect("opens");
        let keys: [&[u8]; 6] = [b"a", b"a\xff", b"a\xff\xff", b"b", b"b\0", b"c"];
        let write = |table, key: &[u8]| Write { table, key: Key::from_bytes(key), value: Some(key.to_vec()) };
        let mut writes: Vec<Write> = keys.iter().map(|key| write(Table::Images, key)).collect();
        writes.push(write(Table::Content, b"a"));
        disk.apply(&writes).expect("writes");
        let scan = |prefix: &[u8], from: &[u8], limit| -> Vec<Vec<u8>> {
            let (prefix, from) = (Key::from_bytes(prefix), Key::from_bytes(from));
            let rows = disk.scan(Table::Images, &prefix, &from, limit).expect("scans");
            rows.into_iter().map(|(_, value)| value).collect()
        };
        assert_eq!(scan(b"", b"", 99), keys);
        assert_eq!(scan(b"a", b"", 99), keys[..3]);
        assert_eq!(scan(b"a\xff", b"", 99), keys[1..3]);
        assert_eq!(scan(b"", b"b", 2), keys[3..5]);
        assert_eq!(scan(b"a", b"b", 99), [b""; 0]);
    }
}
