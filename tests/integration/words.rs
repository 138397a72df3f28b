//! What the command line makes of lists and names: formats, completions, stress, devices by CDI.

use std::process::Command;

use bosun_tests::world::{World, program};

use crate::cli::{bosun, good, text, with_image};

const IMAGE: &str = "test.local/busybox:latest";

#[test]
fn formats_of_lists_and_of_inspect() {
    let (world, _daemon) = with_image();
    good(&world, &["run", "-d", "--name", "web", "--label", "team=a", IMAGE, "sleep", "1000"]);
    assert_eq!(good(&world, &["ps", "--format", "{{.container}} {{.Status}}"]), "web running\n");
    assert_eq!(good(&world, &["images", "--format", "{{.name}}"]), format!("{IMAGE}\n"));
    assert_eq!(good(&world, &["inspect", "web", "--format", "{{.labels.team}} {{json .id}}"]), "a \"web\"\n");
    let table = good(&world, &["ps", "--format", "table {{.container}}\\t{{.status}}"]);
    assert_eq!(table, "CONTAINER  STATUS\nweb        running\n");
    assert!(good(&world, &["ps", "--format", "json"]).contains("\"container\": \"web\""));
    assert!(good(&world, &["ps", "--format", "table"]).starts_with("CONTAINER"));
    for words in [
        &["namespaces", "--format", "{{.name}}"][..],
        &["snapshots", "--format", "{{.key}}"],
        &["content", "ls", "--format", "{{.digest}}"],
        &["leases", "--format", "{{.id}}"],
        &["operations", "--format", "{{.id}}"],
        &["transfers", "ls", "--format", "{{.kind}}"],
        &["events", "--since", "1", "--no-follow", "--format", "{{.topic}}"],
        &["top", "web", "--format", "{{.pid}}"],
        &["daemon", "status", "--format", "{{.version}}"],
        &["version", "--format", "{{.client.version}}"],
    ] {
        let printed = good(&world, words);
        assert!(!printed.contains('{') && !printed.contains("CONTAINER"), "{words:?}: {printed}");
    }
    for (template, wanted) in [("{{.none}}", "container, created_at"), ("id", "{{.id}}"), ("{{", "}}")] {
        let refused = bosun(&world, &["ps", "--format", template]);
        // What the words cannot be is wrong usage; which fields there are shows with the items.
        let code = if template == "{{.none}}" { 1 } else { 2 };
        assert_eq!(refused.status.code(), Some(code), "{template}");
        assert!(text(&refused.stderr).contains(wanted), "{template}: {}", text(&refused.stderr));
    }
    let archive = world.path("docker.tar");
    good(&world, &["save", "--format", "docker", "-o", &archive.to_string_lossy(), IMAGE]);
    let mut names = tar::Archive::new(std::fs::File::open(&archive).expect("there"));
    let has = |name: &str, entry: std::io::Result<tar::Entry<'_, std::fs::File>>| {
        entry.expect("an entry").path().expect("a path").ends_with(name)
    };
    assert!(names.entries().expect("a tar").any(|entry| has("manifest.json", entry)));
}

#[test]
fn a_pipe_gets_no_colours_and_no_escapes() {
    let (world, _daemon) = with_image();
    for words in [&["ps"][..], &["images"], &["inspect", "none"], &["load", "/none"]] {
        let output = bosun(&world, words);
        let all = [output.stdout, output.stderr].concat();
        assert!(!all.contains(&0x1b), "{words:?}: {}", text(&all));
    }
}

