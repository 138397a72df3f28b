//! `bosun cp`, `commit`, `prune`: what leaves containers, what goes into them, what is cleared away.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::process::Stdio;

use bosun_tests::fixture;
use bosun_tests::world::{World, wait_until};

use crate::cli::{bosun, good, text, with_image};

const IMAGE: &str = "test.local/busybox:latest";

fn run(world: &World, name: &str, command: &str) {
    good(world, &["run", "-d", "--name", name, IMAGE, "sh", "-c", command]);
}

fn word(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

fn stop(world: &World, name: &str) {
    good(world, &["stop", "-t", "0", name]);
}

/// Both ways, of a container that runs and of the same one when it does not.
#[test]
fn files_and_directories_go_both_ways_running_or_not() {
    let (world, _daemon) = with_image();
    run(&world, "web", "mkdir /srv; echo one > /srv/one; ln -s one /srv/link; sleep 1000");
    wait_until("the files", || bosun(&world, &["exec", "web", "test", "-h", "/srv/link"]).status.success());
    let site = world.path("site");
    std::fs::create_dir_all(site.join("deep/er")).expect("makes");
    std::fs::write(site.join("deep/er/page"), "hello").expect("writes");
    symlink("deep", site.join("short")).expect("links");
    std::os::unix::fs::chown(site.join("deep/er/page"), Some(1234), Some(1234)).expect("we are root");
    for state in ["running", "stopped"] {
        let place = world.path(state);
        std::fs::create_dir(&place).expect("makes");
        let into = |name: &str| word(&place.join(name));
        good(&world, &["cp", "web:/srv/one", &into("renamed")]);
        assert_eq!(std::fs::read_to_string(place.join("renamed")).expect("there"), "one\n", "{state}");
        good(&world, &["cp", "web:srv", &into("")]);
        assert_eq!(std::fs::read_to_string(place.join("srv/one")).expect("there"), "one\n");
        assert_eq!(std::fs::read_link(place.join("srv/link")).expect("a link"), std::path::Path::new("one"));
        good(&world, &["cp", "web:/srv/.", &into("contents")]);
        assert!(place.join("contents/one").exists() && !place.join("contents/srv").exists());
        good(&world, &["cp", "-L", "web:/srv/link", &into("followed")]);
        assert!(std::fs::symlink_metadata(place.join("followed")).expect("there").is_file());

        let target = format!("web:/srv/{state}");
        good(&world, &["cp", &word(&site), &target]);
        good(&world, &["cp", &word(&site), &target]);
        let back = into("back");
        good(&world, &["cp", &target, &back]);
        let page = place.join("back/deep/er/page");
        assert_eq!(std::fs::read_to_string(&page).expect("there"), "hello");
        assert!(place.join("back/site/short/er/page").exists(), "the second time under its own name");
        assert_eq!(std::fs::metadata(&page).expect("there").uid(), 0, "root's in there, ours here");
        good(&world, &["cp", "--archive", &format!("{}/.", word(&site)), &target]);
        good(&world, &["cp", "--archive", &target, &into("owned")]);
        assert_eq!(std::fs::metadata(place.join("owned/deep/er/page")).expect("there").uid(), 1234);
        if state == "running" {
            assert_eq!(good(&world, &["exec", "web", "cat", "/srv/running/short/er/page"]), "hello");
            stop(&world, "web");
        }
    }
    good(&world, &["start", "web"]);
    assert_eq!(good(&world, &["exec", "web", "cat", "/srv/stopped/short/er/page"]), "hello");
    good(&world, &["rm", "-f", "web"]);
}

#[test]
fn a_tar_stream_comes_and_goes() {
    let (world, _daemon) = with_image();
    run(&world, "a", "echo x > /tmp/x; sleep 1000");
    run(&world, "b", "sleep 1000");
    wait_until("the file", || bosun(&world, &["exec", "a", "test", "-s", "/tmp/x"]).status.success());
    let mut out = world.bosun(&["cp", "a:/tmp/x", "-"]).stdout(Stdio::piped()).spawn().expect("runs");
    let stream = out.stdout.take().expect("a pipe");
    let into = world.bosun(&["cp", "-", "b:/etc"]).stdin(stream).output().expect("runs");
    assert!(into.status.success(), "{}", text(&into.stderr));
    assert!(out.wait().expect("ends").success());
    assert_eq!(good(&world, &["exec", "b", "cat", "/etc/x"]), "x\n");
    let torn = world.path("torn.tar");
    let whole = world.bosun(&["cp", "a:/bin", "-"]).output().expect("runs").stdout;
    std::fs::write(&torn, &whole[..whole.len() / 2]).expect("writes");
    let torn = std::fs::File::open(&torn).expect("opens");
    let refused = world.bosun(&["cp", "-", "b:/tmp"]).stdin(torn).output().expect("runs");
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("middle"), "{}", text(&refused.stderr));
}

