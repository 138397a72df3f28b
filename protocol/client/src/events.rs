//! Events: subscribe and publish.

use bosun_protocol::convert::read_list;
use bosun_protocol::{Wire, event_capnp};
use bosun_types::container::Any;
use bosun_types::event::{EventDelivery, EventFilter, EventSequence, EventStart};
use bosun_types::{NamespaceName, Result, Timestamp};

use crate::driver::Driver;
use crate::failure::{Failure, answer, results};
use crate::incoming::{Feed, Incoming, follow};
use crate::session::Session;

/// The events of the daemon, or of one namespace.
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
        let feed = Subscription { namespace: self.namespace.clone(), filter, start, until, opened: false };
        follow(&self.driver, feed).await
    }

    /// Publishes an event of one's own; durable when this returns.
    pub async fn publish(&self, namespace: NamespaceName, topic: String, payload: Any) -> Result<()> {
        let scope = self.namespace.clone();
        self.driver
            .call(move |session| async move {
                let mut request = events_of(&session, scope.as_ref()).publish_request();
                let mut params = request.get();
                params.set_namespace(namespace.as_str());
                params.set_topic(topic.as_str());
                payload.write(params.init_payload());
                answer!(_results, request);
                Ok(())
            })
            .await
    }
}

fn events_of(session: &Session, namespace: Option<&NamespaceName>) -> event_capnp::events::Client {
    match namespace {
        Some(namespace) => session.scope(namespace).events.clone(),
        None => session.bosun().events_request().send().pipeline.get_events(),
    }
}

struct Subscription {
    namespace: Option<NamespaceName>,
    filter: EventFilter,
    start: EventStart,
    until: EventSequence,
    opened: bool,
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
        if !self.opened && self.start == EventStart::Now {
            // Should the connection be lost before the first event: whatever came since this moment.
            self.start = EventStart::Time(Timestamp::now());
        }
        self.opened = true;
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
