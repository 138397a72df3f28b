//! Events: durable subscriptions. A subscriber is a cursor over the event log, not a queue: it reads pages at its own pace, so a slow one never
//! grows the daemon, and one that comes back goes on where it was. What it waits for is the log's head.

use std::collections::VecDeque;

use bosun_filter::Filter;
use bosun_storage::batch::Batch;
use bosun_types::container::Any;
use bosun_types::event::{
    Event, EventDelivery, EventFilter, EventRecord, EventSequence, EventStart, validate_forwarded,
    validate_published,
};
use bosun_types::{NamespaceName, Result, Timestamp};

use crate::core::{Shared, blocking};
use crate::cursors::CursorsHandle;

/// Events read at a time.
const PAGE: usize = 256;

/// What a subscriber wants, ready to be asked.
struct Wish {
    asked: EventFilter,
    filter: Filter,
}

impl Wish {
    fn new(asked: EventFilter) -> Result<Self> {
        Ok(Self { filter: Filter::parse_all(&asked.filters)?, asked })
    }

    fn wants(&self, record: &EventRecord) -> bool {
        let Self { asked: EventFilter { namespaces, topics, .. }, filter } = self;
        namespaces.as_ref().is_none_or(|names| names.contains(&record.namespace))
            && (topics.is_empty()
                || topics.iter().any(|topic| record.event.topic().starts_with(topic.as_str())))
            && filter.matches(record)
    }
}

/// The event service.
#[derive(Clone)]
pub struct EventsHandle {
    core: Shared,
}

impl EventsHandle {
    pub(crate) fn new(core: Shared) -> Self {
        Self { core }
    }

    /// Starts a subscription that ends behind the position `until`; 0: it goes on. InvalidArgument: a filter is none (EVT-8).
    pub async fn subscribe(
        &self,
        filter: EventFilter,
        start: EventStart,
        until: EventSequence,
    ) -> Result<EventStream> {
        let wish = Wish::new(filter)?;
        let next = self.first(start).await?;
        let until = if until == 0 { EventSequence::MAX } else { until };
        Ok(EventStream { core: self.core.clone(), wish, next, until, ready: VecDeque::new() })
    }

    /// The first position that is wanted.
    pub(crate) async fn first(&self, start: EventStart) -> Result<EventSequence> {
        let head = self.core.store.event_head();
        let time = match start {
            EventStart::Now => return Ok(head + 1),
            EventStart::Sequence(sequence) => return Ok(sequence.max(1)),
            EventStart::Time(time) => time,
        };
        let store = self.core.store.clone();
        blocking(move || {
            let first = store.events_from(1, 1)?;
            let oldest = first.oldest_kept;
            // The log begins later than that time: what was of it is not known any more, so all that is gone is told as missed.
            if oldest > 1 && first.events.first().is_some_and(|event| event.at > time) {
                return Ok(1);
            }
            // Times grow with numbers, so the first event at or after a time is found by halving.
            let (mut low, mut high) = (oldest, head + 1);
            while low < high {
                let middle = low + (high - low) / 2;
                match store.events_from(middle, 1)?.events.first() {
                    Some(event) if event.at < time => low = middle + 1,
                    _ => high = middle,
                }
            }
            Ok(low)
        })
        .await
    }

    /// Named cursors: of one namespace, or of all.
    pub fn cursors(&self, namespace: Option<NamespaceName>) -> CursorsHandle {
        CursorsHandle::new(self.core.clone(), self.clone(), namespace)
    }

    /// EVT-1: a client's own event, stamped with time and namespace. InvalidArgument: its topic (EVT-3), or its payload is too large.
    pub async fn publish(
        &self,
        namespace: NamespaceName,
        topic: String,
        payload: Any,
    ) -> Result<EventSequence> {
        validate_published(&topic, &payload)?;
        self.log(&namespace, Event::Custom { topic, payload }).await
    }

    /// EVT-1, EVT-4: an event that was published elsewhere, at that time. InvalidArgument as for [`Self::publish`], and when the time is 0.
    pub async fn forward(
        &self,
        namespace: NamespaceName,
        topic: String,
        payload: Any,
        published_at: Timestamp,
    ) -> Result<EventSequence> {
        validate_forwarded(&topic, &payload, published_at)?;
        self.log(&namespace, Event::Forwarded { topic, payload, published_at }).await
    }

    async fn log(&self, namespace: &NamespaceName, event: Event) -> Result<EventSequence> {
        let mut batch = Batch::new();
        batch.publish(namespace, event);
        let committed = self.core.commit(batch).await?;
        Ok(committed.events.first().map_or(0, |event| event.sequence))
    }
}

/// A subscription.
pub struct EventStream {
    core: Shared,
    wish: Wish,
    next: EventSequence,
    until: EventSequence,
    ready: VecDeque<EventDelivery>,
}

impl EventStream {
    /// The first position that is looked at next.
    pub fn position(&self) -> EventSequence {
        self.next
    }

    /// The next delivery; waits for one. `None` behind the last position wanted, and when the daemon stops.
    pub async fn next(&mut self) -> Result<Option<EventDelivery>> {
        let mut head = self.core.store.watch_events();
        loop {
            if let Some(delivery) = self.ready.pop_front() {
                return Ok(Some(delivery));
            }
            if self.next > self.until {
                return Ok(None);
            }
            if *head.borrow_and_update() >= self.next {
                self.read_page().await?;
            } else if head.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    async fn read_page(&mut self) -> Result<()> {
        let (store, next) = (self.core.store.clone(), self.next);
        let page = blocking(move || Ok(store.events_from(next, PAGE)?)).await?;
        if page.oldest_kept > self.next {
            self.ready.push_back(EventDelivery::Missed { from: self.next, to: page.oldest_kept - 1 });
            self.next = page.oldest_kept;
        }
        for record in page.events {
            if record.sequence > self.until {
                self.next = record.sequence;
                break;
            }
            self.next = record.sequence + 1;
            if self.wish.wants(&record) {
                self.ready.push_back(EventDelivery::Event(record));
            }
        }
        Ok(())
    }
}
