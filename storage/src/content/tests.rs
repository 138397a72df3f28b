//! Tests of the content files.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;

use bosun_types::ErrorClass;
use tempfile::TempDir;

use super::*;
use crate::image::digest_of;

fn store() -> (TempDir, ContentStore) {
    let root = tempfile::tempdir().unwrap();
    let store = ContentStore::open(root.path()).unwrap();
    (root, store)
}

fn namespace(name: &str) -> NamespaceName {
    NamespaceName::new(name).unwrap()
}

fn begin(store: &ContentStore, reference: &str) -> Result<Ingest> {
    store.begin(&namespace("default"), reference, 0, None)
}

fn ingest_directories(root: &TempDir) -> usize {
    fs::read_dir(root.path().join("content/ingest")).unwrap().count()
}

#[test]
fn con_2_a_blob_is_a_read_only_file_named_by_its_digest_in_private_directories() {
    let (root, store) = store();
    let mut ingest = begin(&store, "r").unwrap();
    ingest.write(b"hello ").unwrap();
    ingest.write(b"world").unwrap();
    let digest = digest_of(b"hello world");
    assert_eq!((ingest.offset(), ingest.digest()), (11, digest));
    let committed = ingest.commit(11, Some(&digest)).unwrap();
    assert_eq!(committed, CommittedBlob { digest, size: 11 });
    let path = root.path().join("content/blobs/sha256").join(digest.hex());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
    for directory in ["content", "content/blobs", "content/blobs/sha256", "content/ingest"] {
        let mode = fs::metadata(root.path().join(directory)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{directory}");
    }
    let mut text = String::new();
    store.open_blob(&digest).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello world");
    assert_eq!(store.blob_size(&digest).unwrap(), 11);
    assert_eq!(store.list_blobs().unwrap(), [digest]);
    assert_eq!(ingest_directories(&root), 0);
    store.remove_blob(&digest).unwrap();
    store.remove_blob(&digest).unwrap();
    assert!(!store.has_blob(&digest));
    assert_eq!(store.open_blob(&digest).expect_err("gone").class(), ErrorClass::NotFound);
    assert_eq!(store.blob_size(&digest).expect_err("gone").class(), ErrorClass::NotFound);
}

#[test]
fn con_9_one_writer_at_a_time_for_a_ref_of_a_namespace() {
    let (_root, store) = store();
    let first = begin(&store, "r").unwrap();
    assert_eq!(begin(&store, "r").expect_err("locked").class(), ErrorClass::Unavailable);
    let locked = store.abort(&namespace("default"), "r").expect_err("locked");
    assert_eq!(locked.class(), ErrorClass::Unavailable);
    let _other = store.begin(&namespace("team"), "r", 0, None).unwrap();
    drop(first);
    begin(&store, "r").unwrap();
}

#[test]
fn con_15_a_resume_hashes_what_is_on_disk_and_goes_on_at_its_end() {
    let (root, store) = store();
    let mut ingest = store.begin(&namespace("default"), "r", 11, None).unwrap();
    ingest.write(b"hello ").unwrap();
    drop(ingest);
    // Another process, as after a crash.
    let store = ContentStore::open(root.path()).unwrap();
    let refusal = store.begin(&namespace("default"), "r", 12, None).expect_err("another total");
    assert_eq!(refusal.class(), ErrorClass::InvalidArgument);
    let digest = digest_of(b"hello world");
    let mut ingest = store.begin(&namespace("default"), "r", 0, Some(digest)).unwrap();
    assert_eq!((ingest.offset(), ingest.digest()), (6, digest_of(b"hello ")));
    assert_eq!((ingest.status().total, ingest.status().expected), (11, Some(digest)));
    ingest.write(b"world").unwrap();
    assert_eq!(ingest.commit_as_is().unwrap().digest, digest);
}

#[test]
fn con_15_a_torn_status_file_starts_the_promises_anew_but_keeps_the_bytes_judged_by_hash() {
    let (root, store) = store();
    let mut ingest = begin(&store, "r").unwrap();
    ingest.write(b"abc").unwrap();
    drop(ingest);
    let directory = fs::read_dir(root.path().join("content/ingest")).unwrap().next().unwrap().unwrap().path();
    fs::write(directory.join("status"), b"{\"name").unwrap();
    assert!(store.statuses(&namespace("default")).unwrap().is_empty());
    assert_eq!(begin(&store, "r").unwrap().offset(), 3);
    assert_eq!(store.statuses(&namespace("default")).unwrap().len(), 1);
}

#[test]
fn con_16_con_18_wrong_bytes_fail_the_commit_and_are_thrown_away() {
    let (root, store) = store();
    let promised = digest_of(b"good");
    let mut ingest = begin(&store, "r").unwrap();
    ingest.write(b"evil").unwrap();
    let error = ingest.commit(4, Some(&promised)).expect_err("wrong digest");
    assert_eq!(error.class(), ErrorClass::FailedPrecondition);
    assert!(error.to_string().contains(&promised.to_string()), "{error}");
    assert_eq!(ingest_directories(&root), 0);
    let mut ingest = begin(&store, "r").unwrap();
    assert_eq!(ingest.offset(), 0, "the next try starts from nothing");
    ingest.write(b"goo").unwrap();
    let error = ingest.commit(4, Some(&promised)).expect_err("wrong size");
    assert_eq!(error.class(), ErrorClass::FailedPrecondition);
    // What `begin` promised counts like what `commit` says.
    let mut ingest = store.begin(&namespace("default"), "r", 0, Some(promised)).unwrap();
    ingest.write(b"evil").unwrap();
    assert!(matches!(ingest.commit(0, None), Err(ContentError::WrongDigest { .. })));
    assert!(store.list_blobs().unwrap().is_empty());
}

#[test]
fn con_13_a_restart_forgets_the_bytes() {
    let (_root, store) = store();
    let mut ingest = begin(&store, "r").unwrap();
    ingest.write(b"wrong way").unwrap();
    ingest.restart().unwrap();
    ingest.write(b"right").unwrap();
    assert_eq!(ingest.commit(5, Some(&digest_of(b"right"))).unwrap().size, 5);
}

#[test]
fn con_20_abort_removes_and_is_not_found_when_absent() {
    let (root, store) = store();
    let default = namespace("default");
    begin(&store, "r").unwrap().write(b"x").unwrap();
    assert_eq!(store.abort(&namespace("team"), "r").expect_err("of another").class(), ErrorClass::NotFound);
    store.abort(&default, "r").unwrap();
    assert_eq!(store.abort(&default, "r").expect_err("gone").class(), ErrorClass::NotFound);
    assert_eq!(ingest_directories(&root), 0);
}

#[test]
fn con_21_statuses_are_those_of_the_namespace_by_ref() {
    let (_root, store) = store();
    let expected = digest_of(b"later");
    for reference in ["b", "a"] {
        let ingest = store.begin(&namespace("default"), reference, 7, Some(expected));
        ingest.unwrap().write(b"12").unwrap();
    }
    begin(&store, &"é/x:".repeat(200)).unwrap();
    store.begin(&namespace("team"), "c", 0, None).unwrap();
    let statuses = store.statuses(&namespace("default")).unwrap();
    let refs: Vec<&str> = statuses.iter().map(|status| status.reference.as_str()).take(2).collect();
    assert_eq!((statuses.len(), refs), (3, vec!["a", "b"]));
    assert_eq!((statuses[0].offset, statuses[0].total, statuses[0].expected), (2, 7, Some(expected)));
    assert!(statuses[0].updated_at.0 > 0 && statuses[0].started_at.0 > 0);
    assert_eq!(store.status(&namespace("default"), "a").unwrap(), statuses[0]);
    let absent = store.status(&namespace("default"), "c").expect_err("of another namespace");
    assert_eq!(absent.class(), ErrorClass::NotFound);
}

#[test]
fn con_19_a_shared_ingest_stands_at_the_blobs_end_and_copies_it_before_more_is_written() {
    let (root, store) = store();
    let mut ingest = begin(&store, "r").unwrap();
    ingest.write(b"shared").unwrap();
    let digest = ingest.commit_as_is().unwrap().digest;
    let team = namespace("team");
    let share = || store.begin_shared(&team, "s", 0, digest).unwrap();
    let ingest = share();
    assert_eq!((ingest.offset(), ingest.digest()), (6, digest));
    assert_eq!(store.begin(&team, "s", 0, None).expect_err("locked").class(), ErrorClass::Unavailable);
    assert_eq!(store.status(&team, "s").unwrap().offset, 6);
    assert_eq!(ingest.commit(6, Some(&digest)).unwrap(), CommittedBlob { digest, size: 6 });
    assert_eq!(ingest_directories(&root), 0);
    // More than it: a copy, which may become any blob.
    let mut ingest = share();
    ingest.write(b", and more").unwrap();
    let longer = digest_of(b"shared, and more");
    assert_eq!((ingest.offset(), ingest.digest()), (16, longer));
    assert_eq!(ingest.commit(16, Some(&longer)).unwrap().digest, longer);
    // From the beginning: the promise stands.
    let mut ingest = share();
    ingest.restart().unwrap();
    assert_eq!(ingest.offset(), 0);
    ingest.write(b"evil!!").unwrap();
    assert!(matches!(ingest.commit(0, None), Err(ContentError::WrongDigest { .. })));
    // Its last holder has let it go.
    let ingest = share();
    store.remove_blob(&digest).unwrap();
    assert_eq!(ingest.commit(0, None).expect_err("gone").class(), ErrorClass::NotFound);
    assert_eq!(store.begin_shared(&team, "s", 0, digest).expect_err("gone").class(), ErrorClass::NotFound);
    // What was shared and is not any more begins with nothing.
    let ingest = store.begin(&team, "s", 0, Some(digest)).unwrap();
    assert_eq!((ingest.offset(), store.read_blob(&longer, 99).unwrap().len()), (0, 16));
}

#[test]
fn refs_are_bounded() {
    let (_root, store) = store();
    for reference in [String::new(), "r".repeat(REFERENCE_BYTES_MAX + 1)] {
        assert_eq!(begin(&store, &reference).expect_err("refused").class(), ErrorClass::InvalidArgument);
    }
}

#[test]
fn an_equal_blob_that_is_there_already_is_replaced_without_harm_to_readers() {
    let (_root, store) = store();
    let digest = digest_of(b"twice");
    let write = |reference| {
        let mut ingest = begin(&store, reference).unwrap();
        ingest.write(b"twice").unwrap();
        ingest.commit(5, Some(&digest)).unwrap()
    };
    write("one");
    let mut reader = store.open_blob(&digest).unwrap();
    write("two");
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), store.list_blobs().unwrap().len()), ("twice", 1));
}

