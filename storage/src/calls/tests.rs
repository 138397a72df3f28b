//! A call is remembered with what it did, for a while, and not without bound.

use std::sync::Arc;

use bosun_types::event::Event;
use bosun_types::namespace::NamespaceRecord;
use bosun_types::{CallKey, Labels, NamespaceName};

use super::*;
use crate::backend::memory::Memory;
use crate::batch::Batch;
use crate::store::Store;

fn id(number: usize) -> CallId {
    let key = CallKey::new(format!("key{number}")).expect("good");
    CallId { key, method: "namespace.create".to_owned(), subject: "web".to_owned() }
}

fn record(number: usize, at: i64) -> CallRecord {
    CallRecord { id: id(number), at: Timestamp(at), event: 0, exit: None }
}

#[tokio::test]
async fn a_call_is_remembered_in_the_commit_of_what_it_did_and_after_a_power_cut() {
    let backend = Arc::new(Memory::default());
    let store = Store::over(backend.clone()).expect("opens");
    let web = NamespaceName::new("web").expect("good");
    let mut batch = Batch::new();
    let labels = Labels::new();
    batch.put(&NamespaceRecord {
        name: web.clone(),
        labels,
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
    });
    batch.publish(&web, Event::NamespaceDelete { name: web.clone() }).finish_call(id(1));
    let committed = store.commit(batch).await.expect("commits");
    let known = store.call(&id(1)).expect("reads").expect("is remembered");
    assert_eq!((known.event, known.exit), (committed.events[0].sequence, None));
    assert_eq!(store.call(&id(2)).expect("reads"), None);
    let other = CallId { subject: "other".to_owned(), ..id(1) };
    assert_eq!(store.call(&other).expect("reads"), None, "of that thing alone");
    let store = Store::over(Arc::new(backend.after_power_cut())).expect("opens");
    assert!(store.call(&id(1)).expect("reads").is_some());
}

#[test]
fn the_oldest_are_dropped_by_number_and_by_age() {
    let hour = i64::try_from(CALLS_KEPT_FOR.as_nanos()).expect("fits");
    let mut calls = Calls::default();
    let add = |calls: &mut Calls, number: usize, at: i64| {
        let mut writes = Vec::new();
        let change = calls.stage(&[record(number, at)], Timestamp(at), &mut writes).expect("encodes");
        calls.apply(change);
        writes.iter().filter(|write| write.value.is_none()).map(|write| write.key.clone()).collect::<Vec<_>>()
    };
    for number in 0..CALLS_KEPT_MAX {
        assert!(add(&mut calls, number, 1).is_empty());
    }
    assert_eq!(add(&mut calls, CALLS_KEPT_MAX, 2), [key::call(&id(0))]);
    assert_eq!(calls.kept.len(), CALLS_KEPT_MAX);
    assert_eq!(
        add(&mut calls, CALLS_KEPT_MAX + 1, hour + 2).len(),
        DROP_STEP_MAX,
        "a step of those that are over"
    );
    assert!(is_over(Timestamp(1), Timestamp(hour + 2)) && !is_over(Timestamp(1), Timestamp(hour)));
    assert!(!is_over(Timestamp(9), Timestamp(1)), "a clock that was set back forgets nothing");
}
