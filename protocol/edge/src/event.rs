//! `Events` and its cursors.

use std::rc::Rc;

use bosun_actors::events::{EventStream, EventsHandle};
use bosun_protocol::Wire;
use bosun_protocol::convert::{length, read_parsed, read_text, write_list};
use bosun_protocol::event_capnp::{event_cursor, events};
use bosun_types::container::Any;
use bosun_types::event::{EventDelivery, EventFilter, EventStart};
use bosun_types::{Error, NamespaceName};
use capnp_rpc::new_client;

use crate::connection::Held;
use crate::cursor::{Lent, Source, batch};
use crate::reply;

/// About what an event takes in a message without its labels and payload.
const EVENT_BYTES: usize = 512;

pub(crate) struct Events {
    held: Held,
    handle: EventsHandle,
    /// `Some`: nothing of other namespaces is seen or published, whatever is asked.
    only: Option<NamespaceName>,
}

impl Events {
    pub(crate) fn new(held: Held, handle: EventsHandle, only: Option<NamespaceName>) -> Self {
        Self { held, handle, only }
    }
}

type Done = Result<(), capnp::Error>;

impl events::Server for Events {
    async fn subscribe(
        self: Rc<Self>,
        params: events::SubscribeParams,
        mut results: events::SubscribeResults,
    ) -> Done {
        let held = Held::new(&self.held)?;
        let this = Rc::clone(&self);
        let work = async move {
            let params = params.get()?;
            let mut filter = EventFilter::read(params.get_filter()?)?;
            let start = EventStart::read(params.get_start()?)?;
            if let Some(only) = &this.only {
                let wanted = filter.namespaces.is_none_or(|names| names.contains(only));
                filter.namespaces = Some(if wanted { vec![only.clone()] } else { Vec::new() });
            }
            Ok(this.handle.subscribe(filter, start, params.get_until()).await?)
        };
        let outcome = self.held.call("event.subscribe", work).await?;
        reply!(results, outcome, |stream, out| {
            out.set_cursor(new_client(Cursor { held, stream: Lent::new(Stream(stream)) }));
        })
    }

    async fn publish(
        self: Rc<Self>,
        params: events::PublishParams,
        mut results: events::PublishResults,
    ) -> Done {
        let this = Rc::clone(&self);
        let work = async move {
            let params = params.get()?;
            let namespace: NamespaceName = read_parsed(params.get_namespace())?;
            if this.only.as_ref().is_some_and(|only| *only != namespace) {
                return Err(Error::permission_denied(format!("namespace {namespace} is out of reach")).into());
            }
            let (topic, payload) = (read_text(params.get_topic())?, Any::read(params.get_payload()?)?);
            this.handle.publish(namespace, topic, payload).await?;
            Ok(())
        };
        let outcome = self.held.call("event.publish", work).await?;
        reply!(results, outcome)
    }
}

struct Stream(EventStream);

impl Source for Stream {
    type Item = EventDelivery;

    async fn next(&mut self) -> Result<Option<EventDelivery>, Error> {
        self.0.next().await
    }

    fn bytes(_: &EventDelivery) -> usize {
        EVENT_BYTES
    }
}

struct Cursor {
    held: Held,
    stream: Lent<Stream>,
}

impl event_cursor::Server for Cursor {
    async fn next(
        self: Rc<Self>,
        params: event_cursor::NextParams,
        mut results: event_cursor::NextResults,
    ) -> Done {
        let max = params.get()?.get_max();
        let work = async {
            let mut stream = self.stream.borrow()?;
            batch(stream.get(), max).await
        };
        let outcome = self.held.wait("event.next", work).await?;
        reply!(results, outcome, |batch, out| {
            out.set_end(batch.end);
            write_list(&batch.items, out.init_deliveries(length(&batch.items)));
        })
    }
}
