//! Further ways out that must be shut (see `security.rs`): through execs, through masks whose source or target is swapped, through what a
//! privilege does not give, and through modules of the host that are asked for and not there.

use bosun_client::{Client, RunRequest, Task};
use bosun_tests::client::{log_of, logged, namespace, shell};
use bosun_types::mount::Mount;
use bosun_types::spec::{ContainerRequest, RootRequest, Seccomp, SpecOptions, SpecRequest};
use bosun_types::stdio::{LogTarget, Stdio};
use bosun_types::task::{ExecProcess, ExecRequest};
use bosun_types::{ContainerId, ErrorClass, ExecId};

use super::security::{in_directory, options, output, said, started, status};

fn id(text: &str) -> ContainerId {
    ContainerId::new(text).expect("good")
}

async fn run(client: &Client, request: ContainerRequest) -> Task {
    let name = request.id.clone();
    namespace(client).run(RunRequest { container: request, task: logged() }).await.expect("runs");
    namespace(client).container(name).task()
}

async fn end(client: &Client, task: &Task, name: &str) {
    task.kill(9, true).await.expect("kills");
    task.wait().await.expect("ends");
    task.delete().await.expect("deletes");
    namespace(client).container(id(name)).delete(true).await.expect("deletes");
}

/// Whatever is left of one that may have been refused.
async fn forget(client: &Client, name: &str) {
    let container = namespace(client).container(id(name));
    let _ = container.task().kill(9, true).await;
    let _ = container.task().wait().await;
    let _ = container.task().delete().await;
    let _ = container.delete(true).await;
}

