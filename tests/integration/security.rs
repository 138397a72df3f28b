//! What a container may do, and the ways out that must be shut (the CVE rows of the field, by name).

use bosun_client::{Client, RunRequest};
use bosun_tests::client::{import, log_of, logged, namespace, shell};
use bosun_tests::fixture::write_rootfs;
use bosun_tests::world::{Daemon, World, program};
use bosun_types::mount::Mount;
use bosun_types::spec::{ContainerRequest, Rlimit, RootRequest, Seccomp, SpecOptions, SpecRequest};
use bosun_types::stdio::Stdio;
use bosun_types::task::{ExecProcess, ExecRequest, ExitStatus};
use bosun_types::{ContainerId, ExecId, Result};
use sha2::Digest as _;

pub(super) async fn started() -> (World, Daemon, Client) {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    (world, daemon, client)
}

pub(super) fn options(request: &mut ContainerRequest) -> &mut SpecOptions {
    match &mut request.spec {
        SpecRequest::Build(options) => options,
        SpecRequest::Json(_) | SpecRequest::Checkpoint => unreachable!("shell builds"),
    }
}

/// Runs it to its end; its output and how it ended. Nothing of it is left.
pub(super) async fn output(client: &Client, container: ContainerRequest) -> Result<(String, ExitStatus)> {
    let id = container.id.clone();
    let exit = namespace(client).run(RunRequest { container, task: logged() }).await?.wait().await?;
    let text = log_of(client, id.as_str()).await;
    let container = namespace(client).container(id);
    container.task().delete().await?;
    container.delete(true).await?;
    Ok((text, exit))
}

pub(super) async fn said(client: &Client, command: &str, change: impl FnOnce(&mut SpecOptions)) -> String {
    let mut request = shell("subject", command);
    change(options(&mut request));
    output(client, request).await.expect("runs").0
}

/// The value of a line of /proc/self/status.
pub(super) fn status<'a>(text: &'a str, key: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {key} in {text}")).trim()
}

const STATUS: &str = "cat /proc/self/status";

