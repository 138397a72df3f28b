//! `Events` and its cursors.

use std::rc::Rc;

use bosun_actors::events::{EventStream, EventsHandle};
use bosun_protocol::Wire;
use bosun_protocol::common_capnp::any;
use bosun_protocol::convert::{length, read_parsed, read_text, write_list};
use bosun_protocol::event_capnp::{event_cursor, events};
use bosun_types::call::CallRecord;
use bosun_types::container::Any;
use bosun_types::event::{Event, EventDelivery, EventFilter, EventSequence, EventStart};
use bosun_types::{CursorId, Error, NamespaceName, Timestamp};
use capnp_rpc::new_client;

use crate::connection::{Fault, Held, about, nothing};
use crate::cursor::{Lent, Source, batch};
use crate::page::{Wanted, label_bytes, paged};
use crate::reply;

/// About what a cursor takes in a message.
const CURSOR_BYTES: usize = 256;
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

impl Events {
    /// What a namespace's capability may publish in.
    fn reachable(&self, namespace: NamespaceName) -> Result<NamespaceName, Error> {
        match &self.only {
            Some(only) if *only != namespace => {
                Err(Error::permission_denied(format!("namespace {namespace} is out of reach")))
            }
            _ => Ok(namespace),
        }
    }

    /// What is published: where, under what topic, and what it says.
    fn published(
        &self,
        namespace: capnp::Result<capnp::text::Reader<'_>>,
        topic: capnp::Result<capnp::text::Reader<'_>>,
        payload: capnp::Result<any::Reader<'_>>,
    ) -> Result<(NamespaceName, String, Any), Fault> {
        Ok((self.reachable(read_parsed(namespace)?)?, read_text(topic)?, Any::read(payload?)?))
    }
}

/// The position of what a call has published.
async fn logged(record: CallRecord) -> Result<EventSequence, Error> {
    Ok(record.event)
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
            out.set_next(stream.position());
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
            let (namespace, topic, payload) =
                this.published(params.get_namespace(), params.get_topic(), params.get_payload())?;
            Ok(this.handle.publish(namespace, topic, payload).await?)
        };
        let outcome = self.held.once("event.publish", work, logged).await?;
        reply!(results, outcome, |sequence, out| out.set_sequence(sequence))
    }

    async fn forward(
        self: Rc<Self>,
        params: events::ForwardParams,
        mut results: events::ForwardResults,
    ) -> Done {
        let this = Rc::clone(&self);
        let work = async move {
            let params = params.get()?;
            let (namespace, topic, payload) =
                this.published(params.get_namespace(), params.get_topic(), params.get_payload())?;
            Ok(this.handle.forward(namespace, topic, payload, Timestamp(params.get_at())).await?)
        };
        let outcome = self.held.once("event.forward", work, logged).await?;
        reply!(results, outcome, |sequence, out| out.set_sequence(sequence))
    }

    async fn create_cursor(
        self: Rc<Self>,
        params: events::CreateCursorParams,
        mut results: events::CreateCursorResults,
    ) -> Done {
        let cursors = self.handle.cursors(self.only.clone());
        let work = async move {
            let params = params.get()?;
            let (id, start) = (read_parsed(params.get_id())?, EventStart::read(params.get_start()?)?);
            about(&id);
            Ok(cursors.create(id, start).await?)
        };
        let outcome = self.held.call("event.cursor", work).await?;
        reply!(results, outcome, |record, out| record.write(out.init_record()))
    }

    async fn ack_cursor(
        self: Rc<Self>,
        params: events::AckCursorParams,
        mut results: events::AckCursorResults,
    ) -> Done {
        let cursors = self.handle.cursors(self.only.clone());
        let work = async move {
            let params = params.get()?;
            Ok(cursors.acknowledge(read_parsed(params.get_id())?, params.get_sequence()).await?)
        };
        let outcome = self.held.call("event.acknowledge", work).await?;
        reply!(results, outcome, |record, out| record.write(out.init_record()))
    }

    async fn cursors(
        self: Rc<Self>,
        params: events::CursorsParams,
        mut results: events::CursorsResults,
    ) -> Done {
        let cursors = self.handle.cursors(self.only.clone());
        let work = async move {
            let wanted = Wanted::read(params.get()?.get_page()?)?;
            paged(cursors.list().await, &wanted, |record| record.id.to_string(), |_| CURSOR_BYTES)
        };
        let outcome = self.held.call("event.cursors", work).await?;
        reply!(results, outcome, |page, out| {
            write_list(&page.records, out.reborrow().init_records(length(&page.records)));
            page.write_next(out.init_page());
        })
    }

    async fn remove_cursor(
        self: Rc<Self>,
        params: events::RemoveCursorParams,
        mut results: events::RemoveCursorResults,
    ) -> Done {
        let cursors = self.handle.cursors(self.only.clone());
        let work = async move {
            let id: CursorId = read_parsed(params.get()?.get_id())?;
            about(&id);
            Ok(cursors.remove(id).await?)
        };
        let outcome = self.held.once("event.remove_cursor", work, nothing).await?;
        reply!(results, outcome)
    }
}

struct Stream(EventStream);

impl Source for Stream {
    type Item = EventDelivery;

    async fn next(&mut self) -> Result<Option<EventDelivery>, Error> {
        self.0.next().await
    }

    fn bytes(delivery: &EventDelivery) -> usize {
        let EventDelivery::Event(record) = delivery else { return EVENT_BYTES };
        EVENT_BYTES
            + match &record.event {
                Event::Custom { payload, .. } | Event::Forwarded { payload, .. } => {
                    payload.type_url.len() + payload.value.len()
                }
                Event::NamespaceCreate { labels, .. }
                | Event::NamespaceUpdate { labels, .. }
                | Event::ContainerUpdate { labels, .. }
                | Event::ImageCreate { labels, .. }
                | Event::ImageUpdate { labels, .. } => label_bytes(labels),
                _ => 0,
            }
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
