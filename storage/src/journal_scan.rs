//! Reads fjall's journal before fjall does.
//!
//! fjall 3.1 (pinned, because this file knows its format) treats damage in two ways that a daemon cannot live with: a torn last batch, legal
//! after a power cut, makes it refuse to open for ever; a damaged framing byte in the middle makes it cut off everything behind,
//! silently. So after an unclean stop each journal is walked first:
//!
//! - a bad batch with no intact batch behind it is a torn tail: nobody was told that it is durable. It is cut, and kept in `<root>/db.torn`;
//! - a bad batch with an intact one behind it is damage: the database is refused, unchanged, with the place.
//!
//! Format of a batch: `1 count:u32 seqno:u64`, then `count` items `2 type:u8 compression:u8 keyspace:u64 key_len:u16 value_len:u32 disk_len:u32
//! key value` or clears `4 keyspace:u64`, then `3 xxh3(items):u64 "FJL\x03"`; little endian.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use nix::unistd::Whence;
use xxhash_rust::xxh3::Xxh3;

use crate::error::{Result, StoreError};

const TRAILER: &[u8] = b"FJL\x03";
/// Torn tails that are kept.
const TAILS_MAX: usize = 2;

/// What a walk over one journal found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Every batch is intact.
    Whole,
    /// The last batch is torn; it begins here.
    Torn { at: usize },
    /// A batch is damaged, and an intact one follows.
    Damaged { at: usize, intact_at: usize },
}

/// Walks every journal of a database; cuts a torn tail of the newest, refuses damage.
pub fn check(database: &Path) -> Result<()> {
    let journals = journals(database)?;
    let newest = journals.last().cloned();
    for journal in &journals {
        let bytes = read(journal)?;
        match examine(&bytes) {
            Finding::Whole => {}
            // Only the newest journal was being written when the power went.
            Finding::Torn { at } if Some(journal) == newest.as_ref() => {
                keep(database, journal, &bytes[at..], at);
                cut(journal, at)?;
            }
            Finding::Torn { at } | Finding::Damaged { at, .. } => {
                let name = journal.display();
                return Err(StoreError::Open {
                    path: database.to_path_buf(),
                    why: format!(
                        "journal {name} is damaged at byte {at}, before data that was acknowledged; nothing was changed. Restore a copy of the database"
                    ),
                });
            }
        }
    }
    Ok(())
}

/// After fjall has refused to open: the same, and an error when the walk finds nothing to cut.
pub fn cut_torn_tail(database: &Path, why: &str) -> Result<()> {
    tracing::warn!(why, "the journal does not recover; looking for a torn last batch");
    check(database)
}

/// The verdict on a journal's bytes.
pub fn examine(bytes: &[u8]) -> Finding {
    let mut at = 0;
    let mut number = None;
    while let Some(batch) = intact_batch(&bytes[at..]) {
        // fjall numbers batches under the journal's lock, and does not cover the number by its checksum.
        if number.is_some_and(|before| batch.number <= before) {
            return Finding::Damaged { at, intact_at: at };
        }
        number = Some(batch.number);
        at += batch.length;
    }
    // The file is preallocated with zeros.
    if bytes[at..].iter().all(|byte| *byte == 0) {
        return Finding::Whole;
    }
    for (offset, byte) in bytes.iter().enumerate().skip(at + 1) {
        if *byte == 1 && intact_batch(&bytes[offset..]).is_some() {
            return Finding::Damaged { at, intact_at: offset };
        }
    }
    Finding::Torn { at }
}

struct Intact {
    length: usize,
    number: u64,
}

/// The intact batch at the beginning of `bytes`, if there is one.
fn intact_batch(bytes: &[u8]) -> Option<Intact> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.u8()? != 1 {
        return None;
    }
    let count = reader.u32()?;
    let number = u64::from_le_bytes(reader.take(8)?.try_into().ok()?);
    let items = reader.at;
    for _ in 0..count {
        reader.item()?;
    }
    let mut hasher = Xxh3::new();
    hasher.update(&bytes[items..reader.at]);
    if reader.u8()? != 3 {
        return None;
    }
    let expected = u64::from_le_bytes(reader.take(8)?.try_into().ok()?);
    (reader.take(TRAILER.len())? == TRAILER && hasher.digest() == expected)
        .then_some(Intact { length: reader.at, number })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn item(&mut self) -> Option<()> {
        match self.u8()? {
            2 => {
                self.take(1 + 1 + 8)?;
                let key = u16::from_le_bytes(self.take(2)?.try_into().ok()?);
                self.u32()?;
                let value = self.u32()?;
                self.take(usize::from(key))?;
                self.take(usize::try_from(value).ok()?)?;
                Some(())
            }
            4 => self.take(8).map(drop),
            _ => None,
        }
    }
}

