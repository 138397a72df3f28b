//! The command line noun first, as people who come from ctr type it, and what goes for every word: `--format`, `--timeout`, exit codes.

use std::process::Stdio;
use std::time::{Duration, Instant};

use bosun_tests::fixture;
use bosun_tests::world::{World, wait_until};
use serde_json::Value;

use crate::cli::{bosun, good, text, with_image};

const IMAGE: &str = "test.local/busybox:latest";

fn json(world: &World, words: &[&str]) -> Value {
    serde_json::from_str(&good(world, &[&["--json"], words].concat())).expect("JSON")
}

#[test]
fn cli_6_containers_noun_first() {
    let (world, _daemon) = with_image();
    let made = good(
        &world,
        &["containers", "create", "--name", "web", "--label", "tier=old", IMAGE, "sleep", "1000"],
    );
    assert_eq!(made, "web\n");
    assert_eq!(good(&world, &["create", "--quiet", "--name", "db", IMAGE]), "");
    // Made and not started: `ps` shows what runs, `containers` all.
    assert!(!good(&world, &["ps"]).contains("web"));
    assert_eq!(good(&world, &["c", "list", "-q"]), "db\nweb\n");
    assert_eq!(good(&world, &["containers", "ls", "-q", "-f", "labels.tier==old"]), "web\n");
    assert_eq!(good(&world, &["container", "label", "web", "tier=", "team=a"]), "team=a\n");
    assert_eq!(json(&world, &["containers", "info", "web"])[0]["labels"]["team"], "a");
    assert_eq!(json(&world, &["containers", "info", "--spec", "web"])["process"]["args"][1], "1000");
    good(&world, &["start", "web"]);
    assert!(good(&world, &["ps"]).contains("web"));
    let refused = bosun(&world, &["containers", "delete", "web"]);
    assert!(text(&refused.stderr).contains("--force"), "{}", text(&refused.stderr));
    assert_eq!(good(&world, &["containers", "del", "--force", "web", "db"]), "web\ndb\n");
    assert_eq!(good(&world, &["containers", "-q"]), "");
}

#[test]
fn cli_7_tasks_noun_first() {
    let (world, _daemon) = with_image();
    let script = "echo out; echo err >&2; exit 7";
    good(&world, &["create", "--name", "job", IMAGE, "sh", "-c", script]);
    // With our streams; and again, in the place of the task that has ended.
    for words in [&["tasks", "start", "job"][..], &["t", "start", "job"], &["start", "--attach", "job"]] {
        let output = bosun(&world, words);
        let told = (output.status.code(), text(&output.stdout), text(&output.stderr));
        assert_eq!(told, (Some(7), "out\n".to_owned(), "err\n".to_owned()), "{words:?}");
    }
    assert_eq!(good(&world, &["logs", "job"]), "out\n".repeat(3), "they are logged too");
    let removed = bosun(&world, &["tasks", "rm", "job"]);
    assert_eq!((removed.status.code(), text(&removed.stdout)), (Some(7), "job\n".to_owned()), "its code");
    good(&world, &["create", "--name", "web", IMAGE, "sleep", "1000"]);
    assert_eq!(good(&world, &["tasks", "start", "--detach", "web"]), "web\n");
    let twice = bosun(&world, &["tasks", "start", "web"]);
    assert_eq!(twice.status.code(), Some(125));
    assert!(text(&twice.stderr).contains("bosun attach web"), "{}", text(&twice.stderr));
    assert_eq!(good(&world, &["tasks", "ls", "-q"]), "web\n");
    assert!(good(&world, &["task"]).starts_with("TASK  PID"));
    assert_eq!(bosun(&world, &["tasks", "exec", "web", "sh", "-c", "exit 3"]).status.code(), Some(3));
    assert!(good(&world, &["tasks", "ps", "web"]).contains("sleep 1000"));
    let metrics = good(&world, &["tasks", "metrics", "web"]);
    assert!(metrics.lines().any(|line| line.contains("cpu.total")), "{metrics}");
    assert!(json(&world, &["tasks", "metrics", "web"])[0]["memory"]["usage"].as_u64().is_some());
    good(&world, &["tasks", "pause", "web"]);
    assert!(good(&world, &["tasks", "ls"]).contains("paused"));
    good(&world, &["tasks", "resume", "web"]);
    good(&world, &["tasks", "kill", "-s", "KILL", "web"]);
    wait_until("its end", || good(&world, &["tasks", "ls"]).contains("stopped (signal 9)"));
    let removed = bosun(&world, &["tasks", "delete", "--force", "web"]);
    assert_eq!(removed.status.code(), Some(137));
    assert_eq!(good(&world, &["tasks", "-q"]), "");
}

