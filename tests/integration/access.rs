//! Namespace sockets and the audit log over the daemon's restarts, and as people type them.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use bosun_client::{Client, ConnectOptions};
use bosun_tests::client::{import, namespace, shell};
use bosun_tests::world::{World, program};
use bosun_types::ErrorClass;
use bosun_types::access::{AuditQuery, AuditRecord, AuditResult};

/// Nobody's numbers on this host: a user that is not root.
const STRANGER: u32 = 54_321;

fn good(world: &World, words: &[&str]) -> String {
    let output = world.bosun(words).output().expect("bosun runs");
    assert!(output.status.success(), "bosun {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// `bosun` by a user that is not root, from a place where it may read the program.
fn as_stranger(world: &World, socket: &str, words: &[&str]) -> std::process::Output {
    let copy = world.path("bosun-for-all");
    if !copy.exists() {
        std::fs::copy(program("bosun"), &copy).expect("copies");
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).expect("sets");
    }
    // The world's own folder is closed to others: the program and the socket are reached through descriptors' names.
    let mut command = Command::new(copy);
    command.args(["--address", socket]).args(words).uid(STRANGER).gid(STRANGER).env_clear();
    command.output().expect("bosun runs")
}

fn open_to_all(path: &std::path::Path) {
    for folder in path.ancestors().skip(1) {
        let Ok(metadata) = std::fs::metadata(folder) else { continue };
        let mode = metadata.permissions().mode();
        if mode & 0o001 == 0 && folder.starts_with(std::env::temp_dir()) {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode | 0o011)).expect("sets");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_has_its_owner_and_mode_and_is_there_again_after_kill_9() {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    namespace(&client).containers().create(shell("kept", "true")).await.expect("creates");
    let owner = format!("{STRANGER}:{STRANGER}");
    let path = good(
        &world,
        &["namespaces", "socket", "create", "default", "--name", "ci", "--owner", &owner, "--mode", "0600"],
    );
    open_to_all(std::path::Path::new(&path));
    let check = || {
        let metadata = std::fs::metadata(&path).expect("it is there");
        assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), (STRANGER, STRANGER, 0o600));
        let output = as_stranger(&world, &path, &["ps", "--all", "--quiet"]);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            "kept",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let output = as_stranger(&world, &path, &["daemon", "status"]);
        assert!(String::from_utf8_lossy(&output.stderr).contains("yields namespace default alone"));
        let output = as_stranger(&world, &world.address().to_string_lossy(), &["version"]);
        assert!(!output.status.success(), "the daemon's own socket is not for others");
    };
    check();
    // A file that no record names is of an earlier life.
    let stale = std::path::Path::new(&path).with_file_name("stale.sock");
    std::fs::write(&stale, "").expect("writes");
    daemon.kill();
    let daemon = world.start();
    let client = world.client().await;
    world.recovered(&client).await;
    bosun_tests::world::eventually("the socket to be served again", || async {
        as_stranger(&world, &path, &["version"]).status.success()
    })
    .await;
    check();
    assert!(!stale.exists());
    // An orderly stop removes it, as it does the daemon's own.
    daemon.stop();
    assert!(!std::path::Path::new(&path).exists());
    let _daemon = world.start();
    let _client = world.client().await;
    assert!(good(&world, &["namespaces", "socket", "ls"]).contains("ci"));
    good(&world, &["namespaces", "socket", "rm", "ci"]);
    assert!(!std::path::Path::new(&path).exists());
}

/// The entry of a change is durable no later than the change itself, whenever the daemon is killed.
#[tokio::test(flavor = "multi_thread")]
async fn no_container_is_there_without_an_entry_that_says_who_made_it() {
    let world = World::new();
    for round in 0..5_u32 {
        let daemon = world.start();
        let client = world.client().await;
        if round == 0 {
            import(&client).await;
        }
        world.recovered(&client).await;
        let makers: Vec<_> = (0..8)
            .map(|number| {
                let namespace = namespace(&client);
                let id = format!("c{round}-{number}");
                tokio::spawn(async move { namespace.containers().create(shell(&id, "true")).await })
            })
            .collect();
        // The first answer is the signal; the others are somewhere on their way.
        let (_first, ..) = futures::future::select_all(makers).await;
        daemon.kill();
    }
    let _daemon = world.start();
    let client = world.client().await;
    world.recovered(&client).await;
    let entries = client
        .audit(AuditQuery { call: Some("container.create".to_owned()), ..AuditQuery::default() }, 0, 0)
        .await
        .expect("answers");
    let there = namespace(&client).containers().list().await.expect("lists");
    assert!(there.len() >= 5, "{}", there.len());
    let named = entries.iter().filter(|entry| entry.subject != "default").count();
    let cut_off = entries.iter().filter(|entry| entry.result == AuditResult::Begun).count();
    assert!(named + cut_off >= there.len(), "{named} named, {cut_off} cut off, {} there", there.len());
    assert!(entries.iter().all(|entry| entry.uid == 0 && entry.pid > 0));
    let text = good(&world, &["audit", "--call", "container", "--limit", "3"]);
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(text.contains("container.create") && text.contains("root"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bosun_audit_finds_by_call_subject_user_and_what_was_refused() {
    let world = World::new();
    let _daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    namespace(&client).containers().create(shell("one", "true")).await.expect("creates");
    namespace(&client).containers().create(shell("one", "true")).await.expect_err("is there");
    let path = good(&world, &["namespaces", "socket", "create", "default", "--name", "look", "--read-only"]);
    let guest = ConnectOptions { address: path.into(), ..ConnectOptions::default() };
    let guest = Client::connect(guest).await.expect("connects");
    let mine = guest.default_namespace().container("one".parse().expect("good"));
    assert_eq!(mine.delete(true).await.expect_err("only looks").class, ErrorClass::PermissionDenied);
    let entries = |words: &[&str]| -> Vec<AuditRecord> {
        let text = good(&world, &[&["audit", "--json"], words].concat());
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let made = entries(&["--call", "container.create", "--subject", "default/one"]);
    assert_eq!(made.len(), 2);
    assert!(
        matches!(&made[1].result, AuditResult::Refused { error, .. } if error.class == ErrorClass::AlreadyExists)
    );
    let own = i32::try_from(std::process::id()).expect("a pid");
    assert!(made.iter().all(|entry| (entry.uid, entry.pid) == (0, own)));
    let refused = entries(&["--refused", "--call", "container.delete"]);
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].socket.as_ref().expect("through it").to_string(), "look");
    assert_eq!(entries(&["--user", "54321"]), []);
    let sockets = entries(&["--call", "socket", "--limit", "1"]);
    assert_eq!((sockets.len(), sockets[0].call.as_str()), (1, "socket.create"));
}
