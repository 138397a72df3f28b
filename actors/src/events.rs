//! Events: durable subscriptions. A subscriber is a cursor over the event log, not a queue: it reads pages at its own pace, so a slow one never
//! grows the daemon, and one that comes back goes on where it was. What it waits for is the log's head.

use std::collections::VecDeque;

use bosun_filter::Filter;
use bosun_storage::batch::Batch;
use bosun_types::container::Any;
use bosun_types::event::{
    Event, EventDelivery, EventFilter, EventRecord, EventSequence, EventStart, validate_custom_topic,
};
use bosun_types::{NamespaceName, Result};

use crate::core::{Shared, blocking};

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
        let head = self.core.store.event_head();
        let next = match start {
            EventStart::Now => head + 1,
            EventStart::Sequence(sequence) => sequence.max(1),
            EventStart::Time(time) => {
                let store = self.core.store.clone();
                blocking(move || {
                    // Times grow with numbers, so the first event at or after a time is found by halving.
                    let (mut low, mut high) = (store.events_from(1, 1)?.oldest_kept, head + 1);
                    while low < high {
                        let middle = low + (high - low) / 2;
                        match store.events_from(middle, 1)?.events.first() {
                            Some(event) if event.at < time => low = middle + 1,
                            _ => high = middle,
                        }
                    }
                    Ok(low)
                })
                .await?
            }
        };
        let until = if until == 0 { EventSequence::MAX } else { until };
        Ok(EventStream { core: self.core.clone(), wish, next, until, ready: VecDeque::new() })
    }

    /// EVT-1: a client's own event, stamped with time and namespace.
    pub async fn publish(
        &self,
        namespace: NamespaceName,
        topic: String,
        payload: Any,
    ) -> Result<EventSequence> {
        validate_custom_topic(&topic)?;
        let mut batch = Batch::new();
        batch.publish(&namespace, Event::Custom { topic, payload });
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
