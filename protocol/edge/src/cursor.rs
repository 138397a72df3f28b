//! What cursors have in common: a source that one call at a time takes from, and batches of what is ready.

use std::cell::RefCell;
use std::future::Future;

use bosun_types::Error;
use futures::FutureExt as _;

use crate::connection::Fault;

/// Most items in one answer.
const BATCH_ITEMS_MAX: usize = 1024;
/// Bytes of items in one answer, before the first item that passes it.
const BATCH_BYTES: usize = 256 << 10;

/// A source that is lent to one call at a time; a call that is dropped gives it back.
pub(crate) struct Lent<S> {
    source: RefCell<Option<S>>,
}

impl<S> Lent<S> {
    pub(crate) fn new(source: S) -> Self {
        Self { source: RefCell::new(Some(source)) }
    }

    pub(crate) fn borrow(&self) -> Result<Loan<'_, S>, Fault> {
        let source = self.source.borrow_mut().take();
        source.map(|source| Loan { source: Some(source), from: self }).ok_or_else(|| {
            Fault(
                Error::failed_precondition("another call is reading from this cursor")
                    .with_hint("one call at a time"),
            )
        })
    }
}

/// A source on loan.
pub(crate) struct Loan<'a, S> {
    source: Option<S>,
    from: &'a Lent<S>,
}

impl<S> Loan<'_, S> {
    pub(crate) fn get(&mut self) -> &mut S {
        self.source.as_mut().expect("taken only on drop")
    }
}

impl<S> Drop for Loan<'_, S> {
    fn drop(&mut self) {
        *self.from.source.borrow_mut() = self.source.take();
    }
}

/// Items that were ready, and whether nothing will follow.
pub(crate) struct Batch<T> {
    pub(crate) items: Vec<T>,
    pub(crate) end: bool,
}

/// Something with a next item. Dropping the future must lose nothing.
pub(crate) trait Source {
    type Item;
    fn next(&mut self) -> impl Future<Output = Result<Option<Self::Item>, Error>>;
    fn bytes(item: &Self::Item) -> usize;
}

/// Waits for one item, then takes what else is ready. An error behind the first item comes with the next call.
pub(crate) async fn batch<S: Source>(source: &mut S, max: u32) -> Result<Batch<S::Item>, Fault> {
    let max = match usize::try_from(max).unwrap_or(usize::MAX) {
        0 => BATCH_ITEMS_MAX,
        max => max.min(BATCH_ITEMS_MAX),
    };
    let Some(first) = source.next().await? else { return Ok(Batch { items: Vec::new(), end: true }) };
    let mut bytes = S::bytes(&first);
    let mut items = vec![first];
    while items.len() < max && bytes < BATCH_BYTES {
        match source.next().now_or_never() {
            Some(Ok(Some(item))) => {
                bytes += S::bytes(&item);
                items.push(item);
            }
            Some(Ok(None)) => return Ok(Batch { items, end: true }),
            Some(Err(error)) => {
                tracing::debug!(%error, "a cursor failed behind a batch");
                break;
            }
            None => break,
        }
    }
    Ok(Batch { items, end: false })
}
