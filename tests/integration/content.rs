//! Content through the real daemon: the upstream conformance list (CON-26) and the rows CON-1..25.

use std::io::Cursor;

use bosun_client::{Client, Content, ContentWriter};
use bosun_storage::image::digest_of;
use bosun_tests::client::{events, import, namespace};
use bosun_tests::world::{Daemon, World, eventually};
use bosun_types::event::Event;
use bosun_types::{Digest, ErrorClass, Labels, NamespaceName};
use bytes::Bytes;

struct Store {
    world: World,
    daemon: Daemon,
    client: Client,
    content: Content,
}

async fn store() -> Store {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    let content = namespace(&client).content();
    Store { world, daemon, client, content }
}

fn other(client: &Client) -> Content {
    client.namespace(NamespaceName::new("other").expect("good")).content()
}

/// Bytes that do not repeat within a window.
fn blob(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn open(content: &Content, reference: &str) -> ContentWriter {
    content.open_writer(reference.to_owned(), 0, None).await.expect("opens")
}

async fn put(content: &Content, bytes: &[u8]) -> Digest {
    let digest = digest_of(bytes);
    let source = Cursor::new(bytes.to_vec());
    content
        .write_blob(digest.to_string(), source, bytes.len() as u64, Some(digest), Labels::new())
        .await
        .expect("writes");
    digest
}

#[tokio::test(flavor = "multi_thread")]
async fn con_26_writer() {
    let store = store().await;
    for (number, length) in [(1, 10_u64), (2, 300_000), (3, 3_000_001)] {
        let bytes = blob(number, usize::try_from(length).expect("small"));
        let digest = digest_of(&bytes);
        let reference = format!("c{number}");
        let mut writer = store.content.writer(reference.clone(), length, Some(digest)).await.expect("opens");
        writer.write(bytes.clone().into()).await.expect("writes");
        let status = writer.status().await.expect("a status");
        assert_eq!((status.offset, status.total, status.expected), (length, length, Some(digest)));
        assert_eq!(status.digest, Some(digest));
        let record = writer.commit(length, Some(digest), labels(&[("a", "b")])).await.expect("commits");
        assert_eq!((record.digest, record.size, &record.labels), (digest, length, &labels(&[("a", "b")])));
        assert!(record.created_at.0 > 0 && record.created_at == record.updated_at);
        let file = store.world.places().root.join("content/blobs/sha256").join(digest.hex());
        assert_eq!(std::fs::read(file).expect("CON-2: it is there"), bytes);
        assert_eq!(store.content.info(digest).await.expect("is known"), record);
        let gone = store.content.status(reference).await.expect_err("no more an ingest");
        assert_eq!(gone.class, ErrorClass::NotFound);
    }
    assert_eq!(store.content.list().await.expect("lists").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn con_26_update_status() {
    let store = store().await;
    let mut writer = open(&store.content, "r").await;
    let first = store.content.status("r".to_owned()).await.expect("CON-21");
    assert_eq!((first.reference.as_str(), first.offset, first.digest), ("r", 0, None));
    writer.write(Bytes::from_static(b"one")).await.expect("writes");
    assert_eq!(writer.status().await.expect("a status").offset, 3);
    let second = store.content.status("r".to_owned()).await.expect("a status");
    assert_eq!((second.offset, second.started_at), (3, first.started_at));
    assert!(second.updated_at >= first.updated_at);
    writer.restart().await.expect("truncates");
    assert_eq!((writer.offset(), writer.status().await.expect("a status").offset), (0, 0));
    assert_eq!(store.content.statuses().await.expect("lists").len(), 1);
    assert!(other(&store.client).statuses().await.expect("lists").is_empty(), "refs are namespaced");
    assert_eq!(store.content.statuses_where("ref==s").await.expect("lists"), []);
    assert_eq!(store.content.statuses_where("ref~=^r$").await.expect("lists").len(), 1);
}

/// Half is written and left; a new writer finds it and goes on in one of the ways.
async fn resumed(reference: &str, bytes: &[u8]) -> (Store, ContentWriter) {
    let store = store().await;
    let half = bytes.len() / 2;
    let mut writer = open(&store.content, reference).await;
    writer.write(bytes[..half].to_vec().into()).await.expect("writes");
    writer.status().await.expect("stored");
    drop(writer);
    let writer = open(&store.content, reference).await;
    assert_eq!(writer.offset(), half as u64, "CON-22: what was written is kept");
    let status = writer.status().await.expect("a status");
    assert_eq!(status.digest, Some(digest_of(&bytes[..half])), "CON-15: hashed again");
    (store, writer)
}

async fn finished(store: &Store, writer: ContentWriter, bytes: &[u8]) {
    let (size, digest) = (bytes.len() as u64, digest_of(bytes));
    writer.commit(size, Some(digest), Labels::new()).await.expect("commits");
    assert_eq!(store.content.read_all(digest, bytes.len()).await.expect("reads"), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn con_26_resume_and_resume_truncate() {
    let bytes = blob(4, 2_000_000);
    let (store, mut writer) = resumed("r", &bytes).await;
    writer.write(bytes[1_000_000..].to_vec().into()).await.expect("writes");
    finished(&store, writer, &bytes).await;
    let (store, mut writer) = resumed("r", &bytes).await;
    writer.restart().await.expect("truncates");
    writer.write(bytes.clone().into()).await.expect("writes");
    finished(&store, writer, &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn con_26_con_23_resume_discard_copy_copy_seeker_copy_reader_at() {
    let bytes = blob(5, 2_000_001);
    let (store, mut writer) = resumed("r", &bytes).await;
    // Nothing but AsyncRead: what is there is read and dropped.
    let mut plain = tokio::io::AsyncReadExt::take(&bytes[..], u64::MAX);
    writer.copy_from(&mut plain).await.expect("copies");
    finished(&store, writer, &bytes).await;
    let (store, mut writer) = resumed("r", &bytes).await;
    writer.copy_from_seekable(&mut Cursor::new(&bytes)).await.expect("copies");
    finished(&store, writer, &bytes).await;
    let (store, mut writer) = resumed("r", &bytes).await;
    let rest = bytes.clone();
    writer
        .copy_from_offset(async move |offset| {
            Ok(Cursor::new(rest[usize::try_from(offset).expect("small")..].to_vec()))
        })
        .await
        .expect("copies");
    finished(&store, writer, &bytes).await;
    let (_store, mut writer) = resumed("r", &bytes).await;
    let error = writer.copy_from(&mut &bytes[..10]).await.expect_err("too short");
    assert_eq!(error.class, ErrorClass::OutOfRange);
}

#[tokio::test(flavor = "multi_thread")]
async fn con_26_con_8_small_blob_and_reads_at_offsets() {
    let store = store().await;
    let bytes = blob(6, 42);
    let digest = put(&store.content, &bytes).await;
    let read = async |offset, size| -> bosun_types::Result<Vec<u8>> {
        let mut incoming = store.content.read(digest, offset, size)?;
        let mut all = Vec::new();
        while let Some(chunk) = incoming.next().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all)
    };
    assert_eq!(read(0, 0).await.expect("reads"), bytes);
    assert_eq!(read(0, 43).await.expect("a size beyond the end is the end"), bytes);
    assert_eq!(read(0, u64::MAX).await.expect("reads"), bytes);
    assert_eq!(read(40, 1).await.expect("reads"), bytes[40..41]);
    assert_eq!(read(40, 0).await.expect("reads"), bytes[40..]);
    assert_eq!(read(42, 0).await.expect("the end is an offset"), [0; 0]);
    assert_eq!(read(43, 0).await.expect_err("beyond").class, ErrorClass::OutOfRange);
    let empty = put(&store.content, b"").await;
    assert_eq!(store.content.read_all(empty, 0).await.expect("reads"), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn con_26_con_5_labels() {
    let store = store().await;
    let mut writer = open(&store.content, "r").await;
    writer.write(Bytes::from_static(b"labelled")).await.expect("writes");
    let record = writer.commit(0, None, labels(&[("k1", "v1"), ("k.2", "v2")])).await.expect("commits");
    let digest = record.digest;
    let update = async |given: &[(&str, &str)], replace| {
        let updated = store.content.update_labels(digest, labels(given), replace).await.expect("updates");
        assert_eq!(updated.created_at, record.created_at, "ID-11");
        assert!(updated.updated_at > record.updated_at);
        assert_eq!(store.content.info(digest).await.expect("is known"), updated);
        updated.labels
    };
    assert_eq!(update(&[("k.2", "new")], false).await, labels(&[("k1", "v1"), ("k.2", "new")]));
    assert_eq!(update(&[("k1", "")], false).await, labels(&[("k.2", "new")]), "ID-8");
    assert_eq!(update(&[("only", "this")], true).await, labels(&[("only", "this")]));
    assert_eq!(update(&[], true).await, Labels::new());
    let huge = labels(&[("fine", "x"), ("k", &"x".repeat(4096))]);
    let error = store.content.update_labels(digest, huge.clone(), false).await.expect_err("ID-6, ID-7");
    assert_eq!(error.class, ErrorClass::InvalidArgument);
    let mut writer = open(&store.content, "s").await;
    writer.write(Bytes::from_static(b"x")).await.expect("writes");
    let error = writer.commit(0, None, huge).await.expect_err("ID-6, ID-7");
    assert_eq!(error.class, ErrorClass::InvalidArgument);
    let absent = digest_of(b"absent");
    let error = store.content.update_labels(absent, Labels::new(), true).await.expect_err("absent");
    assert_eq!(error.class, ErrorClass::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn con_26_con_19_cross_namespace_share() {
    let store = store().await;
    let bytes = blob(7, 500_000);
    let (digest, size) = (put(&store.content, &bytes).await, 500_000);
    let other = other(&store.client);
    let unknown = other.info(digest).await.expect_err("CON-4: not in this namespace");
    assert_eq!(unknown.class, ErrorClass::NotFound);
    assert_eq!(other.read_all(digest, 1).await.expect_err("nor read").class, ErrorClass::NotFound);
    let writer = other.writer("share".to_owned(), size, Some(digest)).await.expect("opens");
    assert_eq!((writer.offset(), other.statuses().await.expect("lists")[0].offset), (size, size));
    let record = writer.commit(size, Some(digest), labels(&[("mine", "yes")])).await.expect("commits");
    assert_eq!((record.namespace.as_str(), record.size), ("other", size));
    assert!(store.content.info(digest).await.expect("is known").labels.is_empty(), "labels are one's own");
    // Another size is another blob.
    let error = other.writer("s".to_owned(), 1, Some(digest)).await.err().expect("is here by now");
    assert_eq!(error.class, ErrorClass::AlreadyExists);
    // CON-7: the file is there as long as one namespace has it.
    store.content.delete(digest).await.expect("deletes");
    assert_eq!(other.read_all(digest, bytes.len()).await.expect("reads"), bytes);
    assert_eq!(store.content.info(digest).await.expect_err("gone here").class, ErrorClass::NotFound);
    other.delete(digest).await.expect("deletes");
    let file = store.world.places().root.join("content/blobs/sha256").join(digest.hex());
    eventually("the file to go", async || !file.exists()).await;
    let told: Vec<(String, Event)> = events(&store.client)
        .await
        .into_iter()
        .filter(|record| record.event.topic().starts_with("/content"))
        .map(|record| (record.namespace.to_string(), record.event))
        .collect();
    let created = Event::ContentCreate { digest, size };
    let deleted = Event::ContentDelete { digest };
    assert_eq!(
        told,
        [
            ("default".to_owned(), created.clone()),
            ("other".to_owned(), created),
            ("default".to_owned(), deleted.clone()),
            ("other".to_owned(), deleted),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn con_26_cross_namespace_append() {
    let store = store().await;
    let bytes = blob(8, 100_000);
    let digest = put(&store.content, &bytes).await;
    let other = other(&store.client);
    let mut writer = other.writer("append".to_owned(), 100_000, Some(digest)).await.expect("opens");
    writer.write(Bytes::from_static(b"and more")).await.expect("writes");
    let longer = [&bytes[..], b"and more"].concat();
    let status = writer.status().await.expect("a status");
    assert_eq!((status.offset, status.digest), (100_008, Some(digest_of(&longer))));
    let record = writer.commit(100_008, Some(digest_of(&longer)), Labels::new()).await.expect("commits");
    assert_eq!(other.read_all(record.digest, 200_000).await.expect("reads"), longer);
    assert_eq!(store.content.read_all(digest, 100_000).await.expect("untouched"), bytes);
    let absent = store.content.info(record.digest).await.expect_err("of the other namespace");
    assert_eq!(absent.class, ErrorClass::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn con_9_con_10_con_20_one_writer_at_a_time_and_who_waits_gets_its_turn() {
    let store = store().await;
    let mut first = open(&store.content, "r").await;
    first.write(Bytes::from_static(b"mine")).await.expect("writes");
    first.status().await.expect("stored");
    let locked = store.content.writer("r".to_owned(), 0, None).await.err().expect("locked");
    assert_eq!(locked.class, ErrorClass::Unavailable);
    let locked = store.content.abort("r".to_owned()).await.expect_err("locked");
    assert_eq!(locked.class, ErrorClass::Unavailable);
    let waiting = tokio::spawn({
        let content = store.content.clone();
        async move { content.open_writer("r".to_owned(), 0, None).await.map(|writer| writer.offset()) }
    });
    // Another ref, another namespace: nobody waits.
    open(&other(&store.client), "r").await;
    assert!(!waiting.is_finished());
    drop(first);
    assert_eq!(waiting.await.expect("joins").expect("its turn"), 4);
    eventually("the ingest to be free", async || store.content.abort("r".to_owned()).await.is_ok()).await;
    let gone = store.content.abort("r".to_owned()).await.expect_err("CON-20");
    assert_eq!(gone.class, ErrorClass::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn con_16_con_18_con_24_wrong_bytes_are_refused_and_forgotten_known_ones_are_not_read() {
    let store = store().await;
    let promised = digest_of(b"good");
    let mut writer = store.content.writer("r".to_owned(), 4, Some(promised)).await.expect("opens");
    writer.write(Bytes::from_static(b"evil")).await.expect("writes");
    let error = writer.commit(4, Some(promised), Labels::new()).await.expect_err("wrong digest");
    assert_eq!(error.class, ErrorClass::FailedPrecondition, "{error}");
    assert!(
        store.content.statuses().await.expect("lists").is_empty(),
        "CON-18: the next begins with nothing"
    );
    let mut writer = open(&store.content, "r").await;
    writer.write(Bytes::from_static(b"goo")).await.expect("writes");
    let error = writer.commit(4, Some(promised), Labels::new()).await.expect_err("wrong size");
    assert_eq!(error.class, ErrorClass::FailedPrecondition, "{error}");
    put(&store.content, b"good").await;
    // The source would fail if it were read.
    let source = Cursor::new(b"evil".to_vec());
    store
        .content
        .write_blob("again".to_owned(), source, 4, Some(promised), Labels::new())
        .await
        .expect("CON-24: success without the source");
}

#[tokio::test(flavor = "multi_thread")]
async fn con_15_an_upload_and_a_read_go_on_over_a_kill_of_the_daemon() {
    let store = store().await;
    let bytes = blob(9, 24 << 20);
    let (digest, size) = (digest_of(&bytes), bytes.len() as u64);
    let reference = "long".to_owned();
    let upload = tokio::spawn({
        let (content, source) = (store.content.clone(), Cursor::new(bytes.clone()));
        async move { content.write_blob(reference, source, size, Some(digest), Labels::new()).await }
    });
    eventually("some of it to be there", async || {
        store.content.status("long".to_owned()).await.is_ok_and(|status| status.offset > 1 << 20)
    })
    .await;
    store.daemon.kill();
    let daemon = store.world.start();
    upload.await.expect("joins").expect("goes on");
    assert_eq!(store.content.info(digest).await.expect("is known").size, size);
    // A read, cut in the middle.
    let mut incoming = store.content.read(digest, 0, 0).expect("reads");
    let mut all = incoming.next().await.expect("a chunk").expect("reads").to_vec();
    daemon.kill();
    let _daemon = store.world.start();
    while let Some(chunk) = incoming.next().await {
        all.extend_from_slice(&chunk.expect("goes on"));
    }
    assert!(all == bytes, "the same bytes, each once");
    assert!(store.content.statuses().await.expect("lists").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn con_6_more_than_a_page_is_listed_with_all_fields() {
    let store = store().await;
    let mut puts = tokio::task::JoinSet::new();
    for number in 0..130_u32 {
        let content = store.content.clone();
        puts.spawn(async move { put(&content, &number.to_le_bytes()).await });
    }
    let digests: Vec<Digest> = puts.join_all().await;
    let listed = store.content.list().await.expect("lists");
    assert_eq!(listed.len(), 130);
    assert!(listed.is_sorted_by_key(|record| record.digest));
    assert!(listed.iter().all(|record| record.updated_at.0 > 0 && record.size == 4));
    let wanted = bosun_client::field("digest").equals(&digests[7].to_string());
    let found = store.content.list_where(wanted).await.expect("lists");
    assert_eq!(found.iter().map(|record| record.digest).collect::<Vec<_>>(), [digests[7]]);
    assert!(store.content.list_where("size==4").await.expect("lists").is_empty(), "not a field");
}

#[tokio::test(flavor = "multi_thread")]
async fn con_25_layers_carry_the_digest_of_their_tar() {
    let store = store().await;
    import(&store.client).await;
    let records = store.content.list_where("labels.containerd.io/uncompressed").await;
    assert_eq!(records.expect_err("a slash needs quotes").class, ErrorClass::InvalidArgument);
    let layers = store.content.list_where("labels.\"containerd.io/uncompressed\"~=^sha256:").await;
    assert!(!layers.expect("lists").is_empty());
}

#[test]
fn cli_10_content_words() {
    use std::process::Stdio;
    let world = World::new();
    let _daemon = world.start();
    let bosun = |words: &[&str]| {
        let output = world.bosun(words).output().expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let good = |words: &[&str]| {
        let (success, stdout, stderr) = bosun(words);
        assert!(success, "bosun {words:?}: {stderr}");
        stdout
    };
    let digest = digest_of(b"hello world\n").to_string();
    let path = world.path("file");
    std::fs::write(&path, "hello world\n").expect("writes");
    let file = path.to_string_lossy().into_owned();
    let size = ["content", "ingest", "--expected-size", "12", "--expected-digest", &digest, "-l", "a=b"];
    assert_eq!(good(&[&size[..], &["r", &file]].concat()), format!("{digest}\n"));
    let (success, _, stderr) = bosun(&["content", "ingest", "--expected-size", "13", "s", &file]);
    assert!(!success && stderr.contains("12 bytes arrived"), "{stderr}");
    assert_eq!(good(&["content", "get", &digest]), "hello world\n");
    assert_eq!(good(&["content", "get", "--offset", "6", "--size", "5", &digest]), "world");
    let listed = good(&["content", "ls"]);
    assert!(listed.starts_with("DIGEST") && listed.contains("12 B") && listed.contains("a=b"), "{listed}");
    assert_eq!(good(&["content", "ls", "-q", "-f", "labels.a==c"]), "");
    assert_eq!(good(&["content", "label", &digest, "a=", "c=d"]), "c=d\n");
    let edited = good(&["content", "edit", "--editor", "sed -i s/world/there/", &digest]);
    let there = digest_of(b"hello there\n").to_string();
    assert_eq!(edited, format!("{there}\n"));
    assert_eq!(good(&["content", "label", &there]), "c=d\n", "the labels go with it");
    let (success, _, stderr) = bosun(&["content", "edit", "--editor", "false", &digest]);
    assert!(!success && stderr.contains("nothing was changed"), "{stderr}");
    // Standard input, cut short: what came stays, is shown, can be forgotten.
    let mut child = world
        .bosun(&["content", "ingest", "--expected-size", "99", "cut"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("runs");
    std::io::Write::write_all(child.stdin.as_mut().expect("piped"), &blob(1, 3 << 20)).expect("writes");
    bosun_tests::world::wait_until("some of it to be there", || good(&["content", "active"]).contains("MiB"));
    child.kill().expect("kills");
    child.wait().expect("reaps");
    assert_eq!(good(&["content", "active", "-f", "ref==other"]).lines().count(), 1);
    bosun_tests::world::wait_until("the writer to be gone", || bosun(&["content", "abort", "cut"]).0);
    assert_eq!(good(&["content", "rm", &digest, &there]), format!("{digest}\n{there}\n"));
    let (success, _, stderr) = bosun(&["content", "get", &digest]);
    assert!(!success && stderr.contains("not found"), "{stderr}");
    assert_eq!(good(&["content", "ls", "--json"]).trim(), "[]");
}