fn exec(name: &str, cwd: Option<String>, args: &[&str], log: &std::path::Path) -> ExecRequest {
    let log = LogTarget { path: log.to_string_lossy().into_owned(), ..LogTarget::default() };
    ExecRequest {
        id: ExecId::new(name).expect("good"),
        process: ExecProcess::Inherit {
            args: args.iter().map(|word| (*word).to_owned()).collect(),
            env: Vec::new(),
            cwd,
            user: None,
        },
        stdio: Stdio { log: Some(log), ..Stdio::default() },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cve_2024_21626_an_exec_gets_no_descriptor_and_no_directory_of_the_host() {
    let (world, _daemon, client) = started().await;
    for runtime in ["bosun", "runc"] {
        let mut request = shell("held", "sleep 1000");
        request.runtime.name = runtime.to_owned();
        let task = run(&client, request).await;
        let log = world.path("exec.log");
        // The fourth is what `ls` reads by.
        let look = "/bin/busybox ls /proc/self/fd > /tmp/fds; test \"$(echo $(cat /tmp/fds))\" = '0 1 2 3' && exit 31";
        let process = task.exec(exec("fds", None, &["/bin/sh", "-c", look], &log)).await.expect("registers");
        process.start().await.expect("starts");
        assert_eq!(process.wait().await.expect("ends").code(), 31, "{runtime}");
        for number in 3..16 {
            let cwd = Some(format!("/proc/self/fd/{number}"));
            let outside = ["/bin/sh", "-c", "cat ../../../etc/hostname ../../../../etc/hostname && exit 32"];
            let name = format!("cwd-{number}");
            let started = match task.exec(exec(&name, cwd, &outside, &log)).await {
                Ok(process) => process.start().await.is_ok().then_some(process),
                Err(_) => None,
            };
            if let Some(process) = started {
                assert_ne!(process.wait().await.expect("ends").code(), 32, "{runtime} {number}");
            }
        }
        end(&client, &task, "held").await;
        let _ = std::fs::remove_file(&log);
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cve_2025_31133_what_masks_is_dev_null_itself_or_nothing_is_masked() {
    let (world, _daemon, client) = started().await;
    // A spec of its own without a /dev: the null device is the image's, and a link.
    let model = shell("model", "true");
    let record = namespace(&client).containers().create(model).await.expect("creates");
    forget(&client, "model").await;
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("reads");
    for target in ["/other", "/proc/sys/kernel/core_pattern", "../proc/sysrq-trigger"] {
        let request = in_directory(&world, "swapped", "", |root| {
            std::fs::write(root.join("secret"), "secret").expect("writes");
            std::fs::write(root.join("other"), "leaked").expect("writes");
            std::os::unix::fs::symlink(target, root.join("dev/null")).expect("links");
        });
        let RootRequest::Directory(root) = request.root else { unreachable!("in a directory") };
        let mut spec: serde_json::Value = serde_json::from_slice(&record.spec).expect("JSON");
        let command =
            "cat /secret; (echo x > /secret) 2>/dev/null; cat /proc/sys/kernel/core_pattern | head -c 1";
        spec["process"]["args"] = serde_json::json!(["/bin/sh", "-c", command]);
        spec["root"]["path"] = root.clone().into();
        spec["linux"]["maskedPaths"] = serde_json::json!(["/secret"]);
        let mounts = spec["mounts"].as_array_mut().expect("has mounts");
        mounts.retain(|mount| !mount["destination"].as_str().is_some_and(|it| it.starts_with("/dev")));
        let request = ContainerRequest {
            image: None,
            root: RootRequest::FromSpec,
            spec: SpecRequest::Json(serde_json::to_vec(&spec).expect("JSON")),
            ..shell("swapped", "")
        };
        // Refused, or masked with an empty device.
        if let Ok((text, _)) = output(&client, request).await {
            assert!(!text.contains("leaked") && !text.contains("secret"), "{target}: {text}");
        }
        forget(&client, "swapped").await;
        assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("reads"), pattern);
        let null = std::fs::metadata("/dev/null").expect("there");
        assert!(std::os::unix::fs::FileTypeExt::is_char_device(&null.file_type()), "the host's own");
        std::fs::remove_dir_all(root).expect("removes");
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cve_2025_52881_paths_that_another_container_swaps_meanwhile_lead_nowhere() {
    let (world, _daemon, client) = started().await;
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("reads");
    let command = "(echo swapped > /proc/sys/kernel/core_pattern) 2>/dev/null && echo broke; \
        (echo swapped > /ro/word) 2>/dev/null; cat /proc/kcore | head -c 4";
    let victim = in_directory(&world, "victim", command, |root| {
        for directory in ["masked", "ro", "spare"] {
            std::fs::create_dir(root.join(directory)).expect("creates");
            std::fs::write(root.join(directory).join("word"), "word").expect("writes");
        }
    });
    let RootRequest::Directory(root) = victim.root.clone() else { unreachable!("in a directory") };
    // Each is now a directory, now a link to where the host's kernel takes orders, now gone.
    let swap = "cd /r; while :; do for it in masked ro; do \
        mv $it kept-$it 2>/dev/null; ln -s /proc/sys/kernel $it; rm $it; mkdir $it 2>/dev/null; rm -rf $it; mv kept-$it $it; done; done";
    let mut swapper = shell("swapper", swap);
    options(&mut swapper).env = vec!["PATH=/bin".to_owned()];
    options(&mut swapper).mounts = vec![Mount {
        kind: "bind".to_owned(),
        source: root,
        target: "/r".to_owned(),
        options: vec!["rbind".to_owned(), "rw".to_owned()],
    }];
    let busy = swapper_with_mv(&client, swapper).await;
    for _ in 0..25 {
        let mut request = victim.clone();
        options(&mut request).masked_paths = vec!["/masked".to_owned()];
        options(&mut request).read_only_paths = vec!["/ro".to_owned()];
        match output(&client, request).await {
            Ok((text, _)) => assert!(!text.contains("ELF") && !text.contains("broke"), "{text}"),
            Err(_) => forget(&client, "victim").await,
        }
        let now = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("reads");
        assert_eq!(now, pattern, "the host's kernel was told something");
    }
    end(&client, &busy, "swapper").await;
    world.check(&client).await;
}

/// Swaps really happen: the container says so once it has begun.
async fn swapper_with_mv(client: &Client, mut request: ContainerRequest) -> Task {
    let SpecRequest::Build(options) = &mut request.spec else { unreachable!("shell builds") };
    if let Some(script) = options.args.last_mut() {
        *script = format!("mv() {{ /bin/busybox mv \"$@\"; }}; echo begun; {script}");
    }
    let task = run(client, request).await;
    bosun_tests::world::eventually("swaps", || async { log_of(client, "swapper").await.contains("begun") })
        .await;
    task
}

#[tokio::test(flavor = "multi_thread")]
async fn privilege_gives_capabilities_and_files_of_the_kernel_and_no_devices() {
    let (world, _daemon, client) = started().await;
    let look = "ls /sys/firmware | wc -l; grep ' /sys ' /proc/mounts | grep -c 'rw,'; \
        /bin/busybox mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg 2>&1 | head -n 1; cat /proc/self/status";
    let privileged = |options: &mut SpecOptions| options.privileged = true;
    let text = said(&client, look, privileged).await;
    let mut lines = text.lines();
    let host = std::fs::read_dir("/sys/firmware").map_or(0, Iterator::count).to_string();
    assert_eq!((lines.next(), lines.next()), (Some(host.as_str()), Some("1")), "{text}");
    assert!(lines.next().is_some_and(|line| line.contains("not permitted")), "no devices: {text}");
    assert_eq!((status(&text, "Seccomp"), status(&text, "CapInh")), ("0", "0000000000000000"));
    let bare = said(&client, look, |_| ()).await;
    let mut lines = bare.lines();
    assert_eq!((lines.next(), lines.next()), (Some("0"), Some("0")), "{bare}");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_are_refused_where_the_host_has_none_and_unconfined_is_no_module() {
    let (world, _daemon, client) = started().await;
    let has_apparmor = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.trim_end() == "Y");
    if has_apparmor {
        let mut request = shell("profiled", "cat /proc/self/attr/current");
        options(&mut request).apparmor_profile = Some("no-such-profile".to_owned());
        assert!(output(&client, request).await.is_err(), "a profile that is not loaded");
        forget(&client, "profiled").await;
    } else {
        let mut request = shell("profiled", "true");
        options(&mut request).apparmor_profile = Some("bosun-default".to_owned());
        let error = output(&client, request).await.expect_err("no AppArmor here");
        assert_eq!(error.class, ErrorClass::NotImplemented);
        assert!(error.hint.is_some(), "{error}");
    }
    let words =
        ["run", "--rm", "--security-opt", "apparmor=bosun-default", bosun_tests::client::IMAGE, "true"];
    let refused = world.bosun(&words).output().expect("runs");
    assert_eq!(refused.status.code(), Some(125));
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cli_profile_files_are_read_and_bad_ones_say_why() {
    let (world, _daemon, client) = started().await;
    let profile = world.path("profile.json");
    let run = |value: &str, command: &str| {
        let option = format!("seccomp={value}");
        let words =
            ["run", "--rm", "--security-opt", &option, bosun_tests::client::IMAGE, "/bin/sh", "-c", command];
        let output = world.bosun(&words).output().expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    };
    let path = profile.to_string_lossy().into_owned();
    // As Docker's: by architecture, by capability, by kernel.
    let docker = r#"{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "99.0"}}
        ]}"#;
    std::fs::write(&profile, docker).expect("writes");
    let (text, errors) = run(&path, "mkdir /x; chmod 700 /tmp && echo changed");
    assert!(errors.contains("No space left") && text == "changed\n", "{text} {errors}");
    assert_eq!(run("unconfined", "grep Seccomp: /proc/self/status | grep -c 0").0, "1\n");
    for (bad, why) in [("{", "seccomp"), (r#"{"defaultAction": "SCMP_ACT_NONSENSE"}"#, "SCMP_ACT_NONSENSE")] {
        std::fs::write(&profile, bad).expect("writes");
        let (_, errors) = run(&path, "true");
        assert!(errors.contains(why), "{bad}: {errors}");
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_root_and_limits_hold_for_execs_too() {
    let (world, _daemon, client) = started().await;
    let mut request = shell("bound", "sleep 1000");
    options(&mut request).read_only_root = true;
    options(&mut request).seccomp = Seccomp::Standard;
    options(&mut request).rlimits =
        vec![bosun_types::spec::Rlimit { kind: "nofile".to_owned(), soft: 33, hard: 44 }];
    let task = run(&client, request).await;
    let check = "test $(ulimit -Sn) = 33 && test $(ulimit -Hn) = 44 && ! touch /x && ! touch /proc/sys/kernel/x && \
        ! ulimit -Hn 99 && ! (echo x > /proc/sysrq-trigger) && test $(ls /sys/firmware | wc -l) = 0 && exit 33";
    let log = world.path("exec.log");
    let process = task.exec(exec("inner", None, &["/bin/sh", "-c", check], &log)).await.expect("registers");
    process.start().await.expect("starts");
    let code = process.wait().await.expect("ends").code();
    assert_eq!(code, 33, "{}", std::fs::read_to_string(&log).unwrap_or_default());
    end(&client, &task, "bound").await;
    world.check(&client).await;
}