#[tokio::test(flavor = "multi_thread")]
async fn the_default_is_filtered_bounded_and_gains_nothing() {
    let (world, _daemon, client) = started().await;
    let text = said(&client, STATUS, |_| ()).await;
    assert_eq!((status(&text, "Seccomp"), status(&text, "NoNewPrivs")), ("2", "1"));
    // The 14 of SPC-2, as the kernel numbers them.
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(status(&text, set), "00000000a80425fb", "{set}");
    }
    // CVE-2022-24769, CVE-2022-29162: nothing to inherit.
    assert_eq!((status(&text, "CapInh"), status(&text, "CapAmb")), ("0000000000000000", "0000000000000000"));
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_is_held_as_its_container_is() {
    let (world, _daemon, client) = started().await;
    let run = RunRequest { container: shell("held", "sleep 1000"), task: logged() };
    namespace(&client).run(run).await.expect("runs");
    let task = namespace(&client).container(ContainerId::new("held").expect("good")).task();
    let file = "/tmp/status";
    let exec = |id: &str, command: String| ExecRequest {
        id: ExecId::new(id).expect("good"),
        process: ExecProcess::Inherit {
            args: vec!["/bin/sh".to_owned(), "-c".to_owned(), command],
            env: Vec::new(),
            cwd: None,
            user: None,
        },
        stdio: Stdio::default(),
    };
    let check = format!(
        "{STATUS} > {file}; grep -q 'Seccomp:.*2' {file} && grep -q 'NoNewPrivs:.*1' {file} && \
         grep -q 'CapBnd:.*a80425fb' {file} && ! /bin/busybox unshare -U true && exit 17"
    );
    let process = task.exec(exec("same", check)).await.expect("registers");
    process.start().await.expect("starts");
    assert_eq!(process.wait().await.expect("ends").code(), 17);
    task.kill(9, true).await.expect("kills");
    task.wait().await.expect("ends");
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seccomp_is_the_default_off_or_a_profile() {
    let (world, _daemon, client) = started().await;
    let unshare = "/bin/busybox unshare -U echo made";
    assert!(!said(&client, unshare, |_| ()).await.contains("made"));
    let off = |options: &mut SpecOptions| options.seccomp = Seccomp::Unconfined;
    assert!(said(&client, unshare, off).await.contains("made"), "it is the filter that forbids it");
    let profile = br#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;
    let given = |options: &mut SpecOptions| options.seccomp = Seccomp::Json(profile.to_vec());
    let text = said(&client, "mkdir /tmp/x", given).await;
    assert!(text.contains("No space left"), "{text}");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn masked_comparisons_mean_the_same_to_every_runtime() {
    let (world, _daemon, client) = started().await;
    // Signal 10 and no other, by a mask: ENOSPC.
    let profile =
        br#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ERRNO",
        "errnoRet": 28, "args": [{"index": 1, "value": 255, "valueTwo": 10, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#;
    let ways = [("bosun", false), ("bosun", true), ("runc", false)];
    for (runtime, may_gain_privileges) in ways {
        let mut request = shell("masked", "trap 'echo got' USR2; kill -USR1 $$; kill -USR2 $$; true");
        request.runtime.name = runtime.to_owned();
        let options = options(&mut request);
        options.seccomp = Seccomp::Json(profile.to_vec());
        // Through libcontainer's own loading instead of our program.
        options.may_gain_privileges = may_gain_privileges;
        let (text, _) = output(&client, request).await.expect("runs");
        let as_wanted = text.contains("No space left") && text.contains("got");
        assert!(as_wanted, "{runtime} {may_gain_privileges}: {text}");
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capabilities_are_given_and_taken() {
    let (world, _daemon, client) = started().await;
    let text = said(&client, STATUS, |options| {
        options.capabilities_drop = vec!["ALL".to_owned()];
        options.capabilities_add = vec!["net_bind_service".to_owned()];
    })
    .await;
    assert_eq!((status(&text, "CapEff"), status(&text, "CapBnd")), ("0000000000000400", "0000000000000400"));
    let chown = |options: &mut SpecOptions| options.capabilities_drop = vec!["CHOWN".to_owned()];
    assert!(said(&client, "touch /tmp/f; chown 1 /tmp/f", chown).await.contains("not permitted"));
    let all = |options: &mut SpecOptions| options.privileged = true;
    let text = said(&client, STATUS, all).await;
    let effective = u64::from_str_radix(status(&text, "CapEff"), 16).expect("hexadecimal");
    assert!(effective & (1 << 21) != 0 && status(&text, "Seccomp") == "0", "{text}");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_roots_paths_and_devices() {
    let (world, _daemon, client) = started().await;
    let limits = |options: &mut SpecOptions| {
        options.rlimits = vec![Rlimit { kind: "nofile".to_owned(), soft: 77, hard: 99 }];
    };
    assert_eq!(said(&client, "ulimit -Sn; ulimit -Hn", limits).await, "77\n99\n");
    let read_only = |options: &mut SpecOptions| options.read_only_root = true;
    assert!(said(&client, "touch /x", read_only).await.contains("Read-only file system"));
    let paths = |options: &mut SpecOptions| {
        options.masked_paths = vec!["/etc/passwd".to_owned(), "/root".to_owned()];
        options.read_only_paths = vec!["/tmp".to_owned()];
    };
    let text = said(&client, "wc -c < /etc/passwd; ls /root | wc -l; touch /tmp/x", paths).await;
    assert!(text.starts_with("0\n0\n") && text.contains("Read-only file system"), "{text}");
    let device = |options: &mut SpecOptions| options.devices = vec!["/dev/full:/dev/mine:rw".to_owned()];
    let text = said(&client, "stat -c %t:%T /dev/mine; echo x > /dev/mine", device).await;
    assert!(text.starts_with("1:7\n") && text.contains("No space left"), "{text}");
    // Without it the node can be made (CAP_MKNOD), and not opened.
    let text = said(&client, "/bin/busybox mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg", |_| ()).await;
    assert!(text.contains("not permitted"), "{text}");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_kernel_offers_is_masked_or_read_only() {
    let (world, _daemon, client) = started().await;
    let text = said(
        &client,
        "for f in /proc/sys/kernel/core_pattern /proc/sys/vm/panic_on_oom /proc/sysrq-trigger /sys/kernel/uevent_helper; do \
         (echo x > $f) 2>/dev/null && echo wrote $f; done; cat /proc/kcore /proc/timer_list /proc/scsi 2>/dev/null | wc -c; \
         ls /sys/firmware | wc -l",
        |_| (),
    )
    .await;
    assert_eq!(text, "0\n0\n");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cve_2024_21626_no_descriptor_leaks_and_no_working_directory_is_one() {
    let (world, _daemon, client) = started().await;
    for runtime in ["bosun", "runc"] {
        let mut request = shell("leaks", "ls /proc/$$/fd; true");
        request.runtime.name = runtime.to_owned();
        assert_eq!(output(&client, request).await.expect("runs").0, "0\n1\n2\n", "{runtime}");
    }
    for number in 3..16 {
        let mut request = shell("outside", "cat ../../../etc/hostname ../../../../proc/self/cmdline; pwd");
        options(&mut request).cwd = Some(format!("/proc/self/fd/{number}"));
        let result = output(&client, request).await;
        assert!(result.is_err(), "descriptor {number}: {result:?}");
        // What was made of it goes as any failed container does.
        let container = namespace(&client).container(ContainerId::new("outside").expect("good"));
        let _ = container.task().delete().await;
        let _ = container.delete(true).await;
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cve_2019_5736_the_programs_that_make_containers_cannot_be_written_from_inside() {
    let (world, _daemon, client) = started().await;
    let digest = |name: &str| sha2::Sha256::digest(std::fs::read(program(name)).expect("reads")).to_vec();
    let before = (digest("bosun-shim"), digest("bosund"));
    // Whatever shows up in its pid namespace, it tries to open for writing.
    let hunt =
        "while :; do for exe in /proc/[0-9]*/exe; do (echo x >> $exe) 2>/dev/null && echo wrote; done; done";
    let run = RunRequest { container: shell("hunter", hunt), task: logged() };
    namespace(&client).run(run).await.expect("runs");
    let task = namespace(&client).container(ContainerId::new("hunter").expect("good")).task();
    for number in 0..30 {
        let request = ExecRequest {
            id: ExecId::new(format!("bait-{number}")).expect("good"),
            process: ExecProcess::Inherit {
                args: vec!["/proc/self/exe".to_owned()],
                env: Vec::new(),
                cwd: None,
                user: None,
            },
            stdio: Stdio::default(),
        };
        let process = task.exec(request).await.expect("registers");
        // Whether it starts is not the point.
        if process.start().await.is_ok() {
            process.wait().await.expect("ends");
        }
    }
    task.kill(9, true).await.expect("kills");
    task.wait().await.expect("ends");
    assert_eq!((digest("bosun-shim"), digest("bosund")), before);
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

/// A root directory of the test's own, changed by `change`, and a request that runs in it.
pub(super) fn in_directory(
    world: &World,
    name: &str,
    command: &str,
    change: impl FnOnce(&std::path::Path),
) -> ContainerRequest {
    let root = world.path(name);
    write_rootfs(&root).expect("writes");
    change(&root);
    let mut request = shell(name, command);
    request.image = None;
    request.root = RootRequest::Directory(root.to_string_lossy().into_owned());
    options(&mut request).env = vec!["PATH=/bin".to_owned()];
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn cve_2023_27561_cve_2019_19921_a_proc_that_is_a_link_unmasks_nothing() {
    let (world, _daemon, client) = started().await;
    for target in ["tmp", "/tmp", "../../../../tmp"] {
        let pattern =
            "(echo x > /proc/sys/kernel/core_pattern) 2>/dev/null && echo wrote; cat /proc/kcore | head -c 4";
        let request = in_directory(&world, "linked", pattern, |root| {
            std::fs::remove_dir(root.join("proc")).expect("removes");
            std::os::unix::fs::symlink(target, root.join("proc")).expect("links");
        });
        // Refused, or masked all the same.
        if let Ok((text, _)) = output(&client, request).await {
            assert_eq!(text, "", "proc -> {target}");
        }
        let container = namespace(&client).container(ContainerId::new("linked").expect("good"));
        let _ = container.task().delete().await;
        let _ = container.delete(true).await;
        std::fs::remove_dir_all(world.path("linked")).expect("removes");
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cve_2021_30465_a_mount_target_with_links_stays_in_the_root() {
    let (world, _daemon, client) = started().await;
    let outside = world.path("outside");
    std::fs::create_dir(&outside).expect("creates");
    let mut request =
        in_directory(&world, "mounts", "touch /escape/here /escape/deep/er/too; ls /escape", |root| {
            std::os::unix::fs::symlink(&outside, root.join("escape")).expect("links");
        });
    for target in ["/escape", "/escape/deep/er"] {
        options(&mut request).mounts.push(Mount {
            kind: "tmpfs".to_owned(),
            source: "tmpfs".to_owned(),
            target: target.to_owned(),
            options: Vec::new(),
        });
    }
    let _either_way = output(&client, request).await;
    let left: Vec<_> = std::fs::read_dir(&outside).expect("reads").collect();
    assert!(left.is_empty(), "{left:?}");
    let container = namespace(&client).container(ContainerId::new("mounts").expect("good"));
    let _ = container.task().delete().await;
    let _ = container.delete(true).await;
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_working_directory_that_is_a_link_out_of_the_root_is_inside_it() {
    let (world, _daemon, client) = started().await;
    let secret = world.path("secret");
    std::fs::create_dir(&secret).expect("creates");
    std::fs::write(secret.join("word"), "host").expect("writes");
    let mut request = in_directory(&world, "cwd", "cat word; pwd", |root| {
        std::os::unix::fs::symlink(&secret, root.join("out")).expect("links");
    });
    options(&mut request).cwd = Some("/out".to_owned());
    if let Ok((text, _)) = output(&client, request).await {
        assert!(!text.contains("host"), "{text}");
    }
    let container = namespace(&client).container(ContainerId::new("cwd").expect("good"));
    let _ = container.task().delete().await;
    let _ = container.delete(true).await;
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_a_module_that_the_host_has_not_are_refused() {
    let (world, _daemon, client) = started().await;
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        let mut request = shell("labelled", "true");
        options(&mut request).selinux_label = Some("system_u:system_r:container_t:s0".to_owned());
        let error = output(&client, request).await.expect_err("no SELinux here");
        assert_eq!(error.class, bosun_types::ErrorClass::NotImplemented);
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cli_the_flags_that_people_know() {
    let (world, _daemon, client) = started().await;
    let run = |words: &[&str], command: &str| {
        let mut all = vec!["run", "--rm"];
        all.extend_from_slice(words);
        all.extend_from_slice(&[bosun_tests::client::IMAGE, "/bin/sh", "-c", command]);
        let output = world.bosun(&all).output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (text, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let flags = ["--cap-drop", "ALL", "--cap-add", "CHOWN", "--security-opt", "no-new-privileges=false"];
    let (text, errors) = run(&flags, STATUS);
    assert_eq!((status(&text, "CapEff"), status(&text, "NoNewPrivs")), ("0000000000000001", "0"), "{errors}");
    assert_eq!(run(&["--ulimit", "nofile=50:60"], "ulimit -Sn; ulimit -Hn").0, "50\n60\n");
    let tmpfs = run(&["--read-only", "--tmpfs", "/scratch"], "touch /scratch/x && echo fine").0;
    assert_eq!(tmpfs, "fine\n");
    assert_eq!(run(&["--device", "/dev/full:/dev/mine"], "stat -c %t:%T /dev/mine").0, "1:7\n");
    let (_, errors) = run(&["--cap-add", "NET_ADMN"], "true");
    assert!(errors.contains("NET_ADMN") && errors.contains("did you mean CAP_NET_ADMIN"), "{errors}");
    world.check(&client).await;
}
