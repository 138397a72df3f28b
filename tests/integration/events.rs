//! Events: dense, ordered, kept, resumable (I5, EVT-*).

use bosun_tests::client::{events, import, namespace, shell};
use bosun_tests::world::World;
use bosun_types::event::{EventDelivery, EventStart};
use bosun_types::task::TaskRequest;
use bosun_types::{ContainerId, NamespaceName};

#[tokio::test(flavor = "multi_thread")]
async fn i_5_a_life_is_told_in_order_without_gaps_and_again_after_a_restart() {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let run = bosun_client::RunRequest { container: shell("told", "exit 1"), task: TaskRequest::default() };
    namespace(&client).run(run).await.expect("runs").wait().await.expect("ends");
    let container = namespace(&client).container(ContainerId::new("told").expect("good"));
    container.task().delete().await.expect("deletes");
    container.delete(true).await.expect("deletes");
    let told = events(&client).await;
    assert!(told.iter().zip(1..).all(|(event, number)| event.sequence == number), "gaps");
    let topics: Vec<&str> = told
        .iter()
        .map(|event| event.event.topic())
        .filter(|topic| topic.starts_with("/tasks") || topic.starts_with("/containers"))
        .collect();
    assert_eq!(
        topics,
        [
            "/containers/create",
            "/tasks/create",
            "/tasks/start",
            "/tasks/exit",
            "/tasks/delete",
            "/containers/delete"
        ]
    );
    drop(client);
    daemon.kill();
    let _daemon = world.start();
    let client = world.client().await;
    let again = events(&client).await;
    assert_eq!(again[..told.len()], told);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_goes_on_from_a_number_and_filters() {
    let world = World::new();
    let _daemon = world.start();
    let client = world.client().await;
    for name in ["aa", "bb", "cc"] {
        client
            .create_namespace(NamespaceName::new(name).expect("good"), Default::default())
            .await
            .expect("creates");
    }
    let filter = bosun_client::EventFilter {
        namespaces: Some(vec![NamespaceName::new("cc").expect("good")]),
        ..Default::default()
    };
    let mut stream = client.events().subscribe(filter, EventStart::Sequence(2)).await.expect("subscribes");
    let Some(Ok(EventDelivery::Event(event))) = stream.next().await else { panic!("an event") };
    assert_eq!((event.sequence, event.namespace.as_str()), (3, "cc"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ns_6_a_namespace_in_use_is_not_deleted() {
    let world = World::new();
    let _daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let error = client.delete_namespace(NamespaceName::default_name()).await.expect_err("in use");
    assert_eq!(error.class, bosun_types::ErrorClass::FailedPrecondition);
    let empty = NamespaceName::new("empty").expect("good");
    client.create_namespace(empty.clone(), Default::default()).await.expect("creates");
    client.delete_namespace(empty).await.expect("deletes");
}
