//! Which client's call work is done for: the number that the edge gave it, found through the span in whose scope the work runs, so that it goes with
//! every message between actors and on to the shim.

use std::fmt::Debug;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Span, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// Name of a call's span.
const SPAN: &str = "call";
/// Its field that holds the number, in hexadecimal.
const FIELD: &str = "id";

/// Remembers the number of each call's span. Without it, and for spans that the log's level leaves out, [`current`] knows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Calls;

struct Number(u64);

#[derive(Default)]
struct Find(Option<u64>);

impl Visit for Find {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == FIELD {
            self.0 = u64::from_str_radix(&format!("{value:?}"), 16).ok();
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Calls {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().name() != SPAN {
            return;
        }
        let mut found = Find::default();
        attributes.record(&mut found);
        if let (Find(Some(number)), Some(span)) = (found, context.span(id)) {
            span.extensions_mut().insert(Number(number));
        }
    }
}

/// The call that the current span belongs to.
pub fn current() -> Option<u64> {
    Span::current()
        .with_subscriber(|(id, dispatch)| {
            let span = dispatch.downcast_ref::<Registry>()?.span(id)?;
            span.scope().find_map(|span| span.extensions().get::<Number>().map(|number| number.0))
        })
        .flatten()
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn work_below_a_calls_span_knows_its_number() {
        let subscriber = tracing_subscriber::fmt().with_writer(std::io::sink).finish().with(Calls);
        tracing::subscriber::with_default(subscriber, || {
            assert_eq!(current(), None);
            let call = tracing::info_span!("call", id = %format_args!("{:016x}", 0xabc_u64)).entered();
            assert_eq!(current(), Some(0xabc));
            let inner = tracing::info_span!("step").entered();
            assert_eq!(current(), Some(0xabc), "and what is below it");
            drop((inner, call));
            let other = tracing::info_span!("step", id = %"77").entered();
            assert_eq!(current(), None);
            drop(other);
        });
    }
}
