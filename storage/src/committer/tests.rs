//! What the committer promises when writing fails: told success means durable, told failure means not there, and a doubt is called one.

use std::sync::Arc;

use bosun_types::event::Event;
use bosun_types::namespace::NamespaceRecord;
use bosun_types::operation::{Intent, OperationRecord, OperationStatus};
use bosun_types::{Labels, NamespaceName, OperationId, SnapshotKey, Timestamp};

use super::*;
use crate::backend::memory::{Fault, Memory};
use crate::key::Key;
use crate::store::{Store, StoreHealth};

fn put(name: &str) -> Batch {
    let name = NamespaceName::new(name).expect("good");
    let mut batch = Batch::new();
    batch
        .put(&NamespaceRecord {
            name: name.clone(),
            labels: Labels::new(),
            created_at: Timestamp(1),
            updated_at: Timestamp(2),
        })
        .publish(&name, Event::NamespaceDelete { name: name.clone() });
    batch
}

fn names(backend: Memory) -> Vec<String> {
    let store = Store::over(Arc::new(backend)).expect("opens");
    let rows = store.scan::<NamespaceRecord>(&Key::all()).expect("scans");
    rows.iter().map(|row| row.name.to_string()).collect()
}

/// One failure of any kind is healed unseen: the group is written once more, and it is durable, not only written.
#[tokio::test]
async fn one_failed_write_is_made_again_and_nobody_notices() {
    for fault in [Fault::BeforeWrite, Fault::BeforeSync, Fault::AfterSync] {
        let backend = Arc::new(Memory::default());
        let store = Store::over(backend.clone()).expect("opens");
        store.commit(put("first")).await.expect("commits");
        backend.inject([fault]);
        let committed = store.commit(put("second")).await.expect("commits");
        assert_eq!((committed.sequence, committed.events[0].sequence), (2, 2), "{fault:?}");
        assert_eq!(names(backend.after_power_cut()), ["first", "second"], "{fault:?}");
        assert_eq!(store.health(), StoreHealth::Writable);
    }
}

#[tokio::test]
async fn told_failure_means_not_there_and_its_numbers_are_given_again() {
    let backend = Arc::new(Memory::default());
    let store = Store::over(backend.clone()).expect("opens");
    backend.inject([Fault::BeforeWrite, Fault::BeforeWrite]);
    let error = store.commit(put("lost")).await.expect_err("fails");
    assert!(matches!(error, StoreError::Commit { .. }), "{error}");
    assert!(matches!(store.health(), StoreHealth::ReadOnly { .. }), "it says why");
    let committed = store.commit(put("kept")).await.expect("commits");
    assert_eq!((committed.sequence, committed.events[0].sequence), (1, 1));
    assert_eq!(names(backend.after_crash()), ["kept"]);
    assert_eq!(store.health(), StoreHealth::Writable);
}

