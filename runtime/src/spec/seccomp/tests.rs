//! The default by capability and architecture; profile files of both forms, good and bad.

use bosun_types::ErrorClass;

use super::*;

fn caps(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| format!("CAP_{name}")).collect()
}

fn target<'a>(capabilities: &'a BTreeSet<String>) -> Target<'a> {
    Target { architecture: "amd64", capabilities, kernel: (6, 18) }
}

/// Rules for one call, as JSON.
fn rules(profile: &LinuxSeccomp, name: &str) -> Vec<Value> {
    let profile = serde_json::to_value(profile).expect("JSON");
    let calls = profile["syscalls"].as_array().expect("a list").clone();
    calls.into_iter().filter(|it| it["names"].as_array().expect("names").contains(&json!(name))).collect()
}

#[test]
fn the_default_allows_the_everyday_and_forbids_the_rest() {
    let none = caps(&[]);
    let profile = standard(&target(&none)).expect("resolves");
    for name in ["read", "openat2", "execve", "futex", "arch_prctl", "statx", "rseq"] {
        assert_eq!(rules(&profile, name).len(), 1, "{name}");
    }
    for name in [
        "mount",
        "unshare",
        "setns",
        "bpf",
        "keyctl",
        "add_key",
        "kexec_load",
        "io_uring_setup",
        "userfaultfd",
    ] {
        assert!(rules(&profile, name).is_empty(), "{name}");
    }
    let json = serde_json::to_value(&profile).expect("JSON");
    assert_eq!((&json["defaultAction"], &json["defaultErrnoRet"]), (&json!("SCMP_ACT_ERRNO"), &json!(1)));
    assert_eq!(json["architectures"], json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]));
}

#[test]
fn what_a_capability_guards_comes_with_it() {
    for (cap, name) in [
        ("SYS_ADMIN", "mount"),
        ("SYS_CHROOT", "chroot"),
        ("SYS_TIME", "clock_settime"),
        ("SYS_PTRACE", "kcmp"),
        ("BPF", "bpf"),
        ("SYS_MODULE", "init_module"),
    ] {
        let (with, without) = (caps(&[cap]), caps(&["CHOWN"]));
        assert_eq!(rules(&standard(&target(&with)).expect("resolves"), name).len(), 1, "{name} with {cap}");
        assert!(rules(&standard(&target(&without)).expect("resolves"), name).is_empty(), "{name} without");
    }
}

#[test]
fn clone_makes_no_namespace_and_clone3_is_unknown_without_sys_admin() {
    let none = caps(&[]);
    let profile = standard(&target(&none)).expect("resolves");
    let clone = rules(&profile, "clone");
    assert_eq!(clone.len(), 1);
    assert_eq!(clone[0]["args"][0]["value"], json!(CLONE_NAMESPACES));
    assert_eq!(rules(&profile, "clone3")[0]["errnoRet"], json!(libc::ENOSYS));
    let admin = caps(&["SYS_ADMIN"]);
    let profile = standard(&target(&admin)).expect("resolves");
    assert_eq!(rules(&profile, "clone3")[0]["action"], json!("SCMP_ACT_ALLOW"));
    assert!(rules(&profile, "clone")[0].get("args").is_none_or(|args| args == &json!([]) || args.is_null()));
}

#[test]
fn no_name_is_twice_in_a_section() {
    let mut section = String::new();
    let mut seen = BTreeSet::new();
    for line in DEFAULT.lines().filter(|line| !line.starts_with('#')) {
        if line.starts_with('[') {
            section = line.to_owned();
        } else if let Some((_, words)) = line.split_once(':') {
            for word in words.split_whitespace() {
                assert!(seen.insert(format!("{section} {word}")), "{section} {word}");
            }
        }
    }
    assert!(seen.len() > 300, "{}", seen.len());
}

#[test]
fn dockers_form_is_resolved() {
    let profile = br#"{
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                    {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null}],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "", "includes": {}, "excludes": {}},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["future"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "7.0"}},
            {"names": ["set_tls"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm", "arm64"]}},
            {"name": "write", "action": "SCMP_ACT_ALLOW", "args": []}
        ]
    }"#;
    let none = caps(&[]);
    let resolved = from_file(profile, &target(&none)).expect("resolves");
    let has = |name: &str| rules(&resolved, name).len();
    assert_eq!([has("read"), has("mount"), has("clone"), has("ptrace")], [1, 0, 1, 1]);
    assert_eq!([has("future"), has("set_tls"), has("write")], [0, 0, 1]);
    let json = serde_json::to_value(&resolved).expect("JSON");
    assert_eq!(json["architectures"], json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]));
}

#[test]
fn ocis_form_stays_as_it_is() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30}]
    });
    let none = caps(&[]);
    let resolved = from_file(profile.to_string().as_bytes(), &target(&none)).expect("resolves");
    assert_eq!(rules(&resolved, "mkdir")[0]["errnoRet"], json!(30));
}

#[test]
fn bad_profiles_are_refused_typed() {
    let none = caps(&[]);
    let long = vec![b' '; PROFILE_BYTES_MAX + 1];
    for bad in [
        &b"not json"[..],
        b"[]",
        b"{}",
        br#"{"defaultAction": "SCMP_ACT_NONSENSE"}"#,
        br#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}"#,
        br#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": 7, "action": "SCMP_ACT_ALLOW"}]}"#,
        br#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"includes": 7}]}"#,
        &long,
    ] {
        let error = from_file(bad, &target(&none)).expect_err("is bad");
        assert_eq!(error.class, ErrorClass::InvalidArgument);
    }
}

#[test]
fn kernel_versions() {
    assert_eq!(version("6.18.3-cloud-amd64"), Some((6, 18)));
    assert_eq!(version("5.10-rc1"), Some((5, 10)));
    assert_eq!(version("6"), None);
    assert!(at_least((6, 1), "4.8") && at_least((4, 8), "4.8") && !at_least((4, 7), "4.8"));
}
