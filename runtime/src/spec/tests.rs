//! Specs against the rows, the golden default first; users against hostile images.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};

use bosun_types::ErrorClass;
use bosun_types::mount::Mount;
use bosun_types::task::ExecProcess;
use serde_json::{Value, json};

use super::*;
use crate::mount::open_root;

pub(super) struct Root {
    directory: tempfile::TempDir,
    descriptor: OwnedFd,
}

fn root(passwd: &str, group: &str) -> Root {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("etc")).unwrap();
    fs::write(directory.path().join("etc/passwd"), passwd).unwrap();
    fs::write(directory.path().join("etc/group"), group).unwrap();
    Root { descriptor: open_root(directory.path()).unwrap(), directory }
}

const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:w:/srv:/bin/sh\nbroken:x:a:b\nbig:x:4294967295:0::/:\n";
const GROUP: &str = "root:x:0:\nwww:x:34:\nlogs:x:40:web,other\naudio:x:50:other, web\nno:x:60:webby\n";

pub(super) fn value(
    options: &SpecOptions,
    image: Option<&ImageProcessConfig>,
    root: Option<&Root>,
) -> Result<Value> {
    let (namespace, id) = (NamespaceName::new("default").unwrap(), ContainerId::new("web-1").unwrap());
    let context = SpecContext {
        namespace: &namespace,
        id: &id,
        cgroup_parent: CGROUP_PARENT_DEFAULT,
        root_path: "rootfs",
        root: root.map(|it| it.descriptor.as_fd()),
        cdi_directories: &[],
    };
    let bytes = to_json(&build(options, image, &context)?)?;
    Ok(serde_json::from_slice(&bytes).unwrap())
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

pub(super) fn run(list: &[&str]) -> SpecOptions {
    SpecOptions { args: words(list), ..SpecOptions::default() }
}

pub(super) fn class(options: &SpecOptions) -> ErrorClass {
    value(options, None, None).unwrap_err().class()
}

#[test]
fn spc_1_to_8_the_default_spec_is_this() {
    let golden: Value = serde_json::from_str(include_str!("default.json")).unwrap();
    let mut built = value(&run(&["/bin/true"]), None, None).unwrap();
    // The filter is of this machine's architecture and has tests of its own.
    assert!(built["linux"].as_object_mut().unwrap().remove("seccomp").is_some());
    assert_eq!(built, golden, "{}", serde_json::to_string_pretty(&built).unwrap());
}

#[test]
fn the_same_spec_gives_the_same_bytes() {
    let (namespace, id) = (NamespaceName::new("default").unwrap(), ContainerId::new("c").unwrap());
    let context = SpecContext {
        namespace: &namespace,
        id: &id,
        cgroup_parent: "/",
        root_path: "rootfs",
        root: None,
        cdi_directories: &[],
    };
    let bytes = || to_json(&build(&run(&["x"]), None, &context).unwrap()).unwrap();
    assert_eq!(bytes(), bytes());
    assert_eq!(cgroup_path("/", &namespace, &id), "/default/c");
}

fn image() -> ImageProcessConfig {
    ImageProcessConfig {
        user: String::new(),
        env: words(&["A=1", "PATH=/bin", "A=2"]),
        entrypoint: words(&["/entry"]),
        cmd: words(&["cmd"]),
        working_dir: "/srv".into(),
    }
}

#[test]
fn spc_12_the_image_says_what_the_caller_does_not() {
    let process = value(&SpecOptions::default(), Some(&image()), None).unwrap()["process"].take();
    assert_eq!(process["args"], json!(["/entry", "cmd"]));
    assert_eq!(process["cwd"], "/srv");
    assert_eq!(process["env"], json!(["PATH=/bin", "A=2"]), "no word is there twice");
    let arguments =
        |options: SpecOptions| value(&options, Some(&image()), None).unwrap()["process"]["args"].take();
    assert_eq!(arguments(run(&["sh"])), json!(["sh"]));
    let entrypoint = Some(words(&["other"]));
    assert_eq!(
        arguments(SpecOptions { entrypoint: entrypoint.clone(), ..run(&[]) }),
        json!(["other", "cmd"])
    );
    assert_eq!(arguments(SpecOptions { entrypoint, ..run(&["x"]) }), json!(["other", "x"]));
    assert_eq!(class(&run(&[])), ErrorClass::InvalidArgument, "an image without a command");
    assert_eq!(class(&run(&["a\0b"])), ErrorClass::InvalidArgument);
}

#[test]
fn spc_9_environment_terminal_and_host_name() {
    let options = SpecOptions {
        env: words(&["B=3", "A", "TERM=dumb"]),
        terminal: true,
        hostname: Some("box".into()),
        cwd: Some("/tmp".into()),
        ..run(&["sh"])
    };
    let spec = value(&options, Some(&image()), None).unwrap();
    assert_eq!(spec["process"]["env"], json!(["PATH=/bin", "TERM=dumb", "B=3"]));
    assert_eq!(spec["process"]["terminal"], true);
    assert_eq!((&spec["hostname"], &spec["process"]["cwd"]), (&json!("box"), &json!("/tmp")));
}

#[test]
fn cve_2022_4318_control_characters_are_refused() {
    let bad = [
        SpecOptions { env: words(&["HOME=/x\nroot::0:0"]), ..run(&["x"]) },
        SpecOptions { env: words(&["=x"]), ..run(&["x"]) },
        SpecOptions { user: Some("web\n".into()), ..run(&["x"]) },
        SpecOptions { cwd: Some("/a\r".into()), ..run(&["x"]) },
        SpecOptions { cwd: Some("relative".into()), ..run(&["x"]) },
        SpecOptions { hostname: Some("a\tb".into()), ..run(&["x"]) },
        SpecOptions { hostname: Some("h".repeat(65)), ..run(&["x"]) },
    ];
    for options in bad {
        assert_eq!(class(&options), ErrorClass::InvalidArgument, "{options:?}");
    }
}

#[test]
fn spc_10_mounts_are_appended_and_checked() {
    let mount = |kind: &str, source: &str, target: &str, options: &[&str]| Mount {
        kind: kind.into(),
        source: source.into(),
        target: target.into(),
        options: words(options),
    };
    let with = |it: Mount| SpecOptions { mounts: vec![it], ..run(&["x"]) };
    let spec = value(&with(mount("bind", "/data", "/mnt", &["ro"])), None, None).unwrap();
    let last = json!({"destination": "/mnt", "type": "bind", "source": "/data", "options": ["rbind", "ro"]});
    assert_eq!(spec["mounts"].as_array().unwrap().last(), Some(&last));
    for bad in [
        mount("bind", "/data", "mnt", &[]),
        mount("bind", "/data", "/mnt/../etc", &[]),
        mount("bind", "data", "/mnt", &[]),
        mount("tmpfs", "tmpfs", "/mnt", &["size=1,dev"]),
        mount("tmpfs", "tmpfs", "/mnt", &[""]),
    ] {
        assert_eq!(class(&with(bad.clone())), ErrorClass::InvalidArgument, "{bad:?}");
    }
    let spec = value(&SpecOptions { read_only_root: true, ..run(&["x"]) }, None, None).unwrap();
    assert_eq!(spec["root"], json!({"path": "rootfs", "readonly": true}));
}

#[test]
fn spc_11_privilege_takes_the_masks_and_gives_no_devices() {
    let spec = value(&SpecOptions { privileged: true, ..run(&["x"]) }, None, None).unwrap();
    let sets = &spec["process"]["capabilities"];
    let bounding = sets["bounding"].as_array().unwrap();
    assert!(bounding.contains(&json!("CAP_SYS_ADMIN")) && bounding.len() > 30);
    assert_eq!(sets["inheritable"], json!([]), "CVE-2022-24769 holds for privilege too");
    assert_eq!(sets.get("ambient"), None);
    assert_eq!((spec["linux"].get("maskedPaths"), spec["linux"].get("readonlyPaths")), (None, None));
    assert!(!spec["mounts"][5]["options"].as_array().unwrap().contains(&json!("ro")));
    assert_eq!(spec["linux"]["resources"]["devices"], json!([{"allow": false, "access": "rwm"}]));
}

#[test]
fn spc_11_namespaces_are_dropped_replaced_and_added() {
    let join = [("network", "/run/netns/a"), ("user", "/proc/1/ns/user")];
    let join_namespaces = join.iter().map(|(kind, path)| ((*kind).into(), (*path).into())).collect();
    let spec = value(&SpecOptions { join_namespaces, ..run(&["x"]) }, None, None).unwrap();
    let expected = json!([
        {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
        {"type": "network", "path": "/run/netns/a"}, {"type": "user", "path": "/proc/1/ns/user"}
    ]);
    assert_eq!(spec["linux"]["namespaces"], expected);
    let spec = value(&SpecOptions { host_network: true, ..run(&["x"]) }, None, None).unwrap();
    assert_eq!(spec["linux"]["namespaces"].as_array().unwrap().len(), 4);
    let unknown = [("moon".to_owned(), "/x".to_owned())].into();
    assert_eq!(class(&SpecOptions { join_namespaces: unknown, ..run(&["x"]) }), ErrorClass::InvalidArgument);
}

#[test]
fn spc_11_the_hosts_namespaces_are_kept_where_that_is_harmless() {
    let host = |kind: &str| SpecOptions::default().args(["x"]).host_namespace(kind);
    for kind in ["pid", "ipc", "uts", "network"] {
        let spec = value(&host(kind), None, None).unwrap();
        let namespaces = spec["linux"]["namespaces"].as_array().unwrap().clone();
        assert_eq!(namespaces.len(), 4, "{kind}");
        assert!(namespaces.iter().all(|namespace| namespace["type"] != kind), "{kind}");
    }
    value(&host("cgroup"), None, None).expect("there is none of its own anyway");
    assert_eq!(class(&host("mount")), ErrorClass::InvalidArgument);
    assert_eq!(class(&host("uts").hostname("mine")), ErrorClass::InvalidArgument);
}

#[test]
fn limits_become_resources() {
    let options = SpecOptions {
        memory_bytes_max: Some(64 << 20),
        cpu_millis: Some(1_500),
        pids_max: Some(100),
        ..run(&["x"])
    };
    let resources = value(&options, None, None).unwrap()["linux"]["resources"].take();
    assert_eq!(resources["memory"]["limit"], 64 << 20);
    assert_eq!(resources["cpu"], json!({"quota": 150_000, "period": 100_000}));
    assert_eq!(resources["pids"]["limit"], 100);
    for bad in [
        SpecOptions { memory_bytes_max: Some(u64::MAX), ..run(&["x"]) },
        SpecOptions { memory_bytes_max: Some(1), ..run(&["x"]) },
        SpecOptions { cpu_millis: Some(0), ..run(&["x"]) },
        SpecOptions { cpu_millis: Some(u64::MAX), ..run(&["x"]) },
        SpecOptions { pids_max: Some(0), ..run(&["x"]) },
    ] {
        assert_eq!(class(&bad), ErrorClass::InvalidArgument, "{bad:?}");
    }
}

fn user(text: &str, root: Option<&Root>) -> Result<(u32, u32, Vec<u32>)> {
    let user = resolve_user(text, root.map(|it| it.descriptor.as_fd()))?;
    Ok((user.uid(), user.gid(), user.additional_gids().clone().unwrap()))
}

#[test]
fn spc_13_and_14_every_form_of_user() {
    let root = root(PASSWD, GROUP);
    for (text, expected) in [
        ("", (0, 0, vec![0])),
        ("web", (33, 34, vec![34, 40, 50])),
        ("33", (33, 34, vec![34, 40, 50])),
        ("web:logs", (33, 40, vec![40])),
        ("web:7", (33, 7, vec![7])),
        ("1000", (1000, 1000, vec![1000])),
        ("1000:www", (1000, 34, vec![34])),
        ("5:6", (5, 6, vec![6])),
    ] {
        assert_eq!(user(text, Some(&root)).unwrap(), expected, "{text}");
    }
    for (text, expected) in [
        ("nobody", ErrorClass::NotFound),
        ("web:nogroup", ErrorClass::NotFound),
        ("broken", ErrorClass::NotFound),
        ("a:b:c", ErrorClass::InvalidArgument),
        ("web:", ErrorClass::InvalidArgument),
    ] {
        assert_eq!(user(text, Some(&root)).unwrap_err().class(), expected, "{text}");
    }
    assert_eq!(user("5:6", None).unwrap(), (5, 6, vec![6]));
    assert_eq!(user("web", None).unwrap_err().class(), ErrorClass::FailedPrecondition);
}

#[test]
fn cve_2024_40635_a_number_that_would_wrap_is_refused_wherever_it_comes_from() {
    let root = root(PASSWD, GROUP);
    for text in ["2147483647", "4294967295", "4294967296", "18446744073709551616", "0:4294967295"] {
        assert_eq!(user(text, Some(&root)).unwrap_err().class(), ErrorClass::InvalidArgument, "{text}");
    }
    // A line of the image that says so is no line.
    assert_eq!(user("big", Some(&root)).unwrap_err().class(), ErrorClass::NotFound);
    assert_eq!(user("2147483646", Some(&root)).unwrap().0, 2_147_483_646);
}

#[test]
fn cve_2024_9676_user_files_that_are_none_neither_block_nor_lead_outside() {
    let root = root(PASSWD, GROUP);
    let passwd = root.directory.path().join("etc/passwd");
    let replace = |by: &dyn Fn()| {
        fs::remove_file(&passwd).unwrap();
        by();
        user("web", Some(&root)).map_err(|error| error.class())
    };
    let fifo = replace(&|| nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).unwrap());
    assert_eq!(fifo, Err(ErrorClass::FailedPrecondition));
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), "web:x:0:0::/:\n").unwrap();
    // A link that leads out of the root leads to nothing inside it.
    let link = replace(&|| std::os::unix::fs::symlink(outside.path(), &passwd).unwrap());
    assert_eq!(link, Err(ErrorClass::NotFound));
    let climbing = format!("../../../../../../../../..{}", outside.path().display());
    let link = replace(&|| std::os::unix::fs::symlink(&climbing, &passwd).unwrap());
    assert_eq!(link, Err(ErrorClass::NotFound));
    let magic = replace(&|| std::os::unix::fs::symlink("/proc/self/environ", &passwd).unwrap());
    assert_eq!(magic, Err(ErrorClass::NotFound));
    let inside = replace(&|| std::os::unix::fs::symlink("/etc/group", &passwd).unwrap());
    assert_eq!(inside, Err(ErrorClass::NotFound), "read, but nobody of that name is in it");
    let large = replace(&|| fs::write(&passwd, vec![b'x'; (1 << 20) + 1]).unwrap());
    assert_eq!(large, Err(ErrorClass::ResourceExhausted), "GO-2026-5475");
}

