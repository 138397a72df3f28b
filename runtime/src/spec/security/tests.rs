//! Each option on the default spec, and what is refused.

use bosun_types::ErrorClass;
use serde_json::{Value, json};

use super::super::tests::{class, run, value};
use super::*;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn built(options: &SpecOptions) -> Value {
    value(options, None, None).expect("builds")
}

#[test]
fn the_default_has_a_filter_no_new_privileges_and_masks() {
    let spec = built(&run(&["x"]));
    assert_eq!(spec["linux"]["seccomp"]["defaultAction"], json!("SCMP_ACT_ERRNO"));
    assert_eq!(spec["process"]["noNewPrivileges"], json!(true));
    assert_eq!(spec["process"]["capabilities"]["bounding"].as_array().expect("a list").len(), 14);
    assert!(spec["linux"]["maskedPaths"].as_array().expect("a list").contains(&json!("/proc/kcore")));
}

#[test]
fn capabilities_change_the_sets_and_the_filter_alike() {
    let options = SpecOptions {
        capabilities_add: words(&["sys_admin"]),
        capabilities_drop: words(&["MKNOD"]),
        ..run(&["x"])
    };
    let spec = built(&options);
    for set in ["bounding", "permitted", "effective"] {
        let names = spec["process"]["capabilities"][set].as_array().expect("a list").clone();
        assert!(names.contains(&json!("CAP_SYS_ADMIN")) && !names.contains(&json!("CAP_MKNOD")), "{set}");
    }
    let calls = spec["linux"]["seccomp"]["syscalls"].to_string();
    assert!(calls.contains("\"mount\""), "what the capability is for is allowed");
    assert_eq!(
        class(&SpecOptions { capabilities_add: words(&["NONSENSE"]), ..run(&["x"]) }),
        ErrorClass::InvalidArgument
    );
}

#[test]
fn seccomp_can_be_off_and_given() {
    let off = SpecOptions { seccomp: Seccomp::Unconfined, ..run(&["x"]) };
    assert_eq!(built(&off)["linux"].get("seccomp"), None);
    let privileged = SpecOptions { privileged: true, ..run(&["x"]) };
    assert_eq!(built(&privileged)["linux"].get("seccomp"), None);
    let profile = br#"{"defaultAction": "SCMP_ACT_ALLOW"}"#.to_vec();
    let given = SpecOptions { seccomp: Seccomp::Json(profile), privileged: true, ..run(&["x"]) };
    assert_eq!(built(&given)["linux"]["seccomp"]["defaultAction"], json!("SCMP_ACT_ALLOW"));
    let bad = SpecOptions { seccomp: Seccomp::Json(b"{".to_vec()), ..run(&["x"]) };
    assert_eq!(class(&bad), ErrorClass::InvalidArgument);
}

#[test]
fn paths_are_masked_protected_and_unmasked() {
    let options = SpecOptions {
        masked_paths: words(&["/etc/secret"]),
        read_only_paths: words(&["/etc"]),
        unmask_paths: words(&["/proc/kcore", "/proc/sys"]),
        ..run(&["x"])
    };
    let linux = built(&options)["linux"].take();
    let has = |list: &str, path: &str| linux[list].as_array().expect("a list").contains(&json!(path));
    assert!(has("maskedPaths", "/etc/secret") && !has("maskedPaths", "/proc/kcore"));
    assert!(has("readonlyPaths", "/etc") && !has("readonlyPaths", "/proc/sys"));
    let all = SpecOptions { unmask_paths: words(&["all"]), ..run(&["x"]) };
    let linux = built(&all)["linux"].take();
    assert_eq!((linux.get("maskedPaths"), linux.get("readonlyPaths")), (None, None));
    for bad in ["relative", ""] {
        let options = SpecOptions { masked_paths: words(&[bad]), ..run(&["x"]) };
        assert_eq!(class(&options), ErrorClass::InvalidArgument, "{bad:?}");
    }
}

#[test]
fn rlimits_replace_their_kind() {
    let limit = |kind: &str, soft, hard| Rlimit { kind: kind.to_owned(), soft, hard };
    let options =
        SpecOptions { rlimits: vec![limit("nofile", 10, 20), limit("RLIMIT_CORE", 0, 0)], ..run(&["x"]) };
    assert_eq!(
        built(&options)["process"]["rlimits"],
        json!([
            {"type": "RLIMIT_NOFILE", "hard": 20, "soft": 10},
            {"type": "RLIMIT_CORE", "hard": 0, "soft": 0}
        ])
    );
    for bad in [limit("nofile", 20, 10), limit("nonsense", 1, 1)] {
        let options = SpecOptions { rlimits: vec![bad], ..run(&["x"]) };
        assert_eq!(class(&options), ErrorClass::InvalidArgument);
    }
}

#[test]
fn labels_need_their_module() {
    let apparmor = SpecOptions { apparmor_profile: Some("docker-default".to_owned()), ..run(&["x"]) };
    match has_apparmor() {
        true => assert_eq!(built(&apparmor)["process"]["apparmorProfile"], json!("docker-default")),
        false => assert_eq!(class(&apparmor), ErrorClass::NotImplemented),
    }
    let unconfined = SpecOptions { apparmor_profile: Some("unconfined".to_owned()), ..run(&["x"]) };
    assert_eq!(built(&unconfined)["process"]["apparmorProfile"], json!("unconfined"));
    let level = "system_u:system_r:container_t:s0:c1,c2";
    assert_eq!(file_label(level).expect("good"), "system_u:object_r:container_file_t:s0:c1,c2");
    assert!(file_label("container_t").is_err());
}

#[test]
fn devices_get_a_node_and_a_rule() {
    let options = SpecOptions { devices: words(&["/dev/null:/dev/mine:r"]), ..run(&["x"]) };
    let linux = built(&options)["linux"].take();
    assert_eq!(
        (&linux["devices"][0]["path"], &linux["devices"][0]["type"]),
        (&json!("/dev/mine"), &json!("c"))
    );
    let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "r"});
    assert_eq!(linux["resources"]["devices"][1], rule);
    for (bad, wanted) in
        [("/dev/no-such", ErrorClass::NotFound), ("/etc/passwd:/dev/x", ErrorClass::InvalidArgument)]
    {
        let options = SpecOptions { devices: words(&[bad]), ..run(&["x"]) };
        assert_eq!(class(&options), wanted, "{bad}");
    }
}
