//! The store's promises: acknowledged means durable, numbers are never used again, damage is refused and not hidden.

use std::process::Command;

use bosun_types::event::Event;
use bosun_types::namespace::NamespaceRecord;
use bosun_types::{ErrorClass, Labels, NamespaceName, Timestamp};

use super::*;

fn namespace(name: &str) -> NamespaceRecord {
    let name = NamespaceName::new(name).expect("good");
    NamespaceRecord { name, labels: Labels::new(), created_at: Timestamp(1), updated_at: Timestamp(2) }
}

fn put(name: &str) -> Batch {
    let record = namespace(name);
    let mut batch = Batch::new();
    batch
        .put(&record)
        .publish(&record.name, Event::NamespaceCreate { name: record.name.clone(), labels: Labels::new() });
    batch
}

fn open(root: &Path) -> Store {
    Store::open(&StoreOptions { root: root.to_path_buf() }).expect("opens").0
}

async fn closed(store: Store) {
    tokio::task::spawn_blocking(move || store.close()).await.expect("closes");
}

#[tokio::test]
async fn rows_and_events_are_there_after_a_reopen() {
    let root = tempfile::tempdir().expect("a folder");
    let store = open(root.path());
    for number in 0..10 {
        let committed = store.commit(put(&format!("ns{number}"))).await.expect("commits");
        assert_eq!(committed.events[0].sequence, number + 1);
    }
    closed(store).await;
    let (store, report) = Store::open(&StoreOptions { root: root.path().to_path_buf() }).expect("opens");
    assert!(report.clean);
    assert_eq!(store.scan::<NamespaceRecord>(&Key::all()).expect("scans").len(), 10);
    let page = store.events_from(4, 3).expect("reads");
    assert_eq!(page.events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [4, 5, 6]);
    assert_eq!((page.oldest_kept, store.event_head()), (1, 10));
}

#[tokio::test]
async fn i_5_event_numbers_are_dense_whoever_commits() {
    let store = Store::in_memory();
    let commits = (0..200).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            store.commit(put(&format!("ns{number}"))).await.expect("commits").events[0].sequence
        })
    });
    let mut sequences = futures::future::try_join_all(commits).await.expect("joins");
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=200).collect::<Vec<u64>>());
}

#[tokio::test]
async fn numbers_are_never_used_again() {
    let root = tempfile::tempdir().expect("a folder");
    let mut last = 0;
    for _ in 0..3 {
        let store = open(root.path());
        let number = store.next_directory();
        assert!(number > last, "{number} after {last}");
        store.commit(Batch::new()).await.expect("commits");
        last = number;
        closed(store).await;
    }
}

#[tokio::test]
async fn f_33_a_second_daemon_is_refused_and_told_who_holds_the_root() {
    let root = tempfile::tempdir().expect("a folder");
    let _store = open(root.path());
    let error = Store::open(&StoreOptions { root: root.path().to_path_buf() }).err().expect("locked");
    let error: bosun_types::Error = error.into();
    assert_eq!(error.class, ErrorClass::FailedPrecondition);
    assert!(error.message.contains(&std::process::id().to_string()), "{error}");
}

#[tokio::test]
async fn a_database_behind_its_mark_serves_reads_and_refuses_writes() {
    let root = tempfile::tempdir().expect("a folder");
    let store = open(root.path());
    store.commit(put("aa")).await.expect("commits");
    closed(store).await;
    let mark = mark::read(root.path()).expect("reads").expect("is there");
    let ahead = mark::Position { sequence: mark.position.sequence + 5, hash: 1 };
    mark::write(root.path(), Mark { position: ahead, clean: true }).expect("writes");
    let store = open(root.path());
    assert!(matches!(store.health(), StoreHealth::ReadOnly { .. }));
    assert_eq!(store.scan::<NamespaceRecord>(&Key::all()).expect("scans").len(), 1);
    let error = store.commit(put("bb")).await.expect_err("refused");
    assert_eq!(error.class(), ErrorClass::Unavailable);
    assert!(error.to_string().contains("5 are lost"), "{error}");
}

#[tokio::test]
async fn a_newer_format_is_refused_unchanged() {
    let root = tempfile::tempdir().expect("a folder");
    closed(open(root.path())).await;
    {
        let disk = Disk::open(&root.path().join("db")).expect("opens");
        disk.apply(&[Write {
            table: Table::Meta,
            key: meta::format(),
            value: Some(99_u32.to_le_bytes().to_vec()),
        }])
        .expect("writes");
    }
    let error = Store::open(&StoreOptions { root: root.path().to_path_buf() }).err().expect("too new");
    assert!(matches!(error, StoreError::TooNew { found: 99, .. }), "{error}");
}

