//! When and where a process may run: OCI `process.scheduler`, by sched_setattr(2), and `process.execCPUAffinity`.

use std::io;

use nix::sched::CpuSet;
use oci_spec::runtime::{LinuxSchedulerFlag, LinuxSchedulerPolicy, Scheduler};

/// `struct sched_attr` in the size with utilization clamps (Linux 5.3).
#[repr(C)]
#[derive(Debug, Default, PartialEq, Eq)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    utilization_min: u32,
    utilization_max: u32,
}

/// Of this process and those it forks.
#[expect(unsafe_code, reason = "a system call without a wrapper")]
pub fn set(scheduler: &Scheduler) -> io::Result<()> {
    let attributes = attributes(scheduler);
    // SAFETY: the structure says its own size and lives through the call.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Of this process and those it forks: `cpus` as cpuset(7) has them, such as `0-3,7`.
pub fn set_affinity(cpus: &str) -> io::Result<()> {
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &parse_cpus(cpus)?).map_err(io::Error::from)
}

fn parse_cpus(text: &str) -> io::Result<CpuSet> {
    let malformed = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{text:?} is no list of processors such as 0-3,7"),
        )
    };
    let mut set = CpuSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |word: &str| word.trim().parse::<usize>().map_err(|_| malformed());
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last >= CpuSet::count() {
            return Err(malformed());
        }
        for cpu in first..=last {
            set.set(cpu)?;
        }
    }
    Ok(set)
}

fn attributes(scheduler: &Scheduler) -> Attributes {
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let bit = |flag: &LinuxSchedulerFlag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 1,
        LinuxSchedulerFlag::SchedFlagReclaim => 1 << 1,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 1 << 2,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 1 << 3,
        LinuxSchedulerFlag::SchedFlagKeepParams => 1 << 4,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 1 << 5,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 1 << 6,
    };
    Attributes {
        size: u32::try_from(size_of::<Attributes>()).unwrap_or(0),
        policy,
        flags: scheduler.flags().iter().flatten().map(bit).fold(0, |all, bit: u64| all | bit),
        nice: scheduler.nice().unwrap_or(0),
        priority: scheduler.priority().unwrap_or(0).cast_unsigned(),
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
        ..Attributes::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_spec_says_is_what_the_kernel_gets() {
        let json = r#"{"policy": "SCHED_BATCH", "nice": 5, "flags": ["SCHED_RESET_ON_FORK", "SCHED_FLAG_UTIL_CLAMP_MIN"]}"#;
        let wanted = Attributes { size: 56, policy: 3, flags: 0x21, nice: 5, ..Attributes::default() };
        assert_eq!(attributes(&serde_json::from_str(json).unwrap()), wanted);
        set(&serde_json::from_str(r#"{"policy": "SCHED_OTHER"}"#).unwrap()).unwrap();
    }
    #[test]
    fn processors_are_read_as_cpuset_writes_them() {
        let set = parse_cpus("0-2,5").unwrap();
        let given: Vec<usize> = (0..8).filter(|cpu| set.is_set(*cpu).unwrap()).collect();
        assert_eq!(given, [0, 1, 2, 5]);
        for bad in ["", "x", "1-", "2-1", "0,,1", "999999", "0-99999999999"] {
            assert!(parse_cpus(bad).is_err(), "{bad:?}");
        }
        set_affinity("0").unwrap();
    }
}
