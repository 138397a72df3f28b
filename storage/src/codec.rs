//! How a value is stored: `[version u8][CRC-32 u32 LE][bincode 2, standard configuration]`. The only calls of bincode for stored data
//! (ADR 0004). The CRC covers version and body, so that a flipped bit anywhere in a value is seen when it is read.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};

use crate::error::{Result, StoreError};
use crate::key::Key;
use crate::table::Record;

/// Largest stored value in bytes; also what a decoder may allocate for what it reads.
pub const VALUE_BYTES_MAX: usize = 8 << 20;
const HEADER_BYTES: usize = 5;

fn configuration() -> Configuration<LittleEndian, Varint, Limit<VALUE_BYTES_MAX>> {
    bincode::config::standard().with_limit::<VALUE_BYTES_MAX>()
}

/// Encodes a record.
pub fn encode<R: Record>(record: &R) -> Result<Vec<u8>> {
    let body = bincode::encode_to_vec(record, configuration())
        .map_err(|error| damaged::<R>(&record.key(), &format!("does not encode: {error}")))?;
    if body.len() > VALUE_BYTES_MAX {
        return Err(damaged::<R>(
            &record.key(),
            &format!("{} bytes, at most {VALUE_BYTES_MAX} are stored", body.len()),
        ));
    }
    let mut value = Vec::with_capacity(HEADER_BYTES + body.len());
    value.push(R::VERSION);
    value.extend_from_slice(&checksum(R::VERSION, &body).to_le_bytes());
    value.extend_from_slice(&body);
    Ok(value)
}

/// Decodes a record; an older version goes through [`Record::decode_old`].
pub fn decode<R: Record>(key: &Key, value: &[u8]) -> Result<R> {
    let (header, body) =
        value.split_at_checked(HEADER_BYTES).ok_or_else(|| damaged::<R>(key, "too short"))?;
    let version = header[0];
    let expected = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
    if checksum(version, body) != expected {
        return Err(damaged::<R>(key, "its checksum does not match"));
    }
    if version == R::VERSION {
        return decode_body(key, body);
    }
    R::decode_old(version, body).unwrap_or_else(|| {
        Err(damaged::<R>(key, &format!("version {version} is not known, this build writes {}", R::VERSION)))
    })
}

fn decode_body<R: Record>(key: &Key, body: &[u8]) -> Result<R> {
    let (record, read) = bincode::decode_from_slice(body, configuration())
        .map_err(|error| damaged::<R>(key, &error.to_string()))?;
    if read != body.len() {
        return Err(damaged::<R>(key, &format!("{} bytes too long", body.len() - read)));
    }
    Ok(record)
}

fn checksum(version: u8, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[version]);
    hasher.update(body);
    hasher.finalize()
}

fn damaged<R: Record>(key: &Key, why: &str) -> StoreError {
    StoreError::Damaged { table: R::TABLE.name(), key: key.to_string(), why: why.to_owned() }
}
