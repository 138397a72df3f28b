//! Lists in pages: as many records as fit in a message, of those that the filters want.

use bosun_filter::{Fields, Filter};
use bosun_protocol::common_capnp::{next_page, page};
use bosun_protocol::limits::{PAGE_BYTES, PAGE_RECORDS_MAX};
use bosun_types::Result;

use crate::connection::Fault;

/// What a client asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    after: String,
    limit: usize,
    filter: Filter,
}

impl Wanted {
    pub(crate) fn read(from: page::Reader<'_>) -> std::result::Result<Self, Fault> {
        let limit = match from.get_limit() {
            0 => PAGE_RECORDS_MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX).min(PAGE_RECORDS_MAX),
        };
        let after = bosun_protocol::convert::read_text(from.get_after())?;
        Ok(Self { after, limit, filter: read_filter(from.get_filters())? })
    }
}

/// Reads the filters of a list.
pub(crate) fn read_filter(
    from: capnp::Result<capnp::text_list::Reader<'_>>,
) -> std::result::Result<Filter, Fault> {
    Ok(Filter::parse_all(&bosun_protocol::convert::read_texts(from)?)?)
}

/// One page, and where the next one goes on.
#[derive(Debug)]
pub(crate) struct Paged<T> {
    pub(crate) records: Vec<T>,
    next: Option<String>,
}

impl<T> Paged<T> {
    /// Cuts a page out of a whole list. `key` orders it, `bytes` is about what a record takes in the message.
    pub(crate) fn cut(
        mut all: Vec<T>,
        wanted: &Wanted,
        key: impl Fn(&T) -> String,
        bytes: impl Fn(&T) -> usize,
    ) -> Self {
        all.sort_by_cached_key(&key);
        let from = all.partition_point(|record| !wanted.after.is_empty() && key(record) <= wanted.after);
        let mut size = 0;
        let count = all[from..]
            .iter()
            .take(wanted.limit)
            .take_while(|record| {
                let room = size < PAGE_BYTES;
                size += bytes(record);
                room
            })
            .count();
        let more = from + count < all.len();
        let records: Vec<T> = all.drain(from..from + count).collect();
        let next = if more { records.last().map(key) } else { None };
        Self { records, next }
    }

    pub(crate) fn write_next(&self, mut to: next_page::Builder<'_>) {
        if let Some(next) = &self.next {
            to.set_next(next.as_str());
        }
    }
}

/// As [`Paged::cut`], of what a handle answered and the filters want.
pub(crate) fn paged<T: Fields>(
    all: Result<Vec<T>>,
    wanted: &Wanted,
    key: impl Fn(&T) -> String,
    bytes: impl Fn(&T) -> usize,
) -> std::result::Result<Paged<T>, Fault> {
    let mut all = all?;
    all.retain(|record| wanted.filter.matches(record));
    Ok(Paged::cut(all, wanted, key, bytes))
}

/// About what labels take.
pub(crate) fn label_bytes(labels: &bosun_types::Labels) -> usize {
    labels.iter().map(|(key, value)| key.len() + value.len() + 48).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(all: &[u32], limit: usize, bytes: usize) -> (Vec<u32>, usize) {
        let (mut seen, mut pages) = (Vec::new(), 0);
        let mut wanted = Wanted { after: String::new(), limit, filter: Filter::default() };
        loop {
            let page = Paged::cut(all.to_vec(), &wanted, |n| format!("{n:05}"), |_| bytes);
            seen.extend(&page.records);
            pages += 1;
            match page.next {
                Some(next) => wanted.after = next,
                None => return (seen, pages),
            }
        }
    }

    #[test]
    fn pages_together_are_the_list() {
        let all: Vec<u32> = (0..1000).rev().collect();
        let sorted: Vec<u32> = (0..1000).collect();
        assert_eq!(walk(&all, 4096, 10), (sorted.clone(), 1));
        assert_eq!(walk(&all, 100, 10), (sorted.clone(), 10));
        assert_eq!(walk(&all, 4096, PAGE_BYTES / 4), (sorted.clone(), 250));
        // One record larger than a page still makes progress.
        assert_eq!(walk(&all, 4096, PAGE_BYTES * 2), (sorted, 1000));
        assert_eq!(walk(&[], 10, 10), (vec![], 1));
    }
}