#[tokio::test]
async fn a_flipped_byte_of_a_value_is_data_loss_and_names_the_row() {
    let backend = Arc::new(Memory::default());
    let store = Store::over(backend.clone()).expect("opens");
    store.commit(put("aa")).await.expect("commits");
    let key = key::namespace(&NamespaceName::new("aa").expect("good"));
    let mut value = backend.get(Table::Namespaces, &key).expect("reads").expect("is there");
    *value.last_mut().expect("not empty") ^= 1;
    backend
        .apply(&[Write { table: Table::Namespaces, key: key.clone(), value: Some(value) }])
        .expect("writes");
    let error = store.get::<NamespaceRecord>(&key).expect_err("damaged");
    assert_eq!(error.class(), ErrorClass::DataLoss);
    assert!(error.to_string().contains("namespaces"), "{error}");
}

/// The journal is cut, or its tail torn, after an unclean stop: what was acknowledged before the cut is there, or writes are refused.
#[tokio::test]
async fn f_10_a_torn_tail_opens_and_loses_nothing_acknowledged_silently() {
    let root = tempfile::tempdir().expect("a folder");
    let store = open(root.path());
    for number in 0..20 {
        store.commit(put(&format!("ns{number}"))).await.expect("commits");
    }
    closed(store).await;
    let journal =
        std::fs::read_dir(root.path().join("db")).expect("lists").flatten().map(|entry| entry.path());
    let journal = journal
        .filter(|path| path.extension().is_some_and(|extension| extension == "jnl"))
        .max()
        .expect("a journal");
    let bytes = std::fs::read(&journal).expect("reads");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("data") + 1;
    // The last value byte: a torn page of the last batch.
    let mut torn = bytes.clone();
    torn[end - 20] ^= 0xff;
    std::fs::write(&journal, torn).expect("writes");
    let mark = mark::read(root.path()).expect("reads").expect("is there");
    // The mark lags, as it may: the last commit was never acknowledged.
    let position = mark::Position { sequence: mark.position.sequence - 1, hash: 0 };
    std::fs::write(root.path().join("db.mark"), format!("{:016x} {:016x} open\n", position.sequence - 1, 0))
        .expect("writes");
    let store = open(root.path());
    assert_eq!(store.scan::<NamespaceRecord>(&Key::all()).expect("scans").len(), 19);
    assert_eq!(store.health(), StoreHealth::Writable);
    store.commit(put("more")).await.expect("commits");
}

/// A child process commits and says what is durable; it is killed; everything it said is there.
#[test]
fn i_1_kill_9_loses_nothing_acknowledged() {
    const ROLE: &str = "BOSUN_STORE_TEST_CHILD";
    if let Ok(root) = std::env::var(ROLE) {
        return kill_9_child(Path::new(&root));
    }
    let root = tempfile::tempdir().expect("a folder");
    for round in 0..3_u64 {
        let mut child = Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "store::tests::i_1_kill_9_loses_nothing_acknowledged", "--nocapture"])
            .env(ROLE, root.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("starts");
        let mut acknowledged = 0;
        let output = std::io::BufReader::new(child.stdout.take().expect("an output"));
        for line in std::io::BufRead::lines(output) {
            if let Some(number) = line.expect("reads").strip_prefix("durable ") {
                acknowledged = number.parse().expect("a number");
                if acknowledged >= (round + 1) * 60 {
                    child.kill().expect("kills");
                }
            }
        }
        child.wait().expect("reaps");
        let store = open(root.path());
        assert!(acknowledged >= (round + 1) * 60);
        assert!(store.event_head() >= acknowledged, "{} of {acknowledged}", store.event_head());
        assert_eq!(store.health(), StoreHealth::Writable);
        let page = store.events_from(1, usize::MAX).expect("reads");
        assert!(page.events.iter().zip(1..).all(|(event, number)| event.sequence == number), "gaps");
        store.close();
    }
}

fn kill_9_child(root: &Path) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = open(root);
        loop {
            let committed = store.commit(put("child")).await.expect("commits");
            println!("durable {}", committed.events[0].sequence);
        }
    });
}

/// A small file system fills up: typed errors, reads go on; after space is freed the store goes on by itself.
#[tokio::test]
async fn f_8_a_full_disk_is_a_typed_error_and_heals() {
    let root = tempfile::tempdir().expect("a folder");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=80m", "bosun-test"])
        .arg(root.path())
        .status()
        .expect("mount runs");
    assert!(mounted.success(), "this test needs root");
    let result = tokio::spawn(full_disk(root.path().to_path_buf())).await;
    Command::new("umount").arg("--lazy").arg(root.path()).status().expect("umount runs");
    result.expect("passes");
}

