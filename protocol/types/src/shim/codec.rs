//! Bytes of the daemon ⇄ shim wire and of the shim's record files: one piece of code for both ends.
//!
//! A frame is a little-endian `u32` body length and a bincode body. A record file is [`RECORD_MAGIC`], a little-endian
//! CRC-32 of the body, and the body; it holds exactly one value. Both refuse trailing bytes: a peer that disagrees about
//! a layout must not be half understood.

use bincode::{Decode, Encode, config};

use super::FRAME_BYTES_MAX;
use crate::{Error, Result};

/// Bytes of the length in front of a frame's body.
pub const FRAME_HEADER_BYTES: usize = 4;
/// First bytes of a record file; the last one is the format's version.
pub const RECORD_MAGIC: [u8; 4] = *b"bsn\x01";
/// Longest record file in bytes.
pub const RECORD_BYTES_MAX: usize = 64 << 10;

/// bincode 2 `standard` with a limit on what a length field may claim.
fn configuration()
-> config::Configuration<config::LittleEndian, config::Varint, config::Limit<FRAME_BYTES_MAX>> {
    config::standard().with_limit::<FRAME_BYTES_MAX>()
}

/// Header and body of one message.
pub fn encode_frame<T: Encode>(message: &T) -> Result<Vec<u8>> {
    let mut frame = vec![0; FRAME_HEADER_BYTES];
    bincode::encode_into_std_write(message, &mut frame, config::standard())
        .map_err(|error| Error::internal(format!("encoding a shim frame: {error}")))?;
    let length = frame.len() - FRAME_HEADER_BYTES;
    if length > FRAME_BYTES_MAX {
        return Err(Error::invalid_argument(format!(
            "a shim frame of {length} bytes is too long, at most {FRAME_BYTES_MAX} are allowed"
        )));
    }
    let length = u32::try_from(length).map_err(|_| Error::internal("frame length"))?;
    frame[..FRAME_HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

/// Length of the body that follows this header; refuses what is empty or over the limit before anything is allocated.
pub fn frame_length(header: [u8; FRAME_HEADER_BYTES]) -> Result<usize> {
    let length = u32::from_le_bytes(header) as usize;
    if length == 0 || length > FRAME_BYTES_MAX {
        return Err(Error::data_loss(format!(
            "a shim frame claims {length} bytes, 1 to {FRAME_BYTES_MAX} are allowed"
        )));
    }
    Ok(length)
}

/// The message in a frame's body; all of the body must be used up.
pub fn decode_body<T: Decode<()>>(body: &[u8]) -> Result<T> {
    let (message, used) = bincode::decode_from_slice(body, configuration()).map_err(|error| {
        Error::data_loss(format!("decoding a shim frame of {} bytes: {error}", body.len()))
    })?;
    if used != body.len() {
        return Err(Error::data_loss(format!(
            "a shim frame of {} bytes has {} bytes too many",
            body.len(),
            body.len() - used
        )));
    }
    Ok(message)
}

/// The first whole message in `buffer` and the bytes it took; `None` while bytes are missing.
pub fn decode_frame<T: Decode<()>>(buffer: &[u8]) -> Result<Option<(T, usize)>> {
    let Some((header, rest)) = buffer.split_first_chunk::<FRAME_HEADER_BYTES>() else { return Ok(None) };
    let length = frame_length(*header)?;
    match rest.get(..length) {
        Some(body) => Ok(Some((decode_body(body)?, FRAME_HEADER_BYTES + length))),
        None => Ok(None),
    }
}

/// The id of a `ToShim::Request`, or `Traced`, whose request this build cannot decode, so that it can be answered with
/// `NotImplemented`; `None` when the body is no request at all.
pub fn request_id(body: &[u8]) -> Option<u64> {
    const REQUEST_VARIANTS: std::ops::RangeInclusive<u32> = 1..=2;
    let ((variant, id), _) = bincode::decode_from_slice::<(u32, u64), _>(body, configuration()).ok()?;
    REQUEST_VARIANTS.contains(&variant).then_some(id)
}

/// Bytes of a record file.
pub fn encode_record<T: Encode>(value: &T) -> Result<Vec<u8>> {
    let body = bincode::encode_to_vec(value, config::standard())
        .map_err(|error| Error::internal(format!("encoding a shim record: {error}")))?;
    let mut bytes = Vec::with_capacity(RECORD_MAGIC.len() + 4 + body.len());
    bytes.extend_from_slice(&RECORD_MAGIC);
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(Error::invalid_argument(format!("a shim record of {} bytes is too long", bytes.len())));
    }
    Ok(bytes)
}

/// The value of a record file.
pub fn decode_record<T: Decode<()>>(bytes: &[u8]) -> Result<T> {
    let damaged =
        |why: &str| Error::data_loss(format!("a shim record of {} bytes is damaged: {why}", bytes.len()));
    let (magic, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| damaged("it is too short"))?;
    if *magic != RECORD_MAGIC {
        return Err(damaged("it does not start as a record of this version"));
    }
    let (crc, body) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it is too short"))?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return Err(damaged("its checksum is wrong"));
    }
    decode_body(body).map_err(|error| damaged(&error.message))
}

#[cfg(test)]
mod tests;