/// What a shell would offer after these words.
fn completed(world: &World, words: &[&str]) -> Vec<String> {
    let output = Command::new(program("bosun"))
        .arg("--")
        .args(words)
        .env("COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .env("_CLAP_COMPLETE_SPACE", "false")
        .env("_CLAP_IFS", "\n")
        .env("BOSUN_ADDRESS", world.address())
        .output()
        .expect("bosun runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn completions_offer_what_there_is_now() {
    let (world, daemon) = with_image();
    for name in ["web", "worker", "db"] {
        good(&world, &["run", "-d", "--name", name, IMAGE, "sleep", "1000"]);
    }
    good(&world, &["-n", "staging", "leases", "create", "build-7"]);
    assert_eq!(completed(&world, &["bosun", "stop", "w"]), ["web", "worker"]);
    assert_eq!(completed(&world, &["bosun", "rm", "db", "web", "wo"]), ["worker"]);
    assert_eq!(completed(&world, &["bosun", "run", "--rm", "test"]), [IMAGE]);
    assert_eq!(completed(&world, &["bosun", "-n", "st"]), ["staging"]);
    assert_eq!(completed(&world, &["bosun", "-n", "staging", "leases", "rm", ""])[0], "build-7");
    assert!(completed(&world, &["bosun", "snapshots", "info", ""]).contains(&"web".to_owned()));
    assert_eq!(completed(&world, &["bosun", "cp", "we"]), ["web:"]);
    assert!(completed(&world, &["bosun", "images", "ex"]).contains(&"export".to_owned()));
    // For each shell there is a script that asks like this.
    for shell in ["bash", "zsh", "fish"] {
        assert!(good(&world, &["completions", shell]).contains("COMPLETE"), "{shell}");
    }
    daemon.kill();
    assert!(
        completed(&world, &["bosun", "stop", "w"]).is_empty(),
        "without a daemon there is nothing, and no error"
    );
}

#[test]
fn str_1_stress_counts_what_happened_and_leaves_nothing() {
    let (world, _daemon) = with_image();
    let parse = |text: String| serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
    let totals = parse(good(&world, &["--json", "stress", "--count", "6", "-c", "2", IMAGE]));
    assert_eq!((totals["total"].as_u64(), totals["failures"].as_u64()), (Some(6), Some(0)));
    assert!(totals["containersPerSecond"].as_f64().is_some_and(|rate| rate > 0.0));
    let totals = parse(good(&world, &["--json", "stress", "--count", "2", "--exec", IMAGE]));
    assert_eq!((totals["execTotal"].as_u64(), totals["execFailures"].as_u64()), (Some(2), Some(0)));
    let failed = bosun(&world, &["--json", "stress", "--count", "3", "--runtime", "/none", IMAGE]);
    assert_eq!(failed.status.code(), Some(1));
    let totals = parse(text(&failed.stdout));
    assert_eq!((totals["total"].as_u64(), totals["failures"].as_u64()), (Some(0), Some(3)));
    assert!(text(&failed.stderr).contains("/none"), "{}", text(&failed.stderr));
    assert_eq!(good(&world, &["-n", "stress", "ps", "-aq"]), "");
}

#[test]
fn str_2_density_is_divided_by_as_many_as_were_started() {
    let (world, _daemon) = with_image();
    let printed = good(&world, &["--json", "stress", "density", "--count", "3", IMAGE]);
    let density: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    let get = |key: &str| density[key].as_u64().expect(key);
    assert_eq!(get("containers"), 3);
    assert_eq!(get("pssPerContainer"), get("pss") / 3);
    assert_eq!(get("rssPerContainer"), get("rss") / 3);
    assert!(get("rss") >= get("pss") && get("pss") > 0);
    assert_eq!(good(&world, &["-n", "stress", "ps", "-aq"]), "");
}

#[test]
fn devices_by_cdi_and_gpus() {
    let world = World::new();
    let specs = world.path("cdi");
    std::fs::create_dir(&specs).expect("makes");
    std::fs::write(world.path("library"), "driver").expect("writes");
    let hook = world.path("hook");
    let script = format!("#!/bin/sh\necho \"$1 $MARK\" > {0}\ncat >> {0}\n", world.path("hooked").display());
    std::fs::write(&hook, script).expect("writes");
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let spec = format!(
        "cdiVersion: 0.6.0
kind: nvidia.com/gpu
containerEdits:
  env: [DRIVER=1]
  additionalGids: [44]
  hooks:
  - {{hookName: createRuntime, path: {hook}, args: [hook, called], env: [MARK=here]}}
  mounts:
  - hostPath: {library}
    containerPath: /lib/driver
devices:
- name: all
  containerEdits:
    additionalGids: [109]
    mounts:
    - {{hostPath: none, containerPath: /scratch, type: tmpfs, options: [size=64k]}}
    deviceNodes:
    - {{path: /dev/gpu0, hostPath: /dev/null}}
- name: \"0\"
  containerEdits:
    env: [ONE=1]
- name: newer
  containerEdits:
    netDevices: [{{hostInterfaceName: eth0, name: eth0}}]
",
        hook = hook.display(),
        library = world.path("library").display()
    );
    std::fs::write(specs.join("gpu.yaml"), spec).expect("writes");
    let _daemon = world.start_with_words(&["--cdi-dir", &specs.to_string_lossy()]);
    let rootfs = world.path("rootfs");
    bosun_tests::fixture::write_rootfs(&rootfs).expect("writes");
    let rootfs = rootfs.to_string_lossy().into_owned();
    let look = "cat /lib/driver; echo x > /dev/gpu0 && stat -c '%t:%T' /dev/gpu0; echo $DRIVER$ONE";
    let shell = ["/bin/sh", "-c", look];
    let run = |flags: &[&str]| {
        bosun(
            &world,
            &[&["run", "--rm", "-e", "PATH=/bin"][..], flags, &["--rootfs", rootfs.as_str()], &shell]
                .concat(),
        )
    };
    let all = run(&["--gpus", "all"]);
    assert_eq!(text(&all.stdout), "driver1:3\n1\n", "{}", text(&all.stderr));
    let both = run(&["--device", "nvidia.com/gpu=0", "--gpus", "all"]);
    assert_eq!(text(&both.stdout), "driver1:3\n11\n", "{}", text(&both.stderr));
    let hooked = std::fs::read_to_string(world.path("hooked")).expect("the hook was called");
    let (first, state) = hooked.split_once('\n').expect("two lines");
    assert_eq!(first, "called here");
    let state: serde_json::Value = serde_json::from_str(state).expect("the state that OCI hooks get");
    assert!(state["pid"].as_u64().is_some(), "{state}");
    let groups = good(
        &world,
        &[
            "run",
            "--rm",
            "--gpus",
            "all",
            "-e",
            "PATH=/bin",
            "--rootfs",
            &rootfs,
            "/bin/sh",
            "-c",
            "id -G; grep -c ' /scratch tmpfs ' /proc/mounts",
        ],
    );
    assert_eq!(groups, "0 44 109\n1\n");
    let newer = run(&["--device", "nvidia.com/gpu=newer"]);
    assert_eq!(newer.status.code(), Some(125), "what it lacks is not left out");
    assert!(text(&newer.stderr).contains("netDevices"), "{}", text(&newer.stderr));
    let unknown = run(&["--gpus", "2"]);
    assert_eq!(unknown.status.code(), Some(125));
    assert!(text(&unknown.stderr).contains("nvidia.com/gpu=1"), "{}", text(&unknown.stderr));
    assert!(text(&unknown.stderr).contains("hint:"), "{}", text(&unknown.stderr));
    // --net as docker has it.
    let hosts = std::fs::read_link("/proc/self/ns/net").expect("a namespace").display().to_string();
    let net = |word: &str| {
        let words =
            ["run", "--rm", "--net", word, "--rootfs", &rootfs, "/bin/sh", "-c", "ls -l /proc/self/ns/net"];
        good(&world, &words)
    };
    assert!(net("host").contains(&hosts) && !net("none").contains(&hosts));
}