fn journals(database: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(database) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::file("cannot list", database, &error)),
    };
    let mut found: Vec<(u64, PathBuf)> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jnl"))
        .filter_map(|path| Some((path.file_stem()?.to_str()?.parse().ok()?, path)))
        .collect();
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The bytes up to the first hole: what is preallocated and not yet written is not read.
fn read(journal: &Path) -> Result<Vec<u8>> {
    let fail = |error: &std::io::Error| StoreError::file("cannot read", journal, error);
    let mut file = std::fs::File::open(journal).map_err(|error| fail(&error))?;
    let end = nix::unistd::lseek(&file, 0, Whence::SeekHole).map_err(|errno| fail(&errno.into()))?;
    nix::unistd::lseek(&file, 0, Whence::SeekSet).map_err(|errno| fail(&errno.into()))?;
    let mut bytes = Vec::with_capacity(usize::try_from(end).unwrap_or(0));
    file.by_ref()
        .take(u64::try_from(end).unwrap_or(0))
        .read_to_end(&mut bytes)
        .map_err(|error| fail(&error))?;
    Ok(bytes)
}

/// Keeps the torn tail, for whoever wants to look. Only the tail, and only when it can: a full disk is where tails are torn.
fn keep(database: &Path, journal: &Path, tail: &[u8], at: usize) {
    let folder = database.with_extension("torn");
    let keep = || -> std::io::Result<PathBuf> {
        std::fs::create_dir_all(&folder)?;
        let mut kept: Vec<_> = std::fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
        kept.sort_by_key(|path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok());
        let surplus = (kept.len() + 1).saturating_sub(TAILS_MAX);
        kept.iter().take(surplus).try_for_each(std::fs::remove_file)?;
        let stem = journal.file_stem().unwrap_or_default().to_string_lossy();
        let copy = folder.join(format!("{stem}-from-byte-{at}"));
        std::fs::write(&copy, tail)?;
        Ok(copy)
    };
    match keep() {
        Ok(copy) => tracing::warn!(copy = %copy.display(), "kept a torn last batch"),
        Err(error) => tracing::warn!(%error, "a torn last batch could not be kept"),
    }
}

fn cut(journal: &Path, at: usize) -> Result<()> {
    let cut = || -> std::io::Result<()> {
        let file = std::fs::OpenOptions::new().write(true).open(journal)?;
        file.set_len(at as u64)?;
        file.sync_all()
    };
    cut().map_err(|error| StoreError::file("cannot cut", journal, &error))?;
    tracing::warn!(journal = %journal.display(), at, "cut a torn last batch that nobody was told of");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch as fjall writes it, with one item.
    fn batch(number: u64, key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut item = vec![2, 0, 0];
        item.extend_from_slice(&7_u64.to_le_bytes());
        item.extend_from_slice(&u16::try_from(key.len()).expect("short").to_le_bytes());
        let length = u32::try_from(value.len()).expect("short").to_le_bytes();
        item.extend_from_slice(&length);
        item.extend_from_slice(&length);
        item.extend_from_slice(key);
        item.extend_from_slice(value);
        let mut bytes = vec![1];
        bytes.extend_from_slice(&1_u32.to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&item);
        bytes.push(3);
        bytes.extend_from_slice(&xxhash_rust::xxh3::xxh3_64(&item).to_le_bytes());
        bytes.extend_from_slice(TRAILER);
        bytes
    }

    #[test]
    fn f_10_each_truncation_is_a_torn_tail_and_never_damage() {
        let first = batch(1, b"a", b"one");
        let whole = [first.clone(), batch(2, b"b", b"two")].concat();
        assert_eq!(examine(&whole), Finding::Whole);
        assert_eq!(examine(&[whole.clone(), vec![0; 100]].concat()), Finding::Whole);
        for length in first.len() + 1..whole.len() {
            assert_eq!(examine(&whole[..length]), Finding::Torn { at: first.len() }, "{length}");
        }
    }

    #[test]
    fn f_10_two_torn_tails_are_kept_and_only_the_tail() {
        let root = tempfile::tempdir().expect("a folder");
        let database = root.path().join("db");
        std::fs::create_dir(&database).expect("creates");
        let journal = database.join("3.jnl");
        for count in 1..5 {
            let whole = (1..=count).flat_map(|number| batch(number, b"a", b"one")).collect::<Vec<_>>();
            std::fs::write(&journal, [&whole[..], b"torn"].concat()).expect("writes");
            check(&database).expect("cuts");
            assert_eq!(std::fs::read(&journal).expect("reads"), whole);
        }
        let kept: Vec<_> = std::fs::read_dir(root.path().join("db.torn")).expect("lists").flatten().collect();
        assert_eq!(kept.len(), TAILS_MAX);
        assert!(kept.iter().all(|entry| std::fs::read(entry.path()).expect("reads") == b"torn"));
    }

    #[test]
    fn f_10_each_flipped_byte_of_the_middle_is_damage() {
        let first = batch(1, b"a", b"one");
        let whole = [first.clone(), batch(2, b"b", b"two"), batch(3, b"c", b"three")].concat();
        let end = whole.len() - batch(3, b"c", b"three").len();
        for place in first.len()..end {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x40;
            match examine(&bytes) {
                // A number that became too high shows at the batch behind.
                Finding::Damaged { at, .. } => assert!([first.len(), end].contains(&at), "{place}"),
                Finding::Whole => panic!("byte {place} went unnoticed"),
                Finding::Torn { .. } => panic!("byte {place} would be cut silently"),
            }
        }
    }
}
