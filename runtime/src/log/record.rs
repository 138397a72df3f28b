//! One CRI line: `<RFC 3339 ns> <stdout|stderr> <F|P> <text>`.

use bosun_types::Timestamp;
use bosun_types::stdio::{LogRecord, OutputStream};

/// A record, and whether its line ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// As readers get it.
    pub record: LogRecord,
    /// `F`, not `P`.
    pub whole: bool,
}

/// Of a line without its newline; `None` when it is none.
pub fn parse(line: &[u8]) -> Option<Parsed> {
    let mut words = line.splitn(4, |byte| *byte == b' ');
    let at = Timestamp::parse(std::str::from_utf8(words.next()?).ok()?).ok()?;
    let stream = match words.next()? {
        b"stdout" => OutputStream::Stdout,
        b"stderr" => OutputStream::Stderr,
        _ => return None,
    };
    let whole = match words.next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    let mut bytes = words.next()?.to_vec();
    if whole {
        bytes.push(b'\n');
    }
    Some(Parsed { record: LogRecord { at, stream, bytes }, whole })
}
