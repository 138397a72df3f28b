//! The rows of namespaces, images and containers over the wire: validation, masks, times, errors (ID-*, NS-*, IMG-1..6, CTR-1..9, ERR-*).

use std::collections::BTreeMap;

use bosun_client::{Client, ErrorClass};
use bosun_types::container::{Any, ContainerRecord};
use bosun_types::content::Descriptor;
use bosun_types::image::ImageRecord;
use bosun_types::{Digest, Labels, NamespaceName, Result, Timestamp};

use crate::support::{Served, request, web};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn class<T: std::fmt::Debug>(outcome: Result<T>) -> ErrorClass {
    outcome.expect_err("refused").class
}

fn name(text: &str) -> NamespaceName {
    text.parse().expect("well formed")
}

fn image(text: &str) -> ImageRecord {
    ImageRecord {
        namespace: name("ignored"),
        name: text.parse().expect("well formed"),
        target: Descriptor { media_type: "m/t".to_owned(), digest: Digest::from_bytes([1; 32]), size: 7 },
        labels: labels(&[("a", "1"), ("b.c/d", "2")]),
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn img_1_to_6_id_6_to_11_image_records_are_checked_masked_and_stamped_by_the_daemon() {
    let served = Served::start().await;
    let client = served.client().await;
    let images = web(&client).images();
    let made = images.create(image("r.io/a:1")).await.expect("IMG-1: content is not looked for");
    assert_eq!(made.namespace, name("web"));
    assert!(made.created_at.0 > 1 && made.created_at == made.updated_at, "ID-11: the daemon's times");
    assert_eq!(class(images.create(image("r.io/a:1")).await), ErrorClass::AlreadyExists);
    for change in [
        (|image: &mut ImageRecord| image.target.size = 0) as fn(&mut ImageRecord),
        |image| image.target.media_type.clear(),
        |image| drop(image.labels.insert("k".to_owned(), "v".repeat(4096))),
        |image| drop(image.labels.insert(String::new(), "v".to_owned())),
    ] {
        let mut bad = image("r.io/bad:1");
        change(&mut bad);
        assert_eq!(class(images.create(bad.clone()).await), ErrorClass::InvalidArgument, "IMG-2: {bad:?}");
    }
    // ID-9, ID-8: one label by its whole key; an empty value removes.
    let mut change = made.clone();
    change.labels = labels(&[("b.c/d", ""), ("a", "ignored")]);
    let updated = images.update(change, &["labels.b.c/d"]).await.expect("updates");
    assert_eq!(updated.labels, labels(&[("a", "1")]));
    assert_eq!(updated.created_at, made.created_at, "ID-11");
    assert!(updated.updated_at > made.updated_at);
    // IMG-4: the target as a unit, and nothing else with it.
    let mut change = image("r.io/a:1");
    change.target.size = 9;
    change.labels = labels(&[("z", "1")]);
    let updated = images.update(change.clone(), &["target"]).await.expect("updates");
    assert_eq!((updated.target.size, &updated.labels), (9, &labels(&[("a", "1")])));
    let updated = images.update(change.clone(), &[]).await.expect("ID-10: all that may change");
    assert_eq!(updated.labels, labels(&[("z", "1")]));
    for path in ["name", "target.size", "created_at", "labels.", ""] {
        assert_eq!(
            class(images.update(change.clone(), &[path]).await),
            ErrorClass::InvalidArgument,
            "{path}"
        );
    }
    change.target.size = 0;
    assert_eq!(class(images.update(change, &["target"]).await), ErrorClass::InvalidArgument);
    assert_eq!(class(images.update(image("none"), &[]).await), ErrorClass::NotFound);
    let id = "r.io/a:1".parse::<bosun_types::ImageName>().expect("good");
    images.delete(id.clone()).await.expect("deletes");
    assert_eq!(class(images.delete(id.clone()).await), ErrorClass::NotFound, "IMG-5");
    assert_eq!(class(images.get(id).await), ErrorClass::NotFound, "IMG-3");
    let empty = client.namespace(name("empty")).images();
    assert_eq!(class(empty.delete("x".parse().expect("good")).await), ErrorClass::NotFound, "IMG-5");
}

#[tokio::test(flavor = "multi_thread")]
async fn ns_1_to_5_namespaces_come_with_their_first_write_and_are_changed_label_by_label() {
    let served = Served::start().await;
    let client = served.client().await;
    let made = client.create_namespace(name("web"), labels(&[("a", "1")])).await.expect("creates");
    let again = client.create_namespace(name("web"), Labels::new()).await;
    assert_eq!(class(again), ErrorClass::AlreadyExists, "NS-1");
    assert_eq!(class(client.namespace(name("none")).record().await), ErrorClass::NotFound, "NS-3, decided");
    client.namespace(name("implied")).images().create(image("x")).await.expect("NS-2: makes it");
    client
        .update_namespace(name("labelled"), labels(&[("a", "1")]), false)
        .await
        .expect("NS-2: so does a label");
    let all: Vec<String> =
        client.namespaces().await.expect("lists").iter().map(|record| record.name.to_string()).collect();
    assert_eq!(all, ["implied", "labelled", "web"], "NS-4");
    let changed = client.update_namespace(name("web"), labels(&[("b", "2")]), false).await.expect("NS-5");
    assert_eq!(changed.labels, labels(&[("a", "1"), ("b", "2")]));
    assert_eq!(changed.created_at, made.created_at);
    let changed = client.update_namespace(name("web"), labels(&[("a", "")]), false).await.expect("ID-8");
    assert_eq!(changed.labels, labels(&[("b", "2")]));
    let changed = client.update_namespace(name("web"), labels(&[("c", "3")]), true).await.expect("replaces");
    assert_eq!(changed.labels, labels(&[("c", "3")]));
    let huge = labels(&[("k", &"v".repeat(4096))]);
    assert_eq!(
        class(client.update_namespace(name("web"), huge, false).await),
        ErrorClass::InvalidArgument,
        "ID-6"
    );
    client.delete_namespace(name("web")).await.expect("deletes");
    assert_eq!(class(client.delete_namespace(name("web")).await), ErrorClass::NotFound, "NS-6");
    let refused = client.delete_namespace(name("implied")).await.expect_err("NS-6: an image is in it");
    assert_eq!(refused.class, ErrorClass::FailedPrecondition);
    assert!(refused.message.contains("1 images"), "{refused}");
}

async fn container(client: &Client, id: &str) -> ContainerRecord {
    web(client).containers().create(request(id).container).await.expect("creates")
}

#[tokio::test(flavor = "multi_thread")]
async fn ctr_1_to_5_id_7_a_container_is_a_checked_record_without_a_state() {
    let served = Served::start().await;
    let client = served.client().await;
    let containers = web(&client).containers();
    assert!(containers.list().await.expect("CTR-5: empty is no error").is_empty());
    let made = container(&client, "c1").await;
    assert_eq!((made.namespace.as_str(), made.runtime.name.as_str()), ("web", "bosun"));
    let task = containers.get(made.id.clone()).task();
    assert_eq!(class(task.info().await), ErrorClass::NotFound, "CTR-2: nothing runs");
    assert_eq!(class(containers.create(request("c1").container).await), ErrorClass::AlreadyExists);
    // ID-7, the original's hole: with a label, nothing else was checked.
    let labelled = || {
        let mut request = request("c2").container;
        request.labels = labels(&[("fine", "x")]);
        request
    };
    let mut bad = labelled();
    bad.labels.insert("z".to_owned(), "v".repeat(4096));
    assert_eq!(class(containers.create(bad).await), ErrorClass::InvalidArgument, "ID-6");
    let mut bad = labelled();
    bad.runtime.name.clear();
    assert_eq!(class(containers.create(bad).await), ErrorClass::InvalidArgument, "CTR-3");
    let mut bad = labelled();
    bad.extensions = BTreeMap::from([(String::new(), Any::default())]);
    assert_eq!(class(containers.create(bad).await), ErrorClass::InvalidArgument, "CTR-3");
    assert_eq!(containers.list().await.expect("lists").len(), 1);
    containers.get(made.id.clone()).delete(false).await.expect("deletes");
    assert_eq!(class(containers.get(made.id.clone()).delete(false).await), ErrorClass::NotFound, "CTR-4");
    assert_eq!(class(containers.get(made.id).record().await), ErrorClass::NotFound, "CTR-4");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctr_7_ctr_8_ctr_16_updates_change_what_they_name_and_never_what_is_fixed() {
    let served = Served::start().await;
    let client = served.client().await;
    let made = container(&client, "c1").await;
    let handle = web(&client).container(made.id.clone());
    let mut change = made.clone();
    change.labels = labels(&[("a", "1"), ("b", "2")]);
    change.image = Some("r.io/a:1".parse().expect("good"));
    let updated = handle.update(change.clone(), &["labels.a"]).await.expect("CTR-16: that label alone");
    assert_eq!((&updated.labels, &updated.image), (&labels(&[("a", "1")]), &None));
    assert_eq!(updated.created_at, made.created_at, "ID-11");
    let updated = handle.update(change.clone(), &["image"]).await.expect("CTR-8");
    assert_eq!(updated.image, change.image);
    let any = Any { type_url: "t".to_owned(), value: vec![1] };
    change.extensions = BTreeMap::from([("x".to_owned(), any.clone()), ("y".to_owned(), any.clone())]);
    let updated = handle.update(change.clone(), &["extensions.x"]).await.expect("CTR-8");
    assert_eq!(updated.extensions.keys().collect::<Vec<_>>(), ["x"]);
    let updated = handle.update(change.clone(), &[]).await.expect("CTR-7: all that may change");
    assert_eq!((updated.extensions.len(), updated.labels.len()), (2, 2));
    let mut fixed = change.clone();
    fixed.runtime.name = "runc".to_owned();
    assert_eq!(class(handle.update(fixed, &[]).await), ErrorClass::InvalidArgument, "CTR-7: immutable");
    let mut fixed = change.clone();
    fixed.snapshotter = Some("native".to_owned());
    assert_eq!(class(handle.update(fixed, &[]).await), ErrorClass::InvalidArgument, "CTR-7: immutable");
    for path in ["id", "runtime.name", "snapshotter", "created_at", "snapshotKey"] {
        assert_eq!(
            class(handle.update(change.clone(), &[path]).await),
            ErrorClass::InvalidArgument,
            "{path}"
        );
    }
}
