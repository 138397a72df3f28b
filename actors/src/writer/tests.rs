//! Which writes are under way together.

use std::sync::{Arc, Mutex};

use bosun_types::ErrorClass;
use futures::FutureExt as _;
use tokio::sync::Notify;

use super::*;
use crate::images::WRITER;
use crate::transfers::tests::World;

const DEADLINE: Duration = Duration::from_secs(30);

/// What was begun, in order; each waits for its gate.
#[derive(Clone, Default)]
struct Seen {
    begun: Arc<Mutex<Vec<&'static str>>>,
    moved: Arc<Notify>,
}

impl Seen {
    /// Work that says its name, and ends when the gate opens.
    fn work(
        &self,
        name: &'static str,
        gate: &Arc<Notify>,
    ) -> impl FnOnce(Shared) -> BoxFuture<'static, Result<()>> + use<> {
        let (seen, gate) = (self.clone(), Arc::clone(gate));
        move |_| {
            async move {
                seen.begun.lock().unwrap().push(name);
                seen.moved.notify_one();
                gate.notified().await;
                Ok(())
            }
            .boxed()
        }
    }

    fn begun(&self) -> Vec<&'static str> {
        self.begun.lock().unwrap().clone()
    }

    async fn until(&self, wanted: &[&'static str]) {
        while self.begun().len() < wanted.len() {
            self.moved.notified().await;
        }
        assert_eq!(self.begun(), wanted);
    }
}

fn row(name: &str) -> Key {
    bosun_storage::key::namespace(&name.parse().expect("good"))
}

#[tokio::test]
async fn revisions_of_different_rows_are_under_way_at_once_and_a_write_is_alone() {
    let world = World::new().await;
    let core = world.transfers("default").core();
    let (seen, gates) = (Seen::default(), [(); 5].map(|()| Arc::new(Notify::new())));
    let revise = |name: &'static str, of: &str, gate: &Arc<Notify>| {
        let (core, row, work) = (core.clone(), row(of), seen.work(name, gate));
        tokio::spawn(async move { revise(&core, &WRITER, row, DEADLINE, work).await })
    };
    let first = revise("a", "one", &gates[0]);
    seen.until(&["a"]).await;
    let second = revise("b", "two", &gates[1]);
    seen.until(&["a", "b"]).await;
    // Another of a row that is being revised, then a write, then a revision behind it: each waits for those before it.
    let third = revise("c", "one", &gates[2]);
    tokio::task::yield_now().await;
    let fourth = tokio::spawn({
        let (core, work) = (core.clone(), seen.work("write", &gates[3]));
        async move { write(&core, &WRITER, DEADLINE, work).await }
    });
    tokio::task::yield_now().await;
    let fifth = revise("d", "three", &gates[4]);
    tokio::task::yield_now().await;
    assert_eq!(seen.begun(), ["a", "b"]);
    gates[0].notify_one();
    first.await.expect("runs").expect("revises");
    seen.until(&["a", "b", "c"]).await;
    gates[2].notify_one();
    third.await.expect("runs").expect("revises");
    tokio::task::yield_now().await;
    assert_eq!(seen.begun(), ["a", "b", "c"], "the write waits for the second row");
    gates[1].notify_one();
    second.await.expect("runs").expect("revises");
    seen.until(&["a", "b", "c", "write"]).await;
    tokio::task::yield_now().await;
    assert_eq!(seen.begun().len(), 4, "nothing is done beside a write");
    gates[3].notify_one();
    fourth.await.expect("runs").expect("writes");
    seen.until(&["a", "b", "c", "write", "d"]).await;
    gates[4].notify_one();
    fifth.await.expect("runs").expect("revises");
}

#[tokio::test]
async fn a_revision_that_panics_is_told_and_the_writer_comes_back() {
    let world = World::new().await;
    let core = world.transfers("default").core();
    let work = |_: Shared| async { panic!("on purpose") };
    let told = revise::<(), _, _>(&core, &WRITER, row("one"), DEADLINE, work).await.expect_err("told");
    assert_eq!(told.class, ErrorClass::Unavailable, "{told}");
    // Its supervisor starts it again; until then it is unavailable.
    loop {
        match revise(&core, &WRITER, row("one"), DEADLINE, |_| async { Ok(7) }).await {
            Ok(done) => break assert_eq!(done, 7),
            Err(error) => assert_eq!(error.class, ErrorClass::Unavailable, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}
