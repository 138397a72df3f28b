//! What is dropped, and that times grow with numbers.

use std::time::Instant;

use bosun_types::NamespaceName;
use bosun_types::event::Event;

use super::*;
use crate::backend::memory::Memory;
use crate::batch::Batch;
use crate::store::Store;

fn web() -> NamespaceName {
    NamespaceName::new("web").expect("good")
}

fn event() -> Event {
    Event::NamespaceDelete { name: web() }
}

/// Events at these times, numbered from 1.
fn log(times: &[i64]) -> (Memory, Heads) {
    let backend = Memory::default();
    let writes: Vec<Write> = (1..)
        .zip(times)
        .map(|(sequence, at)| {
            let record = EventRecord { sequence, at: Timestamp(*at), namespace: web(), event: event() };
            let value = Some(codec::encode(&record).expect("encodes"));
            Write { table: Table::Events, key: key::event(sequence), value }
        })
        .collect();
    backend.apply(&writes).expect("memory does not fail");
    let heads = Heads { event: times.len() as u64, event_oldest: 1, ..Heads::default() };
    (backend, heads)
}

#[test]
fn the_first_young_enough_is_found_and_the_newest_is_always_kept() {
    const SECOND: i64 = 1_000_000_000;
    let (backend, heads) = log(&[SECOND, 2 * SECOND, 2 * SECOND, 3 * SECOND, 9 * SECOND]);
    let from = |age: Option<u64>, now: i64| {
        let retention = Retention { events_max: 10, age_max: age.map(Duration::from_secs) };
        retention.keep_from_by_age(&backend, heads, Timestamp(now * SECOND)).expect("reads")
    };
    assert_eq!(from(None, 1000), 1);
    assert_eq!(from(Some(1000), 9), 1);
    assert_eq!(from(Some(7), 9), 2, "as old as it may be");
    assert_eq!(from(Some(6), 9), 4);
    assert_eq!(from(Some(1), 9), 5);
    assert_eq!(from(Some(1), 1000), 5, "the newest stays: it says where the log is");
    assert_eq!(Retention { events_max: 2, age_max: None }.keep_from(5), 4);
    assert_eq!(Retention { events_max: 9, age_max: None }.keep_from(5), 1);
}

#[tokio::test]
async fn the_oldest_go_also_while_nobody_commits_and_a_reader_is_told_where_the_log_begins() {
    let store = Store::in_memory();
    for _ in 0..300 {
        let mut batch = Batch::new();
        batch.publish(&web(), event());
        store.commit(batch).await.expect("commits");
    }
    assert_eq!(store.events_from(1, 1000).expect("reads").events.len(), 300);
    store.retain_events(Retention { events_max: 10, age_max: None });
    let begun = Instant::now();
    let page = loop {
        let page = store.events_from(1, 1000).expect("reads");
        if page.events.len() == 10 {
            break page;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{} are left", page.events.len());
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!((page.oldest_kept, page.events[0].sequence), (291, 291));
    assert!(page.events.is_sorted_by_key(|event| event.at));
}

#[tokio::test]
async fn a_page_of_large_events_is_short_and_pages_together_are_the_log() {
    let store = Store::in_memory();
    for _ in 0..60 {
        let mut batch = Batch::new();
        let payload = bosun_types::container::Any { type_url: "t".to_owned(), value: vec![7; 100_000] };
        batch.publish(&web(), Event::Custom { topic: "/big".to_owned(), payload });
        store.commit(batch).await.expect("commits");
    }
    let (mut next, mut pages) = (1, 0);
    while next <= 60 {
        let page = store.events_from(next, 256).expect("reads");
        assert!(page.events.len() <= 42 && page.events[0].sequence == next);
        next = page.events.last().expect("some").sequence + 1;
        pages += 1;
    }
    assert_eq!(pages, 2);
}
