//! The command line, as a person types it.

use std::process::Output;

use bosun_tests::fixture;
use bosun_tests::world::{World, wait_until};

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn bosun(world: &World, words: &[&str]) -> Output {
    world.bosun(words).output().expect("bosun runs")
}

pub(crate) fn good(world: &World, words: &[&str]) -> String {
    let output = bosun(world, words);
    assert!(output.status.success(), "bosun {words:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

pub(crate) fn with_image() -> (World, bosun_tests::world::Daemon) {
    let world = World::new();
    let daemon = world.start();
    let archive = world.path("image.tar");
    let file = std::fs::File::create(&archive).expect("creates");
    fixture::busybox_image()
        .expect("an image")
        .write_oci_tar(file, Some("test.local/busybox:latest"))
        .expect("writes");
    good(&world, &["images", "import", &archive.to_string_lossy()]);
    (world, daemon)
}

#[test]
fn run_gives_output_and_code_and_leaves_nothing_with_rm() {
    let (world, _daemon) = with_image();
    let output = bosun(
        &world,
        &["run", "--rm", "test.local/busybox:latest", "sh", "-c", "echo out; echo err >&2; exit 7"],
    );
    assert_eq!(
        (output.status.code(), text(&output.stdout).as_str(), text(&output.stderr).as_str()),
        (Some(7), "out\n", "err\n")
    );
    let rows: serde_json::Value =
        serde_json::from_str(&good(&world, &["ps", "--all", "--json"])).expect("JSON");
    assert_eq!(rows, serde_json::json!([]));
}

#[test]
fn run_by_rootfs_directory() {
    let (world, _daemon) = with_image();
    let rootfs = world.path("rootfs");
    fixture::write_rootfs(&rootfs).expect("writes");
    let output =
        bosun(&world, &["run", "--rm", "--rootfs", &rootfs.to_string_lossy(), "/bin/sh", "-c", "exit 5"]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
}

#[test]
fn the_everyday_words() {
    let (world, _daemon) = with_image();
    assert_eq!(
        good(
            &world,
            &["run", "-d", "--name", "web", "test.local/busybox:latest", "sh", "-c", "echo up; sleep 1000"]
        ),
        "web\n"
    );
    assert!(good(&world, &["ps"]).contains("running"));
    assert_eq!(bosun(&world, &["exec", "web", "sh", "-c", "exit 3"]).status.code(), Some(3));
    assert!(good(&world, &["tree"]).contains("web"));
    assert!(good(&world, &["events", "--since", "1", "--no-follow"]).contains("/tasks/start"));
    assert!(good(&world, &["inspect", "web"]).contains("ociVersion"));
    assert!(good(&world, &["version"]).contains("client"));
    assert!(good(&world, &["daemon", "status"]).contains("containers"));
    assert!(good(&world, &["namespaces"]).contains("default"));
    assert!(good(&world, &["images", "--json"]).contains("sha256:"));
    bosun_tests::world::wait_until("the log", || good(&world, &["logs", "web"]) == "up\n");
    let refused = bosun(&world, &["rm", "web"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("hint:"), "{}", text(&refused.stderr));
    good(&world, &["kill", "-s", "KILL", "web"]);
    assert_eq!(good(&world, &["wait", "web"]).trim(), "137");
    good(&world, &["rm", "-f", "web"]);
    assert!(!good(&world, &["ps", "-a"]).contains("web"));
}

#[test]
fn errors_say_what_and_what_to_do() {
    let (world, daemon) = with_image();
    let output = bosun(&world, &["run", "--rm", "test.local/none:1", "true"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("test.local/none:1"), "{}", text(&output.stderr));
    assert_eq!(
        bosun(&world, &["run", "--rm", "test.local/busybox:latest", "no-such-command"]).status.code(),
        Some(127)
    );
    assert_eq!(bosun(&world, &["run", "--no-such-flag"]).status.code(), Some(2));
    daemon.kill();
    let output = bosun(&world, &["ps"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("hint:"), "{}", text(&output.stderr));
}

#[test]
fn man_pages_and_completions_are_made() {
    let world = World::new();
    let man = world.path("man");
    std::fs::create_dir(&man).expect("makes");
    good(&world, &["man", &man.to_string_lossy()]);
    assert!(std::fs::read_dir(&man).expect("lists").count() > 10);
    for shell in ["bash", "zsh", "fish"] {
        assert!(good(&world, &["completions", shell]).contains("bosun"));
    }
}

#[test]
fn start_stop_restart_and_policies_by_their_words() {
    let (world, _daemon) = with_image();
    let image = "test.local/busybox:latest";
    let lives = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done";
    good(&world, &["run", "-d", "--name", "web", "--restart", "unless-stopped", image, "sh", "-c", lives]);
    assert!(good(&world, &["ps"]).contains("unless-stopped 0"));
    // Before its trap stands, it hears no TERM.
    wait_until("its trap to stand", || good(&world, &["logs", "web"]).contains("up"));
    assert_eq!(good(&world, &["stop", "web"]), "web\n");
    assert!(good(&world, &["ps", "-a"]).contains("stopped (0)"));
    assert_eq!(good(&world, &["start", "web"]), "web\n");
    assert!(good(&world, &["ps"]).contains("running"));
    assert_eq!(good(&world, &["restart", "-t", "1", "web"]), "web\n");
    good(&world, &["update", "--restart", "on-failure:3", "--restart-intensity", "5/1m", "web"]);
    let rows: serde_json::Value = serde_json::from_str(&good(&world, &["ps", "--json"])).expect("JSON");
    assert_eq!(rows[0]["restart"]["policy"]["when"], "on-failure:3");
    assert_eq!(rows[0]["restart"]["policy"]["intensity"]["restarts"], 5);
    assert!(good(&world, &["tree"]).contains("relaunch"));
    good(&world, &["rm", "-f", "web"]);
    let refused = bosun(&world, &["run", "--rm", "--restart", "always", image, "true"]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
}

#[test]
fn doctor_and_health_say_how_it_is_in_words_json_and_exit_codes() {
    let world = World::new();
    let down = bosun(&world, &["health"]);
    assert_eq!((down.status.code(), text(&down.stdout).trim()), (Some(1), "not serving"));
    let _daemon = world.start();
    assert_eq!(good(&world, &["health", "--wait", "30"]).lines().count(), 1);
    let output = bosun(&world, &["--json", "doctor"]);
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = findings.as_array().expect("a list");
    let failures = findings.iter().filter(|finding| finding["level"] == "failure").count();
    assert_eq!(output.status.code(), Some(i32::from(failures > 0)), "{findings:?}");
    for check in [
        "kernel",
        "cgroup",
        "overlayfs",
        "space",
        "seccomp",
        "socket",
        "daemon",
        "clock",
        "directories",
        "shims",
    ] {
        let finding = findings.iter().find(|finding| finding["check"] == check).expect(check);
        assert!(finding["level"] == "ok" || finding["advice"].is_string(), "{finding}");
    }
    let daemon = findings.iter().find(|finding| finding["check"] == "daemon").expect("asked");
    assert_eq!(daemon["level"], "ok", "{daemon}");
}

#[test]
fn a_group_from_a_file_by_its_words() {
    let (world, _daemon) = with_image();
    let image = "test.local/busybox:latest";
    for name in ["db", "web"] {
        good(
            &world,
            &[
                "run",
                "-d",
                "--name",
                name,
                image,
                "sh",
                "-c",
                "trap 'exit 0' TERM; while :; do sleep 0.05; done",
            ],
        );
    }
    let file = world.path("shop.toml");
    let toml = "name = \"shop\"\nstrategy = \"rest_for_one\"\n[[member]]\ncontainer = \"db\"\nshutdown = \"5s\"\n[[member]]\ncontainer = \"web\"\n";
    std::fs::write(&file, toml).expect("writes");
    assert_eq!(good(&world, &["group", "create", "--file", &file.to_string_lossy(), "--start"]), "shop\n");
    assert!(good(&world, &["group", "ls"]).contains("rest_for_one"));
    let tree = good(&world, &["group", "tree"]);
    assert!(
        tree.contains("shop [rest_for_one, 3 in 60 s] up") && tree.contains("└─ web permanent running"),
        "{tree}"
    );
    assert!(good(&world, &["tree"]).contains("group rest_for_one, up"));
    let inspected: serde_json::Value =
        serde_json::from_str(&good(&world, &["group", "inspect", "shop"])).expect("JSON");
    assert_eq!(inspected[0]["spec"]["members"][0]["shutdown_ms"], 5000);
    let refused = bosun(&world, &["group", "rm", "shop"]);
    assert!(text(&refused.stderr).contains("bosun group stop shop"), "{}", text(&refused.stderr));
    good(&world, &["group", "rm", "--force", "shop"]);
    good(&world, &["rm", "db", "web"]);
    let bad = bosun(&world, &["operations", "forget", "4711"]);
    assert!(text(&bad.stderr).contains("4711"), "{}", text(&bad.stderr));
}

#[test]
fn logs_as_json_name_the_call_they_belong_to() {
    let world = World::new();
    let config = world.path("config.toml");
    std::fs::write(&config, "[log]\nformat = \"json\"\n").expect("writes");
    let level = [("RUST_LOG", "bosun_edge=debug,info")];
    let _daemon = world.start_as(&level, &["--config", &config.to_string_lossy()]);
    let refused = bosun(&world, &["inspect", "none"]);
    assert_eq!(refused.status.code(), Some(1));
    let log = world.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    assert!(lines.iter().any(|line| line["fields"]["message"] == "serving"), "{log}");
    let of_call = |line: &&serde_json::Value| {
        line["span"]["name"] == "call" && line["span"]["method"] == "container.record"
    };
    let line = lines.iter().find(of_call).unwrap_or_else(|| panic!("{log}"));
    assert!(line["fields"]["error"].as_str().is_some_and(|error| error.contains("none")), "{line}");
}

#[test]
fn a_skew_of_versions_is_said_once_and_by_who_is_asked_about_it() {
    let world = World::new();
    let rootfs = world.path("rootfs");
    fixture::write_rootfs(&rootfs).expect("writes");
    let rootfs = rootfs.to_string_lossy().into_owned();
    let warnings = |words: &[&str]| {
        let output = bosun(&world, words);
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        text(&output.stderr)
            .lines()
            .filter(|line| line.starts_with("warning:"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let daemon = world.start();
    good(&world, &["run", "-d", "--name", "web", "--rootfs", &rootfs, "sleep", "1000"]);
    for words in [&["ps"][..], &["version"], &["images"]] {
        assert!(warnings(words).is_empty(), "{words:?}: all are of one release");
    }
    daemon.stop();
    // As after an upgrade: the container goes on under the shim that it was started with.
    for (fault, word) in [("shim.older=flag", "older"), ("shim.newer=flag", "newer")] {
        let daemon = world.start_with(&[("BOSUN_FAULTS", fault)]);
        wait_until("the daemon to find it", || {
            good(&world, &["version", "--format", "{{.daemon.shims_older}}{{.daemon.shims_newer}}"])
                .contains('1')
        });
        for words in [&["ps"][..], &["version"]] {
            let told = warnings(words);
            assert!(
                told.len() == 1 && told[0].contains(&format!("1 container runs under a bosun-shim {word}")),
                "{told:?}"
            );
        }
        assert!(warnings(&["images"]).is_empty(), "it is no matter of others");
        daemon.stop();
    }
    let _daemon = world.start_with(&[("BOSUN_FAULTS", "daemon.other_release=flag")]);
    for words in [&["ps", "--all"][..], &["version"], &["inspect", "web"], &["rm", "-f", "web"]] {
        let told = warnings(words);
        assert!(told.len() == 1 && told[0].contains("bosund is 0.0.0"), "{words:?}: {told:?}");
    }
}

#[test]
fn one_calls_number_is_in_the_logs_of_client_edge_actors_and_shim() {
    let world = World::new();
    let level = [("RUST_LOG", "bosun_edge=debug,bosun::stage=debug,info")];
    let _daemon = world.start_as(&level, &["--log-format", "json"]);
    let rootfs = world.path("rootfs");
    fixture::write_rootfs(&rootfs).expect("writes");
    let rootfs = rootfs.to_string_lossy();
    let words =
        ["run", "-d", "--name", "web", "--rootfs", &rootfs, "sh", "-c", "while :; do sleep 0.05; done"];
    let run = world.bosun(&words).env("RUST_LOG", "bosun_client=debug").output().expect("bosun runs");
    assert!(run.status.success(), "{}", text(&run.stderr));
    let log = world.log();
    let lines: Vec<serde_json::Value> =
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of_actor = |line: &&serde_json::Value| line["fields"]["stage"] == "start_process.start";
    let actor = lines.iter().find(of_actor).unwrap_or_else(|| panic!("{log}"));
    let number = actor["span"]["id"].as_str().expect("the number of its call");
    let client = text(&run.stderr);
    for word in ["asking for a change", "done"] {
        let is_told = client.lines().any(|line| line.contains(number) && line.contains(word));
        assert!(is_told, "{number}: {client}");
    }
    let of_edge = |line: &&serde_json::Value| {
        line["target"] == "bosun_edge::connection"
            && line["span"]["id"] == number
            && line["span"]["method"] == actor["span"]["method"]
    };
    assert!(lines.iter().any(|line| of_edge(&line)), "{number}: {log}");
    let shim = shim_log(&world);
    for word in ["asked to start", "done"] {
        let is_told = shim.lines().any(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("as the daemon's: JSON");
            line["span"]["id"] == number && line["fields"]["message"] == word && line["level"] == "INFO"
        });
        assert!(is_told, "{number}: {shim}");
    }
    assert!(!shim.contains("DEBUG"), "nobody asked for it: {shim}");
    good(&world, &["rm", "--force", "web"]);
}

/// Of the only task.
fn shim_log(world: &World) -> String {
    let tasks = std::fs::read_dir(world.places().state.join("tasks")).expect("reads");
    let log = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("shim.log")).expect("reads");
    tasks.flatten().map(log).collect()
}

#[test]
fn rust_log_reaches_the_shims() {
    let world = World::new();
    let rootfs = world.path("rootfs");
    fixture::write_rootfs(&rootfs).expect("writes");
    let rootfs = rootfs.to_string_lossy();
    for (level, told) in [("bosun_shim=debug", true), ("error", false)] {
        let daemon = world.start_with(&[("RUST_LOG", level)]);
        good(&world, &["run", "-d", "--name", "web", "--rootfs", &rootfs, "sleep", "1000"]);
        good(&world, &["top", "web"]);
        let shim = shim_log(&world);
        assert_eq!(shim.contains("asked to"), told, "{level}: {shim}");
        // Text, as the daemon's.
        assert!(!shim.contains('{'), "{shim}");
        good(&world, &["rm", "--force", "web"]);
        daemon.stop();
    }
}
