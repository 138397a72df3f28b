//! Where bytes are kept: the database on disk, or memory for simulations. Both apply a list of writes atomically and durably.

pub mod disk;
pub mod memory;

use crate::batch::Write;
use crate::error::Result;
use crate::key::Key;
use crate::table::Table;

/// A key and its value.
pub type Row = (Key, Vec<u8>);

/// Is shown a row: its table, key and value.
pub type Visit<'a> = dyn FnMut(Table, Key, &[u8]) -> Result<()> + 'a;

/// Byte-level storage. Blocking: only the committer writes.
pub trait Backend: Send + Sync {
    /// Applies all of it, durably, or nothing.
    fn apply(&self, writes: &[Write]) -> Result<()>;
    /// One value.
    fn get(&self, table: Table, key: &Key) -> Result<Option<Vec<u8>>>;
    /// Rows whose key starts with `prefix`, is at least `from`, in key order, at most `limit`.
    fn scan(&self, table: Table, prefix: &Key, from: &Key, limit: usize) -> Result<Vec<Row>>;
    /// Shows every row of the tables below the prefixes, all as of one moment, table by table in key order. Commits go on meanwhile; only
    /// [`Self::reopen`] waits.
    fn view(&self, ranges: &[(Table, Key)], visit: &mut Visit<'_>) -> Result<()>;
    /// After a failed `apply`: drops every handle and opens again, so that a transient cause (no space) heals.
    fn reopen(&self) -> Result<()>;
}
