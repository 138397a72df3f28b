//! Identity, death, and what the kernel tells of it.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

fn sleeper() -> (std::process::Child, ProcessIdentity) {
    let child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    let identity = identity_of(child.id()).unwrap();
    (child, identity)
}

#[test]
fn a_command_full_of_parentheses_does_not_confuse() {
    let line = b"7 (a) R 1 (x) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1";
    let (state, identity) = parse_stat(7, line).unwrap();
    assert_eq!((state, identity.start_ticks), ('S', 4242));
    assert!(parse_stat(7, b"7 (short) S 1").is_none());
    assert!(parse_stat(7, b"").is_none());
}

#[test]
fn f31_another_start_time_is_another_process() {
    let own = identity_of(std::process::id()).unwrap();
    assert!(alive(&own));
    let stranger = ProcessIdentity { start_ticks: own.start_ticks + 1, ..own };
    assert!(!alive(&stranger));
    assert!(PidFd::open(&stranger).unwrap().is_none());
    assert!(!kill(&stranger, Signal::SIGKILL).unwrap());
}

/// Pids and thread ids are given from one row of numbers.
#[test]
fn f31_a_pid_that_is_a_threads_now_is_nobody() {
    let (say, hear) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        say.send(nix::unistd::gettid().as_raw()).unwrap();
        let _ = ended.recv();
    });
    let pid = u32::try_from(hear.recv().unwrap()).unwrap();
    let before = ProcessIdentity { pid, start_ticks: 1 };
    assert!(PidFd::open(&before).unwrap().is_none());
    assert!(!kill(&before, Signal::SIGKILL).unwrap());
    drop(end);
    thread.join().unwrap();
}

#[test]
fn wait_statuses_become_codes_and_signals() {
    assert_eq!(cause_of(42 << 8), ExitCause::Code(42));
    assert_eq!(cause_of(9), ExitCause::Signal(9));
    assert_eq!(cause_of(11 | 0x80), ExitCause::Signal(11));
}

#[tokio::test]
async fn a_pidfd_tells_the_end_and_the_status_after_the_reaping() {
    let (mut child, identity) = sleeper();
    let descriptor = PidFd::open(&identity).unwrap().unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(1), descriptor.exited()).await.is_err());
    assert!(descriptor.kill(Signal::SIGKILL).unwrap());
    descriptor.exited().await.unwrap();
    assert!(!alive(&identity), "a zombie has ended");
    assert_ne!(descriptor.exit_status(), KernelStatus::Ended(ExitCause::Code(0)));
    child.wait().unwrap();
    let told = descriptor.exit_status();
    assert!(matches!(told, KernelStatus::Ended(ExitCause::Signal(9)) | KernelStatus::NotTold), "{told:?}");
    assert!(!descriptor.kill(Signal::SIGKILL).unwrap());
    assert!(PidFd::open(&identity).unwrap().is_none());
}