#[test]
fn errors_name_the_container_and_the_path() {
    let (world, _daemon) = with_image();
    run(&world, "web", "sleep 1000");
    let here = world.path("here");
    let here = word(&here);
    for (words, wanted) in [
        (vec!["cp", "web:/none", &here], "/none"),
        (vec!["cp", "nobody:/etc", &here], "nobody"),
        (vec!["cp", "/etc/passwd", "web:/none/"], "/none"),
        (vec!["cp", "/etc", "web:/etc/passwd"], "is a file"),
        (vec!["cp", "web:/etc", "web:/tmp"], "cp ONE:PATH"),
        (vec!["cp", "/a", "/b"], "CONTAINER:PATH"),
    ] {
        let refused = bosun(&world, &words);
        assert_eq!(refused.status.code(), Some(1), "{words:?}");
        assert!(text(&refused.stderr).contains(wanted), "{words:?}: {}", text(&refused.stderr));
    }
    assert!(!std::path::Path::new(&here).exists(), "a refused copy leaves nothing");
}

/// CVE-2018-15664 and CVE-2019-14271: what a container does to its own files reaches nothing outside of it, running or not, also when links are swapped
/// for directories all the while.
#[test]
fn links_that_lead_out_of_the_root_lead_back_into_it() {
    let (world, _daemon) = with_image();
    let outside = world.path("outside");
    std::fs::create_dir(&outside).expect("makes");
    std::fs::write(outside.join("secret"), "host").expect("writes");
    let path = word(&outside);
    let command = format!(
        "mkdir -p /real; ln -s {path} /out; ln -s /proc/1/root{path} /magic; ln -s ../../../../../..{path} /up; \
         mkdir /swap; while :; do rm -rf /swap; ln -s {path} /swap; rm -f /swap; mkdir /swap; done"
    );
    run(&world, "evil", &command);
    wait_until("the links", || bosun(&world, &["exec", "evil", "test", "-h", "/up"]).status.success());
    let input = world.path("input");
    std::fs::create_dir(&input).expect("makes");
    std::fs::write(input.join("secret"), "overwritten").expect("writes");
    let got = word(&world.path("got"));
    for state in ["running", "stopped"] {
        for link in ["out", "magic", "up"] {
            let read = bosun(&world, &["cp", &format!("evil:/{link}/secret"), &got]);
            // Later there may be something of that name, in the container: what went through a link while it was one.
            assert!(state == "stopped" || !read.status.success(), "{state} {link}");
            bosun(&world, &["cp", &format!("{}/.", word(&input)), &format!("evil:/{link}")]);
        }
        if state == "running" {
            for _ in 0..20 {
                bosun(&world, &["cp", &format!("{}/.", word(&input)), "evil:/swap"]);
                bosun(&world, &["cp", "evil:/swap/secret", &got]);
            }
            good(&world, &["kill", "-s", "KILL", "evil"]);
            good(&world, &["wait", "evil"]);
        }
        assert_eq!(std::fs::read_to_string(outside.join("secret")).expect("there"), "host", "{state}");
        assert_ne!(std::fs::read_to_string(&got).unwrap_or_default(), "host", "{state}");
    }
}

