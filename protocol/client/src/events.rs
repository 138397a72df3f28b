//! Events: subscribe and publish.

use bosun_filter::Filters;
use bosun_protocol::convert::read_list;
use bosun_protocol::{Wire, event_capnp};
use bosun_types::container::Any;
use bosun_types::event::{CursorRecord, EventDelivery, EventFilter, EventSequence, EventStart};
use bosun_types::{CursorId, NamespaceName, Result, Timestamp};

use crate::daemon::all_pages;
use crate::driver::Driver;
use crate::failure::{Failure, answer, results};
use crate::incoming::{Feed, Incoming, follow};
use crate::session::Session;

/// The events of the daemon, or of one namespace.
///
/// ```no_run
#[doc = include_str!("../examples/tour/events.rs")]
/// ```
#[derive(Clone)]
pub struct Events {
    driver: Driver,
    namespace: Option<NamespaceName>,
}

impl Events {
    pub(crate) fn of_daemon(driver: Driver) -> Self {
        Self { driver, namespace: None }
    }

    pub(crate) fn of_namespace(driver: Driver, namespace: NamespaceName) -> Self {
        Self { driver, namespace: Some(namespace) }
    }

    /// Follows the events from `start` on; nothing published after this returns is missed, and a lost connection is taken up
    /// again behind the last one seen.
    pub async fn subscribe(&self, filter: EventFilter, start: EventStart) -> Result<Incoming<EventDelivery>> {
        self.read(filter, start, 0).await
    }

    /// As [`Self::subscribe`], and ends behind the position `until`; 0: it goes on.
    pub async fn read(
        &self,
        filter: EventFilter,
        start: EventStart,
        until: EventSequence,
    ) -> Result<Incoming<EventDelivery>> {
        let feed = Subscription { namespace: self.namespace.clone(), filter, start, until };
        follow(&self.driver, feed).await
    }

    /// A named cursor: where a subscriber is, kept by the daemon between the subscriber's lives and its own.
    pub fn cursor(&self, id: CursorId) -> EventCursor {
        EventCursor { events: self.clone(), id }
    }

    /// The cursors of this namespace's events, or of those of all.
    pub async fn cursors(&self, filters: impl Into<Filters>) -> Result<Vec<CursorRecord>> {
        let (scope, filters) = (self.namespace.clone(), filters.into());
        self.driver
            .call(move |session| async move {
                let events = events_of(&session, scope.as_ref());
                all_pages!(events, cursors_request, get_records, filters)
            })
            .await
    }

    /// Passes on an event that was published elsewhere at that time; durable when this returns, with its position here. It may have any topic: subscribers
    /// get it as [`bosun_types::event::Event::Forwarded`].
    pub async fn forward(
        &self,
        namespace: NamespaceName,
        topic: String,
        payload: Any,
        published_at: Timestamp,
    ) -> Result<EventSequence> {
        let scope = self.namespace.clone();
        self.driver
            .change(move |session| async move {
                let mut request = events_of(&session, scope.as_ref()).forward_request();
                let mut params = request.get();
                params.set_namespace(namespace.as_str());
                params.set_topic(topic.as_str());
                params.set_at(published_at.0);
                payload.write(params.init_payload());
                answer!(results, request);
                Ok(results.get_sequence())
            })
            .await
    }

    /// Publishes an event of one's own; durable when this returns, with its position. InvalidArgument: the topic is none, or one of the daemon's own; the
    /// payload has more than 256 KiB.
    pub async fn publish(
        &self,
        namespace: NamespaceName,
        topic: String,
        payload: Any,
    ) -> Result<EventSequence> {
        let scope = self.namespace.clone();
        self.driver
            .change(move |session| async move {
                let mut request = events_of(&session, scope.as_ref()).publish_request();
                let mut params = request.get();
                params.set_namespace(namespace.as_str());
                params.set_topic(topic.as_str());
                payload.write(params.init_payload());
                answer!(results, request);
                Ok(results.get_sequence())
            })
            .await
    }
}

