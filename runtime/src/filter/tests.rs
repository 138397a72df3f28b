//! Programs, loaded into real processes.

use std::collections::BTreeSet;

use oci_spec::runtime::LinuxBuilder;
use serde_json::json;

use super::*;
use crate::spec::seccomp::{Target, standard};

fn default_filter() -> LinuxSeccomp {
    let none = BTreeSet::new();
    let architecture = bosun_types::platform::Platform::host().architecture;
    standard(&Target { architecture: &architecture, capabilities: &none, kernel: (6, 1) }).expect("resolves")
}

fn spec(filter: Option<LinuxSeccomp>, bound: bool) -> Vec<u8> {
    let mut spec = Spec::default();
    let mut linux = LinuxBuilder::default().build().expect("builds");
    linux.set_seccomp(filter);
    spec.set_linux(Some(linux));
    spec.process_mut().as_mut().expect("has one").set_no_new_privileges(Some(bound));
    serde_json::to_vec(&spec).expect("JSON")
}

fn read(bytes: &[u8]) -> Spec {
    serde_json::from_slice(bytes).expect("a spec")
}

/// The error numbers of some calls in a child under the program; 0: the call succeeded.
#[expect(unsafe_code, reason = "a filter is for ever: it is tried in a child")]
fn under(program: &[u8], calls: impl Fn() -> [i32; 4]) -> [i32; 4] {
    let (mut read, write) = io::pipe().expect("a pipe");
    // SAFETY: the child makes system calls only, allocates nothing, and leaves by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let filter = libc::sock_fprog {
            len: u16::try_from(program.len() / size_of::<libc::sock_filter>()).unwrap_or(0),
            filter: program.as_ptr().cast_mut().cast(),
        };
        // SAFETY: `filter` points at `len` instructions that live until the end of the process.
        unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            let loaded = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter);
            let answers = if loaded == 0 { calls() } else { [-1; 4] };
            let fd = std::os::fd::AsRawFd::as_raw_fd(&write);
            libc::write(fd, answers.as_ptr().cast(), size_of_val(&answers));
            libc::_exit(0);
        }
    }
    drop(write);
    let mut bytes = Vec::new();
    read.read_to_end(&mut bytes).expect("answers");
    // SAFETY: our own child.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    let mut words =
        bytes.chunks_exact(4).map(|word| i32::from_ne_bytes(word.try_into().expect("four bytes")));
    std::array::from_fn(|_| words.next().expect("an answer"))
}

#[expect(unsafe_code, reason = "raw system calls")]
fn errno(number: libc::c_long, arguments: [libc::c_long; 2]) -> i32 {
    // SAFETY: the calls below take numbers, or pointers that are null.
    let result = unsafe { libc::syscall(number, arguments[0], arguments[1], 0, 0, 0) };
    if result == 0 && number == libc::SYS_clone {
        // SAFETY: the child of an allowed clone has nothing to do.
        unsafe { libc::_exit(0) }
    }
    if result < 0 { io::Error::last_os_error().raw_os_error().unwrap_or(-1) } else { 0 }
}

#[test]
fn the_default_lets_processes_fork_and_makes_no_namespaces() {
    let program = compile(&default_filter()).expect("compiles");
    assert!(program.len().is_multiple_of(size_of::<libc::sock_filter>()) && !program.is_empty());
    let sigchld = libc::c_long::from(libc::SIGCHLD);
    let answers = under(&program, || {
        [
            errno(libc::SYS_clone, [sigchld, 0]),
            errno(libc::SYS_clone, [sigchld | libc::c_long::from(libc::CLONE_NEWUSER), 0]),
            errno(libc::SYS_clone3, [0, 0]),
            errno(libc::SYS_unshare, [libc::c_long::from(libc::CLONE_NEWUSER), 0]),
        ]
    });
    assert_eq!(answers, [0, libc::EPERM, libc::ENOSYS, libc::EPERM]);
}

#[test]
fn arguments_are_compared() {
    let program = compile(&default_filter()).expect("compiles");
    let family = |family: i32| {
        let kind = libc::c_long::from(libc::SOCK_STREAM);
        move || errno(libc::SYS_socket, [libc::c_long::from(family), kind])
    };
    let (unix, hypervisor) = (family(libc::AF_UNIX), family(libc::AF_VSOCK));
    let answers = under(&program, || {
        [
            unix(),
            hypervisor(),
            errno(libc::SYS_personality, [0xffff_ffff, 0]),
            errno(libc::SYS_personality, [0x0040_0000, 0]),
        ]
    });
    assert_eq!(answers, [0, libc::EPERM, 0, libc::EPERM]);
}

#[test]
fn the_filter_is_taken_out_and_compiled_once() {
    let filters = Filters::default();
    let (rest, program) = filters.for_embedded(&spec(Some(default_filter()), true)).expect("splits");
    let program = program.expect("a program");
    assert!(read(&rest).linux().as_ref().expect("has one").seccomp().is_none());
    let (_, again) = filters.for_embedded(&spec(Some(default_filter()), true)).expect("splits");
    assert!(Arc::ptr_eq(&program, &again.expect("a program")));
    let (_, none) = filters.for_embedded(&spec(None, true)).expect("splits");
    assert!(none.is_none());
}

#[test]
fn what_stays_with_libcontainer_has_its_masks_exchanged() {
    let filters = Filters::default();
    let (rest, program) = filters.for_embedded(&spec(Some(default_filter()), false)).expect("splits");
    assert!(program.is_none());
    let spec = serde_json::to_value(read(&rest)).expect("JSON");
    let calls = spec["linux"]["seccomp"]["syscalls"].as_array().expect("a list").clone();
    let clone = calls.iter().find(|call| call["names"] == json!(["clone"])).expect("clone");
    assert_eq!((&clone["args"][0]["value"], &clone["args"][0]["valueTwo"]), (&json!(0), &json!(0x7e02_0000)));
}

#[test]
fn a_listener_is_left_to_the_runtime_and_a_few_programs_are_kept() {
    let filters = Filters::default();
    let listening = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
    let listening = serde_json::from_value(listening).expect("a filter");
    assert!(filters.for_embedded(&spec(Some(listening), true)).expect("splits").1.is_none());
    for errno in 1..=u32::try_from(KEPT_MAX).expect("small") + 3 {
        let call = json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno});
        let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [call]});
        let filter = serde_json::from_value(filter).expect("a filter");
        assert!(filters.for_embedded(&spec(Some(filter), true)).expect("splits").1.is_some());
    }
    assert_eq!(filters.kept.lock().expect("sound").len(), KEPT_MAX);
}