#[test]
fn a_volume_is_seen_while_it_runs_and_not_written_past_when_it_does_not() {
    let (world, _daemon) = with_image();
    let data = world.path("data");
    std::fs::create_dir(&data).expect("makes");
    std::fs::write(data.join("in"), "volume").expect("writes");
    let volume = format!("{}:/data", word(&data));
    good(&world, &["run", "-d", "--name", "v", "-v", &volume, IMAGE, "sleep", "1000"]);
    let got = world.path("got");
    good(&world, &["cp", "v:/data/in", &word(&got)]);
    assert_eq!(std::fs::read_to_string(&got).expect("there"), "volume");
    good(&world, &["cp", &word(&got), "v:/data/new"]);
    assert!(data.join("new").exists());
    stop(&world, "v");
    let refused = bosun(&world, &["cp", &word(&got), "v:/data/late"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("hint: start it first"), "{}", text(&refused.stderr));
}

#[test]
fn a_container_with_users_of_its_own_sees_its_own_ids() {
    let (world, _daemon) = with_image();
    let map = ["run", "-d", "--name", "u", "--userns-remap", "100000:65536", IMAGE, "sleep", "1000"];
    good(&world, &map);
    let file = world.path("file");
    std::fs::write(&file, "x").expect("writes");
    std::os::unix::fs::chown(&file, Some(1000), Some(1000)).expect("we are root");
    for (state, target) in [("running", "/tmp/r"), ("stopped", "/tmp/s")] {
        good(&world, &["cp", &word(&file), &format!("u:{target}")]);
        good(&world, &["cp", "-a", &word(&file), &format!("u:{target}-kept")]);
        let back = world.path(state);
        good(&world, &["cp", "-a", &format!("u:{target}-kept"), &word(&back)]);
        assert_eq!(std::fs::metadata(&back).expect("there").uid(), 1000, "{state}");
        if state == "running" {
            stop(&world, "u");
        }
    }
    good(&world, &["start", "u"]);
    let owners =
        good(&world, &["exec", "u", "stat", "-c", "%u", "/tmp/r", "/tmp/r-kept", "/tmp/s", "/tmp/s-kept"]);
    assert_eq!(owners.split_whitespace().collect::<Vec<_>>(), ["0", "1000", "0", "1000"]);
}

/// It has enough to read that somebody can look meanwhile.
const LARGE: &str = "dd if=/dev/urandom of=/large bs=1048576 count=48 2>/dev/null; echo ready; sleep 1000";

fn status(world: &World) -> String {
    good(world, &["ps", "-a", "--format", "{{.status}}"]).trim().to_owned()
}

#[test]
fn a_container_that_is_committed_paused_goes_on_whoever_is_killed() {
    let (world, mut daemon) = with_image();
    run(&world, "web", LARGE);
    wait_until("what it has to read", || good(&world, &["logs", "web"]) == "ready\n");
    for (number, killed) in ["nobody", "client", "daemon"].into_iter().enumerate() {
        let image = format!("test.local/web:{number}");
        let mut command = world.bosun(&["commit", "--pause", "web", &image]);
        let mut client = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("bosun runs");
        wait_until("it to be frozen", || status(&world) == "paused");
        // Nobody else lets it go on meanwhile.
        let refused = bosun(&world, &["resume", "web"]);
        let is_late = text(&refused.stderr).contains("cannot resume a running");
        assert!(!refused.status.success(), "{killed}");
        assert!(is_late || text(&refused.stderr).contains("committed"), "{}", text(&refused.stderr));
        match killed {
            "client" => client.kill().expect("ours"),
            "daemon" => {
                daemon.kill();
                daemon = world.start();
            }
            _ => assert!(client.wait().expect("ours").success()),
        }
        wait_until("it to go on", || status(&world) == "running");
        // One whose daemon was killed has begun anew with the next.
        let _ = client.kill();
        let _ = client.wait();
        wait_until("nothing to be left open", || good(&world, &["operations"]).lines().count() == 1);
        assert_eq!(status(&world), "running");
    }
    good(&world, &["pause", "web"]);
    good(&world, &["commit", "--pause", "web", "test.local/web:paused"]);
    assert_eq!(status(&world), "paused", "by its owner, it stays so");
    drop(daemon);
}

#[test]
fn a_container_goes_on_when_its_commit_fails() {
    let (world, daemon) = with_image();
    run(&world, "web", "echo ready; sleep 1000");
    wait_until("it to run", || good(&world, &["logs", "web"]) == "ready\n");
    daemon.kill();
    let _daemon = world.start_with(&[("BOSUN_FAULTS", "make_layer.write_layer.after=error")]);
    let failed = bosun(&world, &["commit", "--pause", "web", "test.local/web:1"]);
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed.stderr));
    assert_eq!(status(&world), "running");
    good(&world, &["stop", "--time", "0", "web"]);
    // Of one that does not run there is nothing to freeze.
    good(&world, &["commit", "--pause", "web", "test.local/web:2"]);
}

