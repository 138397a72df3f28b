//! A subscriber with a named cursor, killed and started again together with the daemon, at random: every event, once, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bosun_client::{Client, EventFilter};
use bosun_tests::client::events;
use bosun_tests::world::{World, eventually};
use bosun_types::container::Any;
use bosun_types::event::{EventDelivery, EventSequence};
use bosun_types::{CursorId, NamespaceName};

use crate::kill::{Random, setting};

const PUBLISHERS: u64 = 3;

/// What a subscriber keeps of its own work, as a file or a database of its own would.
#[derive(Default)]
struct Done {
    sequences: Vec<EventSequence>,
    repeated: usize,
    /// The last that the daemon has confirmed as acknowledged.
    acknowledged: EventSequence,
}

impl Done {
    fn take(&mut self, sequence: EventSequence) {
        assert!(
            sequence > self.acknowledged,
            "{sequence} came again, {} was acknowledged",
            self.acknowledged
        );
        // The acknowledgement of the last may have been lost; never one before that.
        match self.sequences.last() {
            Some(last) if sequence <= *last => self.repeated += 1,
            _ => self.sequences.push(sequence),
        }
    }
}

/// One life of the subscriber: some events, each acknowledged; then it is gone.
async fn live(client: &Client, cursor: &CursorId, done: &mut Done, most: u64) -> bosun_types::Result<()> {
    let cursor = client.events().cursor(cursor.clone());
    let mut stream = cursor.subscribe(EventFilter::default()).await?;
    for _ in 0..most {
        // When there is nothing more, this life is over as well.
        let Ok(Some(delivery)) = tokio::time::timeout(Duration::from_millis(300), stream.next()).await else {
            break;
        };
        let EventDelivery::Event(event) = delivery? else { panic!("nothing is dropped here") };
        done.take(event.sequence);
        cursor.acknowledge(event.sequence).await?;
        done.acknowledged = event.sequence;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn evt_a_named_cursor_gives_every_event_once_in_order_over_kills_of_both_sides() {
    let seed = setting("BOSUN_SEED", u64::from(std::process::id()) + 1);
    println!("BOSUN_SEED={seed}");
    let mut random = Random(seed);
    let world = World::new();
    let mut daemon = world.start();
    let client = world.client().await;
    let id = CursorId::new("chaos").expect("good");
    client
        .events()
        .cursor(id.clone())
        .create(bosun_types::event::EventStart::Sequence(1))
        .await
        .expect("creates");
    let stop = Arc::new(AtomicBool::new(false));
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let payload = Any { type_url: "chaos".to_owned(), value: vec![7; 100] };
                    let topic = format!("/chaos/p{publisher}");
                    // One that is cut off by a kill is there or not: the log decides.
                    let _ = client.events().publish(NamespaceName::default_name(), topic, payload).await;
                }
            })
        })
        .collect();
    let subscriber = tokio::spawn({
        let (client, stop, id) = (client.clone(), Arc::clone(&stop), id.clone());
        let mut random = Random(seed ^ 0x5555);
        async move {
            let mut done = Done::default();
            while !stop.load(Ordering::SeqCst) {
                let _ = live(&client, &id, &mut done, random.next(40)).await;
            }
            done
        }
    });
    let (begin, mut kills) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_secs(setting("BOSUN_CHAOS_SECONDS", 5)) {
        tokio::time::sleep(Duration::from_millis(100 + random.next(500))).await;
        daemon.kill();
        daemon = world.start();
        kills += 1;
    }
    stop.store(true, Ordering::SeqCst);
    for publisher in publishers {
        publisher.await.expect("a publisher");
    }
    let mut done = subscriber.await.expect("a subscriber");
    let client = world.client().await;
    let log: Vec<EventSequence> = events(&client).await.iter().map(|event| event.sequence).collect();
    let newest = *log.last().expect("something was published");
    // The rest, in one last life.
    live(&client, &id, &mut done, u64::MAX).await.expect("reads to the end");
    println!("{kills} kills, {newest} events, {} came twice and were known", done.repeated);
    assert!(kills > 0 && newest > 50, "{kills} kills, {newest} events");
    assert!(done.sequences == log, "not every event once, in order: {:?}", differing(&done.sequences, &log));
    eventually("the cursor to be at the end", || async {
        client.events().cursors("id==chaos").await.is_ok_and(|found| found[0].position == newest)
    })
    .await;
}

fn differing(done: &[EventSequence], log: &[EventSequence]) -> Option<(usize, EventSequence, EventSequence)> {
    (0..).zip(done).zip(log).map(|((at, one), other)| (at, *one, *other)).find(|(_, one, other)| one != other)
}
