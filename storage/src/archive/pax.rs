//! PAX records and GNU long names: what they say about the next entry.

use super::Limits;
use super::sparse::PaxSparse;

/// The key prefix of extended attributes. The original wrote a misspelt one (MNT-9): both are read.
const XATTR_PREFIXES: [&[u8]; 2] = [b"SCHILY.xattr.", b"SCHILY.xattrs."];
/// The key prefix of what GNU says of files with holes.
const SPARSE_PREFIX: &[u8] = b"GNU.sparse.";
/// Most extended attributes of one entry.
const XATTRS_MAX: usize = 1024;

/// Collected before the entry they belong to. PAX wins over GNU, and a later record over an earlier one.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, i64)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// It has holes.
    pub(super) sparse: Option<PaxSparse>,
    seen_pax: bool,
    seen_gnu_path: bool,
    seen_gnu_link: bool,
}

impl Extensions {
    pub(super) fn is_empty(&self) -> bool {
        !(self.seen_pax || self.seen_gnu_path || self.seen_gnu_link)
    }

    /// The data of an `x` header: records `"<length> <key>=<value>\n"`, where the length counts the whole record.
    pub(super) fn pax(&mut self, mut data: &[u8], limits: &Limits) -> Result<(), String> {
        if std::mem::replace(&mut self.seen_pax, true) {
            return Err("two PAX headers for one entry".to_owned());
        }
        while !data.is_empty() {
            let (key, value, rest) = split_record(data).ok_or("a PAX record is malformed")?;
            self.record(key, value, limits)?;
            data = rest;
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8], limits: &Limits) -> Result<(), String> {
        let number = || {
            let text = std::str::from_utf8(value).ok();
            text.and_then(|text| text.parse::<u64>().ok())
                .ok_or_else(|| format!("PAX {} is not a number", String::from_utf8_lossy(key)))
        };
        match key {
            b"path" => self.path = Some(text(value)?),
            b"linkpath" => self.link = Some(text(value)?),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => self.mtime = Some(parse_time(value).ok_or("PAX mtime is malformed")?),
            b"GNU.sparse.name" => self.sparse.get_or_insert_default().path = Some(text(value)?),
            _ => {
                if let Some(key) = key.strip_prefix(SPARSE_PREFIX) {
                    self.sparse.get_or_insert_default().record(key, value)?;
                } else if let Some(name) = XATTR_PREFIXES.iter().find_map(|prefix| key.strip_prefix(*prefix))
                {
                    self.xattr(name, value, limits)?;
                }
            }
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8], limits: &Limits) -> Result<(), String> {
        if name.is_empty() || name.contains(&0) || name.len() > 255 {
            return Err("an extended attribute's name is malformed".to_owned());
        }
        if value.len() > limits.xattr_bytes_max {
            return Err(format!(
                "an extended attribute of {} bytes, at most {} are allowed",
                value.len(),
                limits.xattr_bytes_max
            ));
        }
        self.xattrs.retain(|(known, _)| known != name);
        if self.xattrs.len() == XATTRS_MAX {
            return Err(format!("more than {XATTRS_MAX} extended attributes"));
        }
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }

    pub(super) fn gnu_path(&mut self, data: Vec<u8>) -> Result<(), String> {
        if std::mem::replace(&mut self.seen_gnu_path, true) {
            return Err("two long names for one entry".to_owned());
        }
        self.path = self.path.take().or(Some(until_nul(data)));
        Ok(())
    }

    pub(super) fn gnu_link(&mut self, data: Vec<u8>) -> Result<(), String> {
        if std::mem::replace(&mut self.seen_gnu_link, true) {
            return Err("two long link names for one entry".to_owned());
        }
        self.link = self.link.take().or(Some(until_nul(data)));
        Ok(())
    }
}

fn until_nul(mut data: Vec<u8>) -> Vec<u8> {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    data.truncate(end);
    data
}

fn text(value: &[u8]) -> Result<Vec<u8>, String> {
    if value.contains(&0) { Err("a PAX name contains a NUL byte".to_owned()) } else { Ok(value.to_vec()) }
}

/// Key, value, and what follows the record.
fn split_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    // Twenty digits hold any 64-bit length.
    let space = data.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
    if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
        return None;
    }
    let record = &data[space + 1..length - 1];
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &data[length..]))
}

/// `[-]<seconds>[.<fraction>]` to seconds and nanoseconds, the latter never negative.
fn parse_time(value: &[u8]) -> Option<(i64, i64)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: i64 = digits.parse().ok()?;
    if negative && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cve_2025_62518_a_record_is_split_by_its_length_not_by_newlines() {
        let mut extensions = Extensions::default();
        let value = b"a\n17 path=/smuggled\n";
        let key = b"SCHILY.xattr.user.x";
        let body = key.len() + 1 + value.len() + 1;
        let mut record = format!("{} ", body + 3).into_bytes();
        record.extend_from_slice(key);
        record.push(b'=');
        record.extend_from_slice(value);
        record.push(b'\n');
        extensions.pax(&record, &Limits::default()).expect("well formed");
        assert_eq!(extensions.path, None);
        assert_eq!(extensions.xattrs, [(b"user.x".to_vec(), value.to_vec())]);
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"9 path=a\n"[..],
            b"7 path=a\n",
            b"99 path=a\n",
            b"path=a\n",
            b"0 \n",
            b"5 ab\n",
            b"18446744073709551616 path=a\n",
            b"12 size=-1x\n",
        ] {
            let refused = Extensions::default().pax(bad, &Limits::default());
            let expected = bad == b"9 path=a\n";
            assert_eq!(refused.is_ok(), expected, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn times_before_the_epoch_and_fractions() {
        assert_eq!(parse_time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(parse_time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(parse_time(b"7"), Some((7, 0)));
        assert_eq!(parse_time(b"1.2.3"), None);
        assert_eq!(parse_time(b""), None);
    }
}
