//! `bosun events`.

use bosun_client::{Error, EventCursor, EventFilter};
use bosun_types::container::Any;
use bosun_types::event::{EventDelivery, EventRecord, EventSequence, EventStart};
use futures::FutureExt as _;

use crate::arguments::{CursorsCommand, Events, EventsCommand, Filter};
use crate::context::{self, Context};
use crate::output;

/// Prints what happened and what happens, or works with cursors.
pub async fn events(context: &Context, options: &Events) -> anyhow::Result<()> {
    match &options.command {
        Some(EventsCommand::Cursors { command: None }) => list_cursors(context, &Filter::default()).await,
        Some(EventsCommand::Cursors { command: Some(CursorsCommand::Ls { filter }) }) => {
            list_cursors(context, filter).await
        }
        Some(EventsCommand::Cursors { command: Some(CursorsCommand::Rm { cursors }) }) => {
            for id in cursors {
                context.client.events().cursor(id.parse()?).remove().await?;
                output::line(id);
            }
            Ok(())
        }
        Some(EventsCommand::Publish { topic, payload, type_url, forward }) => {
            let payload = Any { type_url: type_url.clone(), value: payload.clone().into_bytes() };
            publish(context, topic.clone(), payload, forward.as_deref()).await
        }
        None => follow(context, options).await,
    }
}

async fn publish(
    context: &Context,
    topic: String,
    payload: Any,
    forward: Option<&str>,
) -> anyhow::Result<()> {
    let (events, namespace) = (context.client.events(), context.namespace_name.clone());
    let sequence = match forward {
        Some(time) => events.forward(namespace, topic, payload, context::time(time)?).await?,
        None => events.publish(namespace, topic, payload).await?,
    };
    if context.json {
        return output::json_line(&serde_json::json!({ "sequence": sequence }));
    }
    output::line(sequence.to_string());
    Ok(())
}

/// What is gone: a line for programs too, or they would take what they see for everything.
fn missed(context: &Context, from: EventSequence, to: EventSequence) -> anyhow::Result<()> {
    let count = to - from + 1;
    if context.json {
        return output::json_line(
            &serde_json::json!({ "missed": { "from": from, "to": to, "count": count } }),
        );
    }
    output::note(format!("missed {count} events, {from} to {to}: they are no longer kept"));
    Ok(())
}

async fn follow(context: &Context, options: &Events) -> anyhow::Result<()> {
    let events = context.client.events();
    let head = context.client.status().await?.event_sequence;
    let cursor =
        options.cursor.as_deref().map(|id| Ok::<_, Error>(events.cursor(id.parse()?))).transpose()?;
    let mut start = match options.since.as_deref() {
        None if options.no_follow && cursor.is_none() => EventStart::Sequence(1),
        None => EventStart::Now,
        Some(text) => match text.parse::<u64>() {
            Ok(sequence) => EventStart::Sequence(sequence),
            Err(_) => EventStart::Time(context::time(text)?),
        },
    };
    if let Some(cursor) = &cursor {
        start = EventStart::Sequence(cursor.create(start).await?.position + 1);
    }
    if options.no_follow && (head == 0 || matches!(start, EventStart::Sequence(first) if first > head)) {
        return Ok(());
    }
    let filter = EventFilter {
        namespaces: (!options.all_namespaces).then(|| vec![context.namespace_name.clone()]),
        topics: options.topic.clone(),
        filters: options.filter.filters.clone(),
    };
    let until = if options.no_follow { head } else { 0 };
    let mut stream = events.read(filter, start, until).await?;
    let mut shown = None;
    loop {
        let next = match stream.next().now_or_never() {
            Some(next) => next,
            None => {
                // What has been shown is done, once for all that came together.
                acknowledge(cursor.as_ref(), shown.take()).await?;
                stream.next().await
            }
        };
        let Some(delivery) = next else { break };
        match delivery? {
            EventDelivery::Missed { from, to } => {
                missed(context, from, to)?;
                shown = Some(to);
            }
            EventDelivery::Event(event) => {
                print(context, &event)?;
                shown = Some(event.sequence);
            }
        }
    }
    // At the end everything was looked at, also what the filter did not want.
    acknowledge(cursor.as_ref(), if options.no_follow { Some(head) } else { shown }).await
}

async fn acknowledge(cursor: Option<&EventCursor>, shown: Option<EventSequence>) -> anyhow::Result<()> {
    if let (Some(cursor), Some(sequence)) = (cursor, shown) {
        cursor.acknowledge(sequence).await?;
    }
    Ok(())
}

async fn list_cursors(context: &Context, filter: &Filter) -> anyhow::Result<()> {
    let events = context.client.events();
    let (records, status) = tokio::try_join!(events.cursors(filter), context.client.status())?;
    context.list(&records, &["CURSOR", "POSITION", "BEHIND", "AGE", "IDLE"], |record| {
        vec![
            record.id.to_string(),
            record.position.to_string(),
            status.event_sequence.saturating_sub(record.position).to_string(),
            output::age(record.created_at),
            output::age(record.updated_at),
        ]
    })
}

fn print(context: &Context, event: &EventRecord) -> anyhow::Result<()> {
    if context.json {
        return output::json_line(event);
    }
    let value = serde_json::to_value(&event.event)?;
    let payload = value.get("payload").map(ToString::to_string).unwrap_or_default();
    output::line(format!(
        "{} {} {} {} {payload}",
        event.sequence,
        event.at,
        event.namespace,
        event.event.topic()
    ));
    Ok(())
}
