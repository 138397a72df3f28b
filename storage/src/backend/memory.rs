//! Memory, with the laws of the disk: for simulations. A clone of the contents is what a crash leaves behind.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::{Backend, Row};
use crate::batch::Write;
use crate::error::Result;
use crate::key::Key;
use crate::table::Table;

/// Rows in memory.
#[derive(Debug, Default)]
pub struct Memory {
    rows: Mutex<BTreeMap<(Table, Key), Vec<u8>>>,
}

impl Backend for Memory {
    fn apply(&self, writes: &[Write]) -> Result<()> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for write in writes {
            let place = (write.table, write.key.clone());
            match &write.value {
                Some(value) => rows.insert(place, value.clone()),
                None => rows.remove(&place),
            };
        }
        Ok(())
    }

    fn get(&self, table: Table, key: &Key) -> Result<Option<Vec<u8>>> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(rows.get(&(table, key.clone())).cloned())
    }

    fn scan(&self, table: Table, prefix: &Key, from: &Key, limit: usize) -> Result<Vec<Row>> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = prefix.max(from).clone();
        Ok(rows
            .range((table, begin)..)
            .take_while(|((of, key), _)| *of == table && key.as_bytes().starts_with(prefix.as_bytes()))
            .take(limit)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect())
    }

    fn reopen(&self) -> Result<()> {
        Ok(())
    }
}
