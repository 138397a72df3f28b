//! Idempotency keys: the same call again is answered, not done again.

use bosun_protocol::daemon_capnp::bosun;
use bosun_protocol::{Wire, namespace_capnp};
use bosun_types::event::{Event, EventDelivery, EventStart};
use bosun_types::{Error, ErrorClass, Result};

use crate::hostile::with_bare_client_at;
use crate::support::{Served, request, web};

fn keyed(bosun: &bosun::Client, key: &str) -> namespace_capnp::namespace::Client {
    let mut request = bosun.namespace_request();
    request.get().set_id("web");
    let mut request = request.send().pipeline.get_namespace().with_key_request();
    request.get().set_key(key);
    request.send().pipeline.get_namespace()
}

/// What a call answered in its `error` field.
macro_rules! outcome {
    ($request:expr) => {{
        let response = $request.send().promise.await.expect("no exception");
        let results = response.get().expect("results");
        let outcome: Result<()> = if results.has_error() {
            Err(Error::read(results.get_error().expect("an error")).expect("reads"))
        } else {
            Ok(())
        };
        outcome
    }};
}

async fn create(bosun: &bosun::Client, key: &str, id: &str) -> Result<()> {
    let containers = keyed(bosun, key).containers_request().send().pipeline.get_containers();
    let mut call = containers.create_request();
    request(id).container.write(call.get().init_request());
    outcome!(call)
}

async fn delete(bosun: &bosun::Client, key: &str, id: &str) -> Result<()> {
    let containers = keyed(bosun, key).containers_request().send().pipeline.get_containers();
    let mut get = containers.get_request();
    get.get().set_id(id);
    outcome!(get.send().pipeline.get_container().delete_request())
}

async fn publish(bosun: &bosun::Client, key: &str, topic: &str) -> Result<u64> {
    let events = keyed(bosun, key).events_request().send().pipeline.get_events();
    let mut call = events.publish_request();
    call.get().set_namespace("web");
    call.get().set_topic(topic);
    call.get().init_payload().set_type_url("t");
    let response = call.send().promise.await.expect("no exception");
    let results = response.get().expect("results");
    if results.has_error() {
        return Err(Error::read(results.get_error().expect("an error")).expect("reads"));
    }
    Ok(results.get_sequence())
}

fn class<T: std::fmt::Debug>(outcome: Result<T>) -> ErrorClass {
    outcome.expect_err("refused").class
}

async fn published(served: &Served, topic: &str) -> usize {
    let client = served.client().await;
    let head = client.status().await.expect("answers").event_sequence;
    let start = EventStart::Sequence(1);
    let mut stream = client.events().read(Default::default(), start, head).await.expect("reads");
    let mut count = 0;
    while let Some(delivery) = stream.next().await {
        let EventDelivery::Event(record) = delivery.expect("reads") else { continue };
        count += usize::from(matches!(record.event, Event::Custom { .. }) && record.event.topic() == topic);
    }
    count
}

#[tokio::test]
async fn a_call_with_the_same_key_is_answered_with_the_firsts_result() {
    let served = Served::start().await;
    with_bare_client_at(served.socket(), async |bosun| {
        create(&bosun, "k1", "c1").await.expect("creates");
        create(&bosun, "k1", "c1").await.expect("is the same call");
        assert_eq!(class(create(&bosun, "k2", "c1").await), ErrorClass::AlreadyExists, "another call");
        delete(&bosun, "k3", "c1").await.expect("deletes");
        delete(&bosun, "k3", "c1").await.expect("is the same call");
        assert_eq!(class(delete(&bosun, "k4", "c1").await), ErrorClass::NotFound, "another call");
        let first = publish(&bosun, "k5", "/mine/a").await.expect("publishes");
        assert_eq!(publish(&bosun, "k5", "/mine/a").await.expect("is the same call"), first);
        assert!(publish(&bosun, "k6", "/mine/a").await.expect("another call") > first);
        assert_eq!(published(&served, "/mine/a").await, 2);
        // One key, several methods: each is done.
        create(&bosun, "k7", "c2").await.expect("creates");
        delete(&bosun, "k7", "c2").await.expect("deletes");
        for bad in ["", "a/b", &"k".repeat(77)] {
            let mut request = bosun.with_key_request();
            request.get().set_key(bad);
            assert_eq!(class(outcome!(request)), ErrorClass::InvalidArgument, "{bad:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_failed_was_not_done_and_may_be_tried_again_under_its_key() {
    let served = Served::start().await;
    with_bare_client_at(served.socket(), async |bosun| {
        assert_eq!(class(delete(&bosun, "k1", "c1").await), ErrorClass::NotFound);
        create(&bosun, "k2", "c1").await.expect("creates");
        delete(&bosun, "k1", "c1").await.expect("deletes");
        assert_eq!(class(publish(&bosun, "k3", "/tasks/exit").await), ErrorClass::InvalidArgument);
        publish(&bosun, "k3", "/mine/b").await.expect("publishes");
    })
    .await;
}

#[tokio::test]
async fn equal_calls_under_way_at_the_same_time_are_one() {
    let served = Served::start().await;
    with_bare_client_at(served.socket(), async |bosun| {
        let calls = (0..20).map(|_| publish(&bosun, "k1", "/mine/c"));
        let sequences: Vec<u64> = futures::future::join_all(calls)
            .await
            .into_iter()
            .map(|outcome| outcome.expect("publishes"))
            .collect();
        assert!(sequences.windows(2).all(|pair| pair[0] == pair[1]), "{sequences:?}");
        assert_eq!(published(&served, "/mine/c").await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_started_container_is_started_once_under_its_key() {
    let served = Served::start().await;
    let client = served.client().await;
    let pid = web(&client).run(request("c1")).await.expect("runs").pid();
    with_bare_client_at(served.socket(), async |bosun| {
        // As a client that lost the answers of its run, with another key: refused; and a start that is repeated: answered.
        let containers = keyed(&bosun, "k1").containers_request().send().pipeline.get_containers();
        let mut get = containers.get_request();
        get.get().set_id("c1");
        let task = get.send().pipeline.get_container().task_request().send().pipeline.get_task();
        let process: bosun_protocol::task_capnp::process::Client =
            capnp::capability::FromClientHook::cast_to(task);
        assert_eq!(class(outcome!(process.start_request())), ErrorClass::FailedPrecondition);
        let mut again = keyed(&bosun, "k1").with_key_request();
        again.get().set_key("k1");
        again.get().set_again(true);
        let containers =
            again.send().pipeline.get_namespace().containers_request().send().pipeline.get_containers();
        let mut get = containers.get_request();
        get.get().set_id("c1");
        let task = get.send().pipeline.get_container().task_request().send().pipeline.get_task();
        let process: bosun_protocol::task_capnp::process::Client =
            capnp::capability::FromClientHook::cast_to(task);
        let response = process.start_request().send().promise.await.expect("no exception");
        assert_eq!(response.get().expect("results").get_pid(), pid);
    })
    .await;
}
