//! Events: published, followed, found again by their number.

use bosun_client::types::container::Any;
use bosun_client::types::event::{Event, EventDelivery, EventStart};
use bosun_client::{Client, EventFilter, Result};

/// Works in a namespace of its own.
pub async fn example(client: &Client) -> Result<()> {
    let events = client.namespace("example-events".parse()?).events();
    let mut live = events.subscribe(EventFilter::default(), EventStart::Now).await?;
    let payload = Any { type_url: "example.local/greeting".to_owned(), value: br#"{"to":"you"}"#.to_vec() };
    events.publish("example-events".parse()?, "/example/greeting".to_owned(), payload).await?;

    let EventDelivery::Event(record) = live.next().await.expect("it comes")? else {
        panic!("nothing is missed")
    };
    assert!(matches!(&record.event, Event::Custom { topic, .. } if topic == "/example/greeting"));

    // Again, from its number on, to its number.
    let filter = EventFilter { topics: vec!["/example".to_owned()], ..EventFilter::default() };
    let start = EventStart::Sequence(record.sequence);
    let mut again = client.events().read(filter, start, record.sequence).await?;
    assert!(matches!(again.next().await.expect("it is kept")?, EventDelivery::Event(same) if same == record));
    assert!(again.next().await.is_none());
    Ok(())
}
