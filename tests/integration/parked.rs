//! Operations that could neither be done nor taken back: they are parked, seen, and tried again or forgotten by a person.

use bosun_tests::world::World;

use crate::cli::{bosun, good, text, with_image};

const IMAGE: &str = "test.local/busybox:latest";

/// One that fails, and whose undoing fails.
fn parked(world: &World) -> String {
    let refused = bosun(world, &["snapshots", "prepare", "work"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stderr));
    let shown = good(world, &["operations"]);
    assert!(
        shown.contains("prepare_snapshot") && shown.contains("PARKED: ") && shown.contains("injected"),
        "{shown}"
    );
    assert!(good(world, &["daemon", "status"]).contains("1 parked"));
    let doctor = bosun(world, &["doctor", "--format", "{{.check}} {{.found}}"]);
    assert!(text(&doctor.stdout).contains("1 operations parked"), "{}", text(&doctor.stdout));
    good(world, &["operations", "-f", "state==parked", "--format", "{{.id}}"]).trim().to_owned()
}

#[test]
fn a_parked_operation_is_retried() {
    let faults = "prepare_snapshot.make_directory.after=error,prepare_snapshot.make_directory.undo=error";
    let world = World::new();
    let daemon = world.start_with(&[("BOSUN_FAULTS", faults)]);
    let id = parked(&world);
    // It survives the daemon, and is not tried by itself again.
    daemon.kill();
    let daemon = world.start();
    assert!(good(&world, &["operations"]).contains("PARKED"));
    good(&world, &["operations", "retry", &id]);
    assert_eq!(good(&world, &["operations"]).lines().count(), 1, "it is closed");
    assert!(!good(&world, &["snapshots"]).contains("work"), "what failed is not there");
    for again in ["retry", "forget"] {
        let refused = bosun(&world, &["operations", again, &id]);
        assert_eq!(refused.status.code(), Some(1));
        let said = text(&refused.stderr);
        assert!(said.contains("error: operation op-") && said.contains("not found"), "{said}");
    }
    assert_eq!(good(&world, &["snapshots", "prepare", "work"]), "work\n", "its name is free");
    daemon.stop();
}

#[test]
fn a_task_whose_making_was_parked_is_forgotten_and_its_container_runs_again() {
    let (world, daemon) = with_image();
    daemon.kill();
    let faults = "create_task.spawn_shim.after=error,create_task.spawn_shim.undo=error";
    let daemon = world.start_with(&[("BOSUN_FAULTS", faults)]);
    let failed = bosun(&world, &["run", "-d", "--name", "web", IMAGE, "sleep", "1000"]);
    assert_eq!(failed.status.code(), Some(125), "{}", text(&failed.stderr));
    let id = good(&world, &["operations", "--format", "{{.id}}"]).trim().to_owned();
    good(&world, &["operations", "forget", &id]);
    // What it left goes with the next start.
    daemon.kill();
    let _daemon = world.start();
    good(&world, &["health", "--wait", "30"]);
    assert_eq!(good(&world, &["operations"]).lines().count(), 1);
    good(&world, &["start", "web"]);
    assert!(good(&world, &["ps"]).contains("running"));
    good(&world, &["rm", "-f", "web"]);
}
