//! Filters through the real daemon: each list and the events, over RPC and on the command line (FLT-*, and the filter rows of each noun).

use std::collections::BTreeMap;

use bosun_client::{Client, Filters, field, label};
use bosun_tests::client::{IMAGE, import, namespace, shell};
use bosun_tests::world::World;
use bosun_types::event::{EventDelivery, EventFilter, EventStart};
use bosun_types::{ErrorClass, NamespaceName};

async fn world_with_things() -> (World, bosun_tests::world::Daemon, Client) {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    for (name, tier) in [("web1", "web"), ("web2", "web"), ("db", "data")] {
        let mut request = shell(name, "exit 0");
        request.labels = BTreeMap::from([("team/tier".to_owned(), tier.to_owned())]);
        namespace(&client).containers().create(request).await.expect("creates");
    }
    (world, daemon, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn flt_lists_are_narrowed_by_the_daemon() {
    let (_world, _daemon, client) = world_with_things().await;
    let names = async |filters: Filters| -> Vec<String> {
        let records = namespace(&client).containers().list_where(filters).await.expect("lists");
        records.iter().map(|record| record.id.to_string()).collect()
    };
    assert_eq!(names(label("team/tier").equals("web").into()).await, ["web1", "web2"]);
    assert_eq!(names("labels.\"team/tier\"==web,id!=web1".into()).await, ["web2"]);
    assert_eq!(names(field("id").equals("db").or(field("id").matches("2$"))).await, ["db", "web2"]);
    assert_eq!(names(Filters::all()).await.len(), 3);
    assert_eq!(names("image==none".into()).await, [""; 0], "nothing is an empty list (CTR-5)");
    let images = namespace(&client).images().list_where(field("name").equals(IMAGE)).await.expect("lists");
    assert_eq!(images.len(), 1);
    let content = namespace(&client).content();
    let all = content.list().await.expect("lists");
    let one = all[0].digest.to_string();
    let found = content.list_where(field("digest").equals(&one)).await.expect("lists");
    assert_eq!((found.len(), found[0].digest.to_string()), (1, one));
    let snapshots = namespace(&client).default_snapshots();
    let active = snapshots.list_where("kind==active").await.expect("lists");
    assert_eq!(active.len(), 3);
    let here = client.namespaces_where(field("name").equals("default")).await.expect("lists");
    assert_eq!(here.len(), 1);
    assert!(client.namespaces_where("name==other").await.expect("lists").is_empty());
    let done = namespace(&client).transfers().list_where("state==done").await.expect("lists");
    assert!(done.iter().all(|transfer| transfer.state != bosun_types::transfer::TransferState::Running));
}

#[tokio::test(flavor = "multi_thread")]
async fn flt_8_ctr_5_evt_8_a_bad_filter_is_an_invalid_argument_with_its_place() {
    let (world, _daemon, client) = world_with_things().await;
    let error = namespace(&client).containers().list_where("id=x").await.expect_err("refused");
    assert_eq!(error.class, ErrorClass::InvalidArgument);
    assert_eq!(error.message, "filter [id >|=|< x]: unsupported operator \"=\"");
    let filter = EventFilter { filters: vec!["topic~=(".to_owned()], ..EventFilter::default() };
    let error = client.events().subscribe(filter, EventStart::Now).await.expect_err("refused");
    assert_eq!(error.class, ErrorClass::InvalidArgument);
    let output = world.bosun(&["ps", "--filter", "id=="]).output().expect("runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains(">||<") && told.contains("hint:"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn evt_8_events_of_all_namespaces_by_namespace_topic_and_field() {
    let (world, _daemon, client) = world_with_things().await;
    let other = NamespaceName::new("other").expect("good");
    client.create_namespace(other, BTreeMap::new()).await.expect("creates");
    let head = client.status().await.expect("answers").event_sequence;
    let told = async |filters: &[&str]| -> Vec<String> {
        let filters = filters.iter().map(ToString::to_string).collect();
        let filter = EventFilter { filters, ..EventFilter::default() };
        let mut stream = client.events().read(filter, EventStart::Sequence(1), head).await.expect("reads");
        let mut told = Vec::new();
        while let Some(delivery) = stream.next().await {
            if let EventDelivery::Event(record) = delivery.expect("reads") {
                told.push(format!("{}{}", record.namespace, record.event.topic()));
            }
        }
        told
    };
    assert_eq!(told(&["namespace==other"]).await, ["other/namespaces/create"]);
    assert_eq!(told(&["topic==/containers/create,event.id~=^web"]).await.len(), 2);
    assert_eq!(
        told(&["topic==/containers/create,event.id==db", "namespace==other"]).await,
        ["default/containers/create", "other/namespaces/create"]
    );
    assert_eq!(told(&["event.none"]).await, [""; 0], "it ends where the log was");
    let output = world
        .bosun(&["events", "--since", "1", "--no-follow", "--json", "-f", "topic==/containers/create"])
        .output()
        .expect("runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 3);
    let output = world.bosun(&["ps", "-a", "-q", "-f", "labels.\"team/tier\"==data"]).output().expect("runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "db\n");
}