async fn full_disk(root: PathBuf) {
    let store = open(&root);
    store.commit(put("before")).await.expect("commits");
    let filler = root.join("filler");
    let mut file = std::fs::File::create(&filler).expect("creates");
    while std::io::Write::write_all(&mut file, &vec![7; 1 << 16]).is_ok() {}
    // One commit more than fits gives up the reserve, so the first failures are not seen by anybody.
    assert!(root.join("db.ballast").exists());
    let mut error = None;
    for number in 0..200_000 {
        let mut record = namespace(&format!("ns{}", number % 50));
        record.labels.insert("big".to_owned(), "x".repeat(4000));
        let mut batch = Batch::new();
        batch.put(&record);
        if let Err(found) = store.commit(batch).await {
            error = Some(found);
            break;
        }
    }
    assert!(!root.join("db.ballast").exists(), "the reserve was not used");
    let class = error.expect("the disk is full").class();
    assert!(matches!(class, ErrorClass::ResourceExhausted | ErrorClass::Unavailable), "{class}");
    assert!(
        store
            .get::<NamespaceRecord>(&key::namespace(&NamespaceName::new("before").expect("good")))
            .expect("reads")
            .is_some()
    );
    drop(file);
    std::fs::remove_file(&filler).expect("removes");
    let mut healed = false;
    for _ in 0..20 {
        healed = store.commit(put("after")).await.is_ok();
        if healed {
            break;
        }
    }
    assert!(healed, "commits work again once there is space");
    closed(store).await;
    let store = open(&root);
    assert!(
        store
            .get::<NamespaceRecord>(&key::namespace(&NamespaceName::new("after").expect("good")))
            .expect("reads")
            .is_some()
    );
    closed(store).await;
}

/// A real journal of ten commits, cut at many lengths and with flipped bytes: the store holds the commits up to some point and goes on
/// from there, or it refuses; it never holds a hole, and never less than its mark without saying so.
#[tokio::test]
async fn f_10_a_cut_or_flipped_journal_is_a_prefix_or_a_refusal() {
    const COMMITS: usize = 10;
    let origin = tempfile::tempdir().expect("a folder");
    let store = open(origin.path());
    for number in 0..COMMITS {
        store.commit(put(&format!("ns{number}"))).await.expect("commits");
    }
    closed(store).await;
    let journal = newest_journal(&origin.path().join("db"));
    let bytes = std::fs::read(&journal).expect("reads");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("data") + 1;
    let mut refused = 0;
    for place in (0..24).map(|step| end - 1 - step * 37) {
        for flip in [false, true] {
            let root = tempfile::tempdir().expect("a folder");
            copy_tree(origin.path(), root.path());
            let damaged = newest_journal(&root.path().join("db"));
            let mut bytes = bytes.clone();
            if flip {
                bytes[place] ^= 0x10;
            } else {
                bytes.truncate(place);
            }
            std::fs::write(&damaged, &bytes).expect("writes");
            match Store::open(&StoreOptions { root: root.path().to_path_buf() }) {
                Err(error) => {
                    refused += 1;
                    assert!(flip, "a cut at {place} must open: {error}");
                    assert_eq!(error.class(), ErrorClass::DataLoss, "{error}");
                    assert_eq!(std::fs::read(&damaged).expect("reads"), bytes, "the evidence was changed");
                }
                Ok((store, report)) => {
                    let rows = store.scan::<NamespaceRecord>(&Key::all()).expect("scans");
                    let names: Vec<_> = rows.iter().map(|row| row.name.to_string()).collect();
                    let prefix: Vec<_> = (0..names.len()).map(|number| format!("ns{number}")).collect();
                    assert_eq!(names, prefix, "a hole; place {place}, flip {flip}");
                    let whole = report.sequence == COMMITS as u64;
                    assert_eq!(store.health() == StoreHealth::Writable, whole, "place {place}, flip {flip}");
                    closed(store).await;
                }
            }
        }
    }
    assert!(refused > 0, "some flips are damage before intact commits");
}

fn newest_journal(database: &Path) -> PathBuf {
    let paths = std::fs::read_dir(database).expect("lists").flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "jnl")).max().expect("a journal")
}

fn copy_tree(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().expect("cp runs");
    assert!(done.success());
}