#[test]
fn a_full_disk_is_resource_exhausted_and_leaves_only_good_bytes() {
    let root = tempfile::tempdir().unwrap();
    let options = Some("size=256k");
    nix::mount::mount(Some("tmpfs"), root.path(), Some("tmpfs"), nix::mount::MsFlags::empty(), options)
        .unwrap();
    let result = std::panic::catch_unwind(|| {
        let store = ContentStore::open(root.path()).unwrap();
        let mut ingest = begin(&store, "big").unwrap();
        let chunk = [7u8; 50_000];
        let error = (0..10).find_map(|_| ingest.write(&chunk).err()).expect("no space");
        assert_eq!(error.class(), ErrorClass::ResourceExhausted);
        let good = ingest.offset();
        assert_eq!((good % 50_000, ingest.digest()), (0, digest_of(&vec![7; good as usize])));
        drop(ingest);
        let mut ingest = begin(&store, "big").unwrap();
        assert_eq!(ingest.offset(), good, "what did not count is not there");
        // Space again: the same ingest goes on.
        ingest.write(&[7; 10]).unwrap();
        ingest.commit(good + 10, None).unwrap();
    });
    nix::mount::umount2(root.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    result.unwrap();
}

#[test]
fn con_17_what_a_crash_after_the_rename_leaves_is_the_whole_blob_and_an_empty_ingest() {
    let (root, store) = store();
    let mut ingest = begin(&store, "r").unwrap();
    ingest.write(b"abc").unwrap();
    let directory = fs::read_dir(root.path().join("content/ingest")).unwrap().next().unwrap().unwrap().path();
    // The rename of a commit, and nothing after it.
    let digest = digest_of(b"abc");
    fs::rename(directory.join("data"), root.path().join("content/blobs/sha256").join(digest.hex())).unwrap();
    drop(ingest);
    let store = ContentStore::open(root.path()).unwrap();
    assert!(store.has_blob(&digest));
    assert_eq!(store.status(&namespace("default"), "r").unwrap().offset, 0);
    assert_eq!(begin(&store, "r").unwrap().offset(), 0);
}

#[test]
fn a_document_is_read_whole_bounded_and_verified() {
    let (root, store) = store();
    let mut ingest = begin(&store, "r").unwrap();
    ingest.write(b"document").unwrap();
    let digest = ingest.commit_as_is().unwrap().digest;
    assert_eq!(store.read_blob(&digest, 8).unwrap(), b"document");
    assert_eq!(store.read_blob(&digest, 7).expect_err("too large").class(), ErrorClass::InvalidArgument);
    fs::write(root.path().join("content/blobs/sha256").join(digest.hex()), b"documeNt").unwrap();
    assert_eq!(store.read_blob(&digest, 8).expect_err("flipped").class(), ErrorClass::DataLoss);
}