/// The bytes are in the journal, no sync ever succeeded: neither success nor failure would be true. And the next commit must not take
/// the numbers of the one in doubt.
#[tokio::test]
async fn i_5_a_doubt_is_called_one_and_its_numbers_are_not_given_again() {
    let backend = Arc::new(Memory::default());
    let store = Store::over(backend.clone()).expect("opens");
    backend.inject([Fault::BeforeSync, Fault::BeforeSync]);
    let error = store.commit(put("maybe")).await.expect_err("fails");
    assert!(matches!(error, StoreError::InDoubt { .. }), "{error}");
    let committed = store.commit(put("after")).await.expect("commits");
    assert_eq!((committed.sequence, committed.events[0].sequence), (2, 2));
    let page = store.events_from(1, 10).expect("reads");
    assert_eq!(page.events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(names(backend.after_power_cut()), ["after", "maybe"]);
}

#[tokio::test]
async fn while_the_database_does_not_open_again_commits_fail_and_then_it_heals() {
    let backend = Arc::new(Memory::default());
    let store = Store::over(backend.clone()).expect("opens");
    backend.inject([Fault::BeforeSync]);
    backend.refuse_reopens(2);
    let error = store.commit(put("maybe")).await.expect_err("fails");
    assert!(matches!(error, StoreError::InDoubt { .. }), "{error}");
    let error = store.commit(put("refused")).await.expect_err("fails");
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
    assert_eq!(store.commit(put("after")).await.expect("commits").sequence, 2);
    assert_eq!(names(backend.after_power_cut()), ["after", "maybe"]);
}

#[tokio::test]
async fn the_last_write_of_a_key_in_a_group_wins() {
    let store = Store::in_memory();
    let mut batch = put("twice");
    batch.delete::<NamespaceRecord>(key::namespace(&NamespaceName::new("twice").expect("good")));
    store.commit(batch).await.expect("commits");
    assert!(store.scan::<NamespaceRecord>(&Key::all()).expect("scans").is_empty());
    let write = |value: Option<Vec<u8>>| Write { table: Table::Meta, key: Key::all(), value };
    assert_eq!(last_wins(vec![write(Some(vec![1])), write(None)]), [write(None)]);
}

/// Numbers that are taken while other commits are in flight: whichever batch becomes durable, the bound that covers its numbers does too.
#[tokio::test]
async fn i_7_a_number_in_a_durable_batch_is_never_given_again() {
    let backend = Arc::new(Memory::default());
    let store = Store::over(backend.clone()).expect("opens");
    let mut highest = 0;
    for number in 0..3000 {
        highest = store.next_directory();
        if number % 500 == 0 {
            store.commit(Batch::new()).await.expect("commits");
            let next = Store::over(Arc::new(backend.after_power_cut())).expect("opens").next_directory();
            assert!(next > highest, "{next} after {highest}");
        }
    }
    assert_eq!(highest, 3000);
}

#[test]
fn times_in_the_event_log_never_go_back() {
    let later = Timestamp(Timestamp::now().0 + 3_600_000_000_000);
    let mut heads = Heads { event_at: later, ..Heads::default() };
    let committed = stage(put("team.web"), &mut heads, &mut Vec::new()).expect("stages");
    assert_eq!((committed.events[0].at, heads.event_at), (later, later), "the clock was set back by an hour");
    assert_eq!(Heads::decode(&heads.encode()), Some(heads));
}

#[test]
fn evt_retention_drops_the_oldest_in_small_steps() {
    let mut heads = Heads { event: 1100, event_oldest: 1, ..Heads::default() };
    let keep_from = Retention { events_max: 1000, age_max: None }.keep_from(heads.event);
    let mut writes = Vec::new();
    let mut trim = || retention::trim(&mut heads, &mut writes, keep_from, TRIM_STEP_MAX);
    trim();
    trim();
    trim();
    let mut first = (Heads { event_oldest: 1, ..Heads::default() }, Vec::new());
    retention::trim(&mut first.0, &mut first.1, keep_from, TRIM_STEP_MAX);
    assert_eq!((first.0.event_oldest, first.1.len() as u64), (1 + TRIM_STEP_MAX, TRIM_STEP_MAX));
    assert_eq!((heads.event_oldest, writes.len()), (101, 100));
}

#[test]
fn f_8_what_frees_space_is_never_held_back() {
    let key = || SnapshotKey::new("k").expect("good");
    let operation = |intent| OperationRecord {
        id: OperationId(1),
        namespace: NamespaceName::default_name(),
        intent,
        boot_id: String::new(),
        opened_at: Timestamp(0),
        status: OperationStatus::Forward,
        attempts: 0,
        call: None,
    };
    let grows = |intent| {
        let mut batch = Batch::new();
        batch.open_operation(&operation(intent));
        batch.grows
    };
    let snapshotter = || "overlayfs".to_owned();
    assert!(grows(Intent::PrepareSnapshot { snapshotter: snapshotter(), key: key(), directory: 1 }));
    assert!(!grows(Intent::RemoveSnapshot { snapshotter: snapshotter(), key: key(), directory: 1 }));
}

/// A riding batch causes no sync of its own, and whatever is committed after it takes it along.
#[tokio::test]
async fn what_is_queued_after_a_riding_batch_is_durable_no_earlier() {
    let backend = Arc::new(Memory::default());
    let store = Store::over(backend.clone()).expect("opens");
    for round in 0..50 {
        store.ride(put(&format!("rider{round}"))).expect("queues");
        let committed = store.commit(put(&format!("waiter{round}"))).await.expect("commits");
        assert_eq!(committed.sequence, round * 2 + 2, "in the order of the queue");
        let there = names(backend.after_power_cut());
        assert!(there.contains(&format!("rider{round}")), "{there:?}");
    }
}

#[test]
fn a_riding_batch_goes_alone_when_nothing_comes_and_with_the_close() {
    let backend = Arc::new(Memory::default());
    let store = Store::over(backend.clone()).expect("opens");
    let mut head = store.watch_events();
    store.ride(put("alone")).expect("queues");
    while *head.borrow_and_update() < 1 {
        std::thread::yield_now();
    }
    store.ride(put("last")).expect("queues");
    store.close();
    assert_eq!(names(backend.after_power_cut()), ["alone", "last"]);
}

/// EVT-11: the original publishes after it has stored, and one can fail without the other. Here they are one commit.
#[tokio::test]
async fn evt_11_a_row_and_its_event_are_there_together_or_not_at_all() {
    let faults = [Fault::BeforeWrite, Fault::BeforeSync, Fault::AfterSync];
    for (first, second) in faults.into_iter().flat_map(|first| faults.map(|second| (first, second))) {
        let backend = Arc::new(Memory::default());
        let store = Store::over(backend.clone()).expect("opens");
        backend.inject([first, second]);
        let told = store.commit(put("row")).await;
        for left in [backend.after_crash(), backend.after_power_cut()] {
            let store = Store::over(Arc::new(left)).expect("opens");
            let rows = store.scan::<NamespaceRecord>(&Key::all()).expect("scans").len();
            let events = store.events_from(1, 10).expect("reads").events.len();
            assert_eq!(rows, events, "{first:?} {second:?}");
            assert!(told.is_err() || rows == 1, "{first:?} {second:?}: told success");
        }
    }
}
