//! Wire structs to domain words and back: one file per noun, each with a round-trip test.
//!
//! Reading checks everything that the types promise: what comes out of [`Wire::read`] is well formed, and whatever is not
//! comes back as InvalidArgument. Writing cannot fail.

use std::collections::BTreeMap;

use bosun_types::{Error, Result, Timestamp};
use capnp::traits::OwnedStruct;
use capnp::{struct_list, text, text_list};

pub mod access;
pub mod checkpoint;
pub mod common;
pub mod container;
pub mod content;
pub mod copy;
pub mod daemon;
pub mod event;
pub mod group;
pub mod image;
pub mod lease;
pub mod metrics;
pub mod relaunch;
pub mod snapshot;
pub mod task;
#[cfg(test)]
mod tests;
pub mod transfer;

/// A domain type with a wire struct of its own.
pub trait Wire: Sized {
    /// The wire struct.
    type Struct: OwnedStruct;

    /// Fills the wire struct.
    fn write(&self, to: <Self::Struct as OwnedStruct>::Builder<'_>);

    /// Reads and checks the wire struct.
    fn read(from: <Self::Struct as OwnedStruct>::Reader<'_>) -> Result<Self>;
}

/// A message that does not hold what the schema promises: not the reader's fault, and never retried.
pub fn malformed(error: &capnp::Error) -> Error {
    Error::invalid_argument(format!("malformed message: {error}"))
}

/// Before the JSON of a domain error in an RPC exception.
const DOMAIN: &str = "domain error ";

/// The exception that calls meet which were pipelined on a capability that was refused: it holds the refusal, so that it is the same error
/// as for who waits for each answer.
pub fn as_exception(error: &Error) -> capnp::Error {
    // Only a map with keys that are no strings could fail.
    let json = serde_json::to_string(error).unwrap_or_default();
    capnp::Error::failed(format!("{DOMAIN}{json}"))
}

/// The domain error that an exception holds, if one does; a peer's RPC layer may have put words before it.
pub fn from_exception(text: &str) -> Option<Error> {
    let (_, json) = text.split_once(DOMAIN)?;
    serde_json::from_str(json).ok()
}

/// Shortens the reading of a pointer field: `capnp::Error` becomes InvalidArgument.
pub(crate) trait Sound<T> {
    fn sound(self) -> Result<T>;
}

impl<T> Sound<T> for capnp::Result<T> {
    fn sound(self) -> Result<T> {
        self.map_err(|error| malformed(&error))
    }
}

impl<T> Sound<T> for std::result::Result<T, capnp::NotInSchema> {
    fn sound(self) -> Result<T> {
        self.map_err(|error| {
            Error::not_implemented(format!("unknown variant {} in a message", error.0))
                .with_hint("the peer is newer than this build")
        })
    }
}

/// A text field.
pub fn read_text(field: capnp::Result<text::Reader<'_>>) -> Result<String> {
    let text = field.sound()?;
    text.to_str()
        .map(str::to_owned)
        .map_err(|error| Error::invalid_argument(format!("a text is not UTF-8: {error}")))
}

/// A text field that may be null.
pub fn read_optional_text(given: bool, field: capnp::Result<text::Reader<'_>>) -> Result<Option<String>> {
    if given { read_text(field).map(Some) } else { Ok(None) }
}

/// A text field that parses to a checked type.
pub fn read_parsed<T>(field: capnp::Result<text::Reader<'_>>) -> Result<T>
where
    T: std::str::FromStr<Err = Error>,
{
    read_text(field)?.parse()
}

/// As [`read_parsed`], null is `None`.
pub fn read_optional_parsed<T>(given: bool, field: capnp::Result<text::Reader<'_>>) -> Result<Option<T>>
where
    T: std::str::FromStr<Err = Error>,
{
    if given { read_parsed(field).map(Some) } else { Ok(None) }
}

/// 0 is `None`.
pub const fn read_time(nanoseconds: i64) -> Option<Timestamp> {
    if nanoseconds == 0 { None } else { Some(Timestamp(nanoseconds)) }
}

/// `None` is 0.
pub fn write_time(time: Option<Timestamp>) -> i64 {
    time.map_or(0, |time| time.0)
}

/// The length of a list on the wire. Nothing that fits in memory here comes near the format's 2^29 items.
pub fn length<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}

/// Fills a list of structs.
pub fn write_list<T: Wire>(items: &[T], mut to: struct_list::Builder<'_, T::Struct>) {
    for (index, item) in (0..).zip(items) {
        item.write(to.reborrow().get(index));
    }
}

/// Reads a list of structs.
pub fn read_list<T: Wire>(from: capnp::Result<struct_list::Reader<'_, T::Struct>>) -> Result<Vec<T>> {
    from.sound()?.iter().map(T::read).collect()
}

/// Fills a list of texts.
pub fn write_texts(items: &[String], mut to: text_list::Builder<'_>) {
    for (index, item) in (0..).zip(items) {
        to.set(index, item.as_str());
    }
}

/// Reads a list of texts.
pub fn read_texts(from: capnp::Result<text_list::Reader<'_>>) -> Result<Vec<String>> {
    from.sound()?.iter().map(read_text).collect()
}

/// Fills a list of pairs, such as labels.
pub fn write_pairs(
    items: &BTreeMap<String, String>,
    mut to: struct_list::Builder<'_, crate::common_capnp::pair::Owned>,
) {
    for (index, (key, value)) in (0..).zip(items) {
        let mut pair = to.reborrow().get(index);
        pair.set_key(key.as_str());
        pair.set_value(value.as_str());
    }
}

/// Reads a list of pairs; a key given twice is refused.
pub fn read_pairs(
    from: capnp::Result<struct_list::Reader<'_, crate::common_capnp::pair::Owned>>,
) -> Result<BTreeMap<String, String>> {
    let mut pairs = BTreeMap::new();
    for pair in from.sound()? {
        let key = read_text(pair.get_key())?;
        if pairs.contains_key(&key) {
            return Err(Error::invalid_argument(format!("{key:?} is given twice")));
        }
        pairs.insert(key, read_text(pair.get_value())?);
    }
    Ok(pairs)
}

/// The number of pairs, as a list length.
pub fn pair_count<V>(items: &BTreeMap<String, V>) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}