#[test]
fn tsk_22_an_exec_inherits_and_overrides() {
    let root = root(PASSWD, GROUP);
    let options = SpecOptions { terminal: true, user: Some("web".into()), ..run(&["sh"]) };
    let spec = serde_json::to_vec(&value(&options, Some(&image()), Some(&root)).unwrap()).unwrap();
    let inherit = |args: &[&str], user: Option<&str>| ExecProcess::Inherit {
        args: words(args),
        env: words(&["X=1"]),
        cwd: Some("/tmp".into()),
        user: user.map(str::to_owned),
    };
    let built = |process: &ExecProcess, terminal: bool| {
        let bytes = exec_process(&spec, process, terminal, Some(root.descriptor.as_fd()))?;
        Ok::<Value, crate::RuntimeError>(serde_json::from_slice(&bytes).unwrap())
    };
    let process = built(&inherit(&["ls"], None), false).unwrap();
    assert_eq!((&process["args"], &process["cwd"]), (&json!(["ls"]), &json!("/tmp")));
    assert_eq!(process["terminal"], false, "the request's word, not the container's");
    assert_eq!((&process["user"]["uid"], &process["noNewPrivileges"]), (&json!(33), &json!(true)));
    assert_eq!(process["capabilities"]["inheritable"], json!([]), "CVE-2022-29162");
    assert!(process["env"].as_array().unwrap().contains(&json!("X=1")));
    assert_eq!(built(&inherit(&["ls"], Some("0:0")), true).unwrap()["user"]["uid"], 0);
    assert_eq!(built(&inherit(&[], None), false).unwrap_err().class(), ErrorClass::InvalidArgument);
    let whole = ExecProcess::Json(serde_json::to_vec(&process).unwrap());
    let mut expected = process.clone();
    expected["terminal"] = json!(true);
    assert_eq!(built(&whole, true).unwrap(), expected);
    for bad in [&b"{"[..], br#"{"cwd":"relative","user":{"uid":0,"gid":0},"args":["x"]}"#] {
        let class = built(&ExecProcess::Json(bad.to_vec()), false).unwrap_err().class();
        assert_eq!(class, ErrorClass::InvalidArgument);
    }
}
