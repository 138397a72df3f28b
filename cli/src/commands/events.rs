//! `bosun events`.

use bosun_client::EventFilter;
use bosun_types::event::{EventDelivery, EventRecord, EventStart};

use crate::arguments::Events;
use crate::context::{self, Context};
use crate::output;

/// Prints what happened and what happens.
pub async fn events(context: &Context, options: &Events) -> anyhow::Result<()> {
    let head = context.client.status().await?.event_sequence;
    let start = match options.since.as_deref() {
        None if options.no_follow => EventStart::Sequence(1),
        None => EventStart::Now,
        Some(text) => match text.parse::<u64>() {
            Ok(sequence) => EventStart::Sequence(sequence),
            Err(_) => EventStart::Time(context::time(text)?),
        },
    };
    if options.no_follow && (head == 0 || matches!(start, EventStart::Sequence(first) if first > head)) {
        return Ok(());
    }
    let filter = EventFilter {
        namespaces: (!options.all_namespaces).then(|| vec![context.namespace_name.clone()]),
        topics: options.topic.clone(),
        filters: options.filter.filters.clone(),
    };
    let until = if options.no_follow { head } else { 0 };
    let mut stream = context.client.events().read(filter, start, until).await?;
    while let Some(delivery) = stream.next().await {
        match delivery? {
            EventDelivery::Missed { from, to } => {
                output::note(format!("events {from} to {to} are no longer kept"))
            }
            EventDelivery::Event(event) => print(context, &event)?,
        }
    }
    Ok(())
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