#[test]
fn cli_8_images_are_tagged_mounted_and_labelled_whole() {
    let (world, _daemon) = with_image();
    good(&world, &["images", "tag", IMAGE, "test.local/busybox:other", "other:1"]);
    let taken = bosun(&world, &["images", "tag", IMAGE, "other:1"]);
    assert!(text(&taken.stderr).contains("--force"), "{}", text(&taken.stderr));
    good(&world, &["images", "tag", "--force", IMAGE, "other:1"]);
    assert_eq!(good(&world, &["i", "ls", "-q"]).lines().count(), 3);
    good(&world, &["images", "label", "other:1", "a=1", "b=2"]);
    assert_eq!(good(&world, &["images", "label", "--replace-all", "other:1", "c=3"]), "c=3\n");
    assert_eq!(good(&world, &["images", "check", "-q", "other:1"]), "other:1\n");
    let target = world.path("look");
    std::fs::create_dir(&target).expect("makes");
    let path = target.to_string_lossy().into_owned();
    let none = bosun(&world, &["images", "unmount", &path]);
    assert!(text(&none.stderr).contains("nothing is mounted"), "{}", text(&none.stderr));
    for flags in [&["--rw"][..], &[]] {
        good(&world, &[&["images", "mount"], flags, &[IMAGE, &path]].concat());
        assert!(target.join("bin/busybox").exists());
        let written = std::fs::write(target.join("new"), "x");
        assert_eq!(written.is_ok(), !flags.is_empty(), "{written:?}");
        // Nothing takes the snapshot away under it.
        good(&world, &["gc"]);
        assert!(target.join("bin/busybox").exists());
        let again = bosun(&world, &["images", "mount", IMAGE, &path]);
        assert!(text(&again.stderr).contains("unmount --rm"), "{}", text(&again.stderr));
        good(&world, &["images", "unmount", "--rm", &path]);
        assert!(!target.join("bin").exists());
    }
    assert!(!good(&world, &["snapshots"]).contains(&path));
}

#[test]
fn cli_10_content_prune_frees_what_is_unpacked() {
    let (world, _daemon) = with_image();
    let layers = good(&world, &["content", "prune", "--dry-run"]);
    assert_eq!(layers.lines().count(), 1, "{layers}");
    assert!(good(&world, &["content", "ls", "-q"]).contains(layers.trim()), "dry");
    assert_eq!(good(&world, &["content", "prune"]), layers);
    assert!(!good(&world, &["content", "ls", "-q"]).contains(layers.trim()), "its blob is gone");
    assert_eq!(good(&world, &["run", "--rm", IMAGE, "echo", "lives"]), "lives\n");
    assert_eq!(good(&world, &["content", "prune"]), "");
    assert!(good(&world, &["images", "check"]).contains("incomplete"));
}

#[test]
fn cli_10_a_blob_that_is_there_is_ingested_again_without_a_word() {
    let world = World::new();
    let _daemon = world.start();
    let file = world.path("blob");
    std::fs::write(&file, "bytes").expect("writes");
    let file = file.to_string_lossy().into_owned();
    let digest = good(&world, &["content", "ingest", "one", &file]);
    for words in [
        &["content", "ingest", "two", &file][..],
        &["content", "ingest", "--expected-digest", digest.trim(), "three", &file],
        &["content", "ingest", "--label", "keep=yes", "four", &file],
    ] {
        let again = bosun(&world, words);
        let told = (again.status.code(), text(&again.stdout), text(&again.stderr));
        assert_eq!(told, (Some(0), digest.clone(), String::new()), "{words:?}");
    }
    assert_eq!(good(&world, &["content", "label", digest.trim()]), "keep=yes\n");
    assert_eq!(good(&world, &["--json", "content", "active"]).trim(), "[]", "nothing is left open");
}

#[test]
fn an_oci_spec_is_printed_and_a_whole_one_is_run() {
    let (world, _daemon) = with_image();
    let mut spec = json(&world, &["oci", "spec", "--name", "plain", "sh", "-c", "echo $WHO; hostname"]);
    assert_eq!(spec["root"]["path"], "rootfs");
    spec["process"]["env"] = serde_json::json!(["PATH=/bin", "WHO=me"]);
    spec["hostname"] = "inside".into();
    let file = world.path("config.json");
    std::fs::write(&file, spec.to_string()).expect("writes");
    let file = file.to_string_lossy().into_owned();
    let of_image = ["run", "--rm", "--name", "plain", "--config", &file, IMAGE];
    assert_eq!(good(&world, &of_image), "me\ninside\n");
    let rootfs = world.path("rootfs");
    fixture::write_rootfs(&rootfs).expect("writes");
    let of_directory =
        ["run", "--rm", "--name", "plain", "--config", &file, "--rootfs", &rootfs.to_string_lossy()];
    assert_eq!(good(&world, &of_directory), "me\ninside\n");
    assert_eq!(bosun(&world, &["run", "--config", &file, "--memory", "64m", IMAGE]).status.code(), Some(2));
}