#[test]
fn a_commit_is_an_image_with_a_layer_more() {
    let (world, _daemon) = with_image();
    run(&world, "web", "echo new > /etc/new; rm /etc/group; echo ready; sleep 1000");
    wait_until("the changes", || good(&world, &["logs", "web"]) == "ready\n");
    let made = "test.local/web:patched";
    let words = [
        "commit",
        "--pause",
        "-m",
        "why",
        "--author",
        "me",
        "-c",
        "CMD [\"cat\", \"/etc/new\"]",
        "-c",
        "ENV A=b",
    ];
    let printed = good(&world, &[&words[..], &["web", made]].concat());
    assert!(printed.starts_with("test.local/web:patched sha256:"), "{printed}");
    assert!(good(&world, &["ps"]).contains("running"), "it goes on");
    assert_eq!(good(&world, &["run", "--rm", made]), "new\n");
    let looked = "test ! -e /etc/group && test -e /etc/passwd && echo $A";
    assert_eq!(good(&world, &["run", "--rm", made, "sh", "-c", looked]), "b\n");
    let again = bosun(&world, &["commit", "web", made]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("hint:"), "{}", text(&again.stderr));
    good(&world, &["commit", "--force", "web", made]);
    assert_eq!(bosun(&world, &["commit", "-c", "RUN make", "web", "r.local/x:1"]).status.code(), Some(1));
    // Nothing of the work is left, and everything of the image stays.
    assert_eq!(good(&world, &["leases", "ls", "-q"]), "");
    good(&world, &["rm", "-f", "web"]);
    good(&world, &["gc"]);
    good(&world, &["content", "verify"]);
    let archive = word(&world.path("image.tar"));
    good(&world, &["save", "-o", &archive, made]);
    assert_eq!(good(&world, &["run", "--rm", made, "cat", "/etc/new"]), "new\n");
}

#[test]
fn prune_removes_what_is_not_used_and_says_how_much() {
    let (world, _daemon) = with_image();
    run(&world, "lives", "sleep 1000");
    run(&world, "ended", "echo much > /tmp/file");
    good(&world, &["wait", "ended"]);
    let file = std::fs::File::create(world.path("other.tar")).expect("creates");
    let other = fixture::layered_image(1, 100_000).expect("an image");
    other.write_oci_tar(file, Some("test.local/other:1")).expect("writes");
    good(&world, &["load", &word(&world.path("other.tar"))]);
    let refused = bosun(&world, &["prune"]);
    assert!(text(&refused.stderr).contains("--force"), "{}", text(&refused.stderr));
    let parse = |text: String| serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
    let would = parse(good(&world, &["--json", "prune", "--dry-run"]));
    assert_eq!(would["containers"], serde_json::json!(["ended"]));
    assert_eq!(would["images"], serde_json::json!(["test.local/other:1"]));
    assert!(would["blob_bytes"].as_u64().expect("a size") > 100_000);
    assert!(good(&world, &["ps", "-aq"]).contains("ended"), "nothing went");
    let did = parse(good(&world, &["--json", "prune", "--force"]));
    for what in ["containers", "images", "blobs", "blob_bytes", "snapshots"] {
        assert_eq!(did[what], would[what], "{what}: said before and done");
    }
    assert_eq!(good(&world, &["ps", "-aq"]), "lives\n");
    assert_eq!(good(&world, &["images", "-q"]), format!("{IMAGE}\n"));
    assert_eq!(good(&world, &["run", "--rm", IMAGE, "echo", "ok"]), "ok\n");
}
