//! Task directories: idempotence, modes, records, damage.

use std::os::unix::fs::MetadataExt as _;

use bosun_types::Timestamp;
use bosun_types::task::{ExitCause, ExitStatus, ProcessIdentity};

use super::*;

const PROCESS: ProcessIdentity = ProcessIdentity { pid: 7, start_ticks: 8 };

fn make() -> (tempfile::TempDir, TaskDirectory) {
    let state = tempfile::tempdir().unwrap();
    let (namespace, container) = (NamespaceName::new("team").unwrap(), ContainerId::new("c").unwrap());
    let nonce = new_nonce().unwrap();
    let directory =
        TaskDirectory::ensure(state.path(), &nonce, (&namespace, &container), b"{}", None).unwrap();
    assert_eq!(
        directory,
        TaskDirectory::ensure(state.path(), &nonce, (&namespace, &container), b"{}", None).unwrap()
    );
    (state, directory)
}

fn exit(exec: Option<&str>, code: u8) -> ExitNotice {
    ExitNotice {
        exec: exec.map(|id| ExecId::new(id).unwrap()),
        process: PROCESS,
        status: ExitStatus { cause: ExitCause::Code(code), exited_at: Timestamp(1) },
        started: true,
    }
}

#[test]
fn it_is_private_and_says_whose_it_is() {
    let (state, directory) = make();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    // Through the folder of all of them one may pass who knows a nonce, and is let in there.
    assert_eq!((mode(&state.path().join(TASKS)), mode(directory.path())), (0o711, 0o700));
    directory.let_pass(4321).unwrap();
    directory.let_pass(4321).unwrap();
    let it = fs::metadata(directory.path()).unwrap();
    assert_eq!((it.permissions().mode() & 0o7777, it.uid(), it.gid()), (0o710, 0, 4321));
    let (namespace, container) = directory.owner().unwrap().unwrap();
    assert_eq!((namespace.as_str(), container.as_str()), ("team", "c"));
    assert_eq!(TaskDirectory::list(state.path()).unwrap(), [directory]);
}

#[test]
fn i12_a_mode_that_was_widened_is_repaired() {
    let (state, directory) = make();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (namespace, container) = directory.owner().unwrap().unwrap();
    TaskDirectory::ensure(state.path(), directory.nonce(), (&namespace, &container), b"{}", None).unwrap();
    assert_eq!(fs::metadata(directory.path()).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn removal_is_idempotent_and_never_enters_the_root_file_system() {
    let (_state, directory) = make();
    let rootfs = directory.path().join(file::ROOTFS);
    fs::create_dir(&rootfs).unwrap();
    fs::write(rootfs.join("precious"), "data").unwrap();
    assert!(directory.ensure_not().is_err());
    assert!(rootfs.join("precious").exists());
    fs::remove_file(rootfs.join("precious")).unwrap();
    directory.ensure_not().unwrap();
    directory.ensure_not().unwrap();
    assert!(!directory.exists());
}

#[test]
fn names_that_are_no_nonces_never_become_paths() {
    for nonce in ["", "..", "../../etc", "ABCDEF", "0123456789abcdef0123456789abcde/"] {
        assert!(TaskDirectory::of(Path::new("/run/x"), nonce).is_err(), "{nonce:?}");
    }
}

#[test]
fn i4_the_first_word_on_an_exit_is_the_last() {
    let (_state, directory) = make();
    assert_eq!(directory.ensure_exit_record(&exit(None, 1)).unwrap(), exit(None, 1));
    assert_eq!(directory.ensure_exit_record(&exit(None, 2)).unwrap(), exit(None, 1));
    directory.ensure_exit_record(&exit(Some("e"), 3)).unwrap();
    assert_eq!(directory.exit_records().unwrap(), [exit(None, 1), exit(Some("e"), 3)]);
    directory.ensure_no_exit_record(None).unwrap();
    directory.ensure_no_exit_record(None).unwrap();
    assert_eq!(directory.exit_records().unwrap(), [exit(Some("e"), 3)]);
}

#[test]
fn a_damaged_record_is_left_out_and_a_foreign_beacon_is_refused() {
    let (_state, directory) = make();
    fs::write(directory.path().join(file::EXIT_INIT), b"bsn\x01rubbish").unwrap();
    assert_eq!(directory.exit_records().unwrap(), []);
    assert_eq!(directory.beacon().unwrap(), None);
    let beacon = ShimBeacon {
        version: 1,
        nonce: new_nonce().unwrap(),
        shim: PROCESS,
        init: None,
        cgroup_path: None,
        runtime: None,
    };
    fs::write(directory.path().join(file::BEACON), encode_record(&beacon).unwrap()).unwrap();
    assert!(directory.beacon().is_err());
}