/// A named place in the event log.
///
/// Subscribe, do what an event asks for, acknowledge it: whoever is killed in between, the next subscription begins behind the last acknowledged
/// event. Nothing is left out, in order; what was done and not acknowledged comes again.
#[derive(Clone)]
pub struct EventCursor {
    events: Events,
    id: CursorId,
}

impl EventCursor {
    /// The cursor as it is; made, with `start` as its next event, if there is none.
    pub async fn create(&self, start: EventStart) -> Result<CursorRecord> {
        let (scope, id) = (self.events.namespace.clone(), self.id.clone());
        self.events
            .driver
            .change(move |session| async move {
                let mut request = events_of(&session, scope.as_ref()).create_cursor_request();
                request.get().set_id(id.as_str());
                start.write(request.get().init_start());
                answer!(results, request);
                Ok(CursorRecord::read(results.get_record()?)?)
            })
            .await
    }

    /// Follows the events behind the last acknowledged one. A new cursor begins with what comes from now on.
    pub async fn subscribe(&self, filter: EventFilter) -> Result<Incoming<EventDelivery>> {
        let record = self.create(EventStart::Now).await?;
        self.events.subscribe(filter, EventStart::Sequence(record.position + 1)).await
    }

    /// Everything up to here is done; durable when this returns.
    pub async fn acknowledge(&self, sequence: EventSequence) -> Result<CursorRecord> {
        let (scope, id) = (self.events.namespace.clone(), self.id.clone());
        self.events
            .driver
            .change(move |session| async move {
                let mut request = events_of(&session, scope.as_ref()).ack_cursor_request();
                request.get().set_id(id.as_str());
                request.get().set_sequence(sequence);
                answer!(results, request);
                Ok(CursorRecord::read(results.get_record()?)?)
            })
            .await
    }

    /// Forgets it. NotFound when there is none.
    pub async fn remove(&self) -> Result<()> {
        let (scope, id) = (self.events.namespace.clone(), self.id.clone());
        self.events
            .driver
            .change(move |session| async move {
                let mut request = events_of(&session, scope.as_ref()).remove_cursor_request();
                request.get().set_id(id.as_str());
                answer!(_results, request);
                Ok(())
            })
            .await
    }
}

fn events_of(session: &Session, namespace: Option<&NamespaceName>) -> event_capnp::events::Client {
    match namespace {
        Some(namespace) => (*session.scope(namespace).events).clone(),
        None => session.bosun().events_request().send().pipeline.get_events(),
    }
}

struct Subscription {
    namespace: Option<NamespaceName>,
    filter: EventFilter,
    start: EventStart,
    until: EventSequence,
}

impl Feed for Subscription {
    type Item = EventDelivery;
    type Cursor = event_capnp::event_cursor::Client;

    async fn open(&mut self, session: &Session) -> Result<Self::Cursor, Failure> {
        let mut request = events_of(session, self.namespace.as_ref()).subscribe_request();
        let mut params = request.get();
        self.filter.write(params.reborrow().init_filter());
        params.set_until(self.until);
        self.start.write(params.init_start());
        answer!(results, request);
        // Should the connection be lost before the first event: from this one on.
        self.start = EventStart::Sequence(results.get_next());
        Ok(results.get_cursor()?)
    }

    async fn next(&mut self, cursor: &Self::Cursor) -> Result<(Vec<EventDelivery>, bool), Failure> {
        let response = cursor.next_request().send().promise.await?;
        let results = results!(response);
        let deliveries: Vec<EventDelivery> = read_list(results.get_deliveries())?;
        match deliveries.last() {
            Some(EventDelivery::Event(record)) => self.start = EventStart::Sequence(record.sequence + 1),
            Some(EventDelivery::Missed { to, .. }) => self.start = EventStart::Sequence(to + 1),
            None => {}
        }
        Ok((deliveries, results.get_end()))
    }
}