#[test]
fn cli_3_runs_further_flags() {
    let (world, _daemon) = with_image();
    let run = |flags: &[&str], command: &[&str]| {
        good(&world, &[&["run", "--rm"], flags, &[IMAGE], command].concat())
    };
    assert_eq!(run(&["--null-io"], &["echo", "nothing"]), "");
    assert_eq!(
        bosun(&world, &["run", "--rm", "--null-io", IMAGE, "sh", "-c", "exit 4"]).status.code(),
        Some(4)
    );
    assert_eq!(run(&["--no-pivot"], &["echo", "moved"]), "moved\n");
    let flags =
        ["--cpu-shares", "512", "--cpu-quota", "20000", "--cpu-period", "50000", "--annotation", "a.io/b=c"];
    good(&world, &[&["create", "--name", "limits"], &flags[..], &[IMAGE]].concat());
    let spec = json(&world, &["containers", "info", "--spec", "limits"]);
    assert_eq!(
        spec["linux"]["resources"]["cpu"],
        serde_json::json!({"shares": 512, "quota": 20000, "period": 50000})
    );
    assert_eq!(spec["annotations"]["a.io/b"], "c");
    for bad in
        [&["--cpu-shares", "1"][..], &["--cpu-period", "10"], &["--cpu-quota", "10"], &["--annotation", "x"]]
    {
        let refused = bosun(&world, &[&["create"], bad, &[IMAGE]].concat());
        assert_eq!(refused.status.code(), Some(1), "{bad:?}");
    }
}

#[test]
fn a_format_that_is_not_understood_is_wrong_usage_and_nothing_is_done() {
    let (world, daemon) = with_image();
    let image = ["images", "rm", IMAGE];
    for (format, place) in
        [("{{.id", "    {{.id\n    ^"), ("{{.id | upcase}}", "    {{.id | upcase}}\n            ^")]
    {
        let refused = bosun(&world, &[&["--format", format], &image[..]].concat());
        assert_eq!(refused.status.code(), Some(2), "{format}");
        assert!(text(&refused.stderr).contains(place), "{}", text(&refused.stderr));
    }
    let wrong = bosun(&world, &[&["--format", "docker"], &image[..]].concat());
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(bosun(&world, &["save", "--format", "{{.id}}", "-o", "/none", IMAGE]).status.code(), Some(2));
    assert_eq!(good(&world, &["images", "-q"]), format!("{IMAGE}\n"), "nothing was removed");
    daemon.kill();
    // Neither is a daemon asked.
    assert_eq!(bosun(&world, &["ps", "--format", "{{"]).status.code(), Some(2));
}

#[test]
fn doctor_health_and_groups_have_formats_too() {
    let world = World::new();
    let doctor = bosun(&world, &["doctor", "--format", "{{.check}} {{.level}}"]);
    assert!(text(&doctor.stdout).lines().any(|line| line.starts_with("kernel ")), "{}", text(&doctor.stdout));
    let table = bosun(&world, &["doctor", "--format", "table {{.check}}\\t{{.level}}"]);
    assert!(text(&table.stdout).starts_with("CHECK"), "{}", text(&table.stdout));
    let down = bosun(&world, &["health", "--format", "{{.status}}"]);
    assert_eq!((down.status.code(), text(&down.stdout)), (Some(1), "not serving\n".to_owned()));
    let _daemon = world.start();
    assert_eq!(good(&world, &["health", "--wait", "30", "--format", "{{.status}}"]), "serving\n");
    assert_eq!(json(&world, &["health"])["status"], "serving");
    let rootfs = world.path("rootfs");
    fixture::write_rootfs(&rootfs).expect("writes");
    good(&world, &["create", "--name", "db", "--rootfs", &rootfs.to_string_lossy(), "sleep", "1000"]);
    good(&world, &["group", "create", "shop", "db"]);
    assert_eq!(json(&world, &["group", "inspect", "shop"])[0]["spec"]["name"], "shop");
    assert_eq!(
        good(&world, &["group", "inspect", "shop", "--format", "{{.spec.name}} {{.status}}"]),
        "shop stopped\n"
    );
    good(&world, &["group", "rm", "shop"]);
}

#[test]
fn cli_1_timeouts_of_the_whole_command_and_of_the_connection() {
    let (world, daemon) = with_image();
    good(&world, &["run", "-d", "--name", "web", IMAGE, "sleep", "1000"]);
    let begin = Instant::now();
    let late = bosun(&world, &["--timeout", "300ms", "wait", "web"]);
    assert_eq!(late.status.code(), Some(1));
    assert!(text(&late.stderr).contains("not done within 300ms"), "{}", text(&late.stderr));
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert_eq!(
        bosun(&world, &["--timeout", "300ms", "exec", "web", "sleep", "1000"]).status.code(),
        Some(125)
    );
    good(&world, &["--timeout", "30s", "ps"]);
    for bad in ["0s", "soon"] {
        assert_eq!(bosun(&world, &["--timeout", bad, "ps"]).status.code(), Some(2), "{bad}");
    }
    good(&world, &["rm", "-f", "web"]);
    daemon.kill();
    let refused = bosun(&world, &["--connect-timeout", "100ms", "ps"]);
    assert_eq!(refused.status.code(), Some(1));
    // A daemon that comes within it is found.
    let waiting = world.bosun(&["--connect-timeout", "30s", "ps", "-aq"]).stdout(Stdio::piped()).spawn();
    let waiting = waiting.expect("bosun runs");
    let _daemon = world.start();
    let output = waiting.wait_with_output().expect("ours");
    assert!(output.status.success() && text(&output.stdout).is_empty(), "{}", text(&output.stdout));
}
