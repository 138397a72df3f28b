//! Seccomp filters as the kernel takes them, compiled once for all containers that have the same.
//!
//! libseccomp needs milliseconds for a profile of some hundred calls, and every container and every exec would pay them again in the child that makes it. The
//! daemon compiles instead, keeps the last few programs, and puts one into the task's directory; the shim's child only loads it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::sync::{Arc, Mutex, PoisonError};

use bosun_types::Error;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall, Spec,
};

use crate::error::Result;

/// Programs kept: a host has a few profiles for many containers.
const KEPT_MAX: usize = 16;
/// libseccomp's binary tree instead of a chain of comparisons.
const OPTIMIZE_TREE: u32 = 2;

/// A compiled filter: an array of the kernel's `struct sock_filter`.
pub type Program = Arc<Vec<u8>>;

/// The last few programs.
#[derive(Debug, Default)]
pub struct Filters {
    kept: Mutex<VecDeque<(LinuxSeccomp, Program)>>,
}

impl Filters {
    /// Prepares a spec for the embedded runtime: takes the filter out and compiles it. A filter of a kind that is left to libcontainer stays in the spec: one
    /// with a listener or flags, or of a process that may gain privileges, where the moment of loading matters.
    pub fn for_embedded(&self, spec: &[u8]) -> Result<(Vec<u8>, Option<Program>)> {
        let mut spec: Spec = serde_json::from_slice(spec)
            .map_err(|error| Error::invalid_argument(format!("the OCI spec is malformed: {error}")))?;
        let bound = spec.process().as_ref().is_some_and(|process| process.no_new_privileges() == Some(true));
        let filter = spec.linux().as_ref().and_then(|linux| linux.seccomp().clone());
        let (left, program) = match filter {
            Some(filter) if bound && is_plain(&filter) => (None, Some(self.program(filter)?)),
            Some(filter) => (Some(with_masks_for_libcontainer(filter)?), None),
            None => (None, None),
        };
        if let Some(linux) = spec.linux_mut() {
            linux.set_seccomp(left);
        }
        let spec = serde_json::to_vec(&spec)
            .map_err(|error| Error::internal(format!("an OCI spec cannot be written: {error}")))?;
        Ok((spec, program))
    }

    fn program(&self, filter: LinuxSeccomp) -> Result<Program> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, program)) = kept.iter().find(|(known, _)| *known == filter) {
            return Ok(Arc::clone(program));
        }
        let program = Arc::new(compile(&filter).map_err(|error| {
            Error::invalid_argument(format!("the seccomp profile cannot be compiled: {error}"))
        })?);
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back((filter, Arc::clone(&program)));
        Ok(program)
    }
}

/// libcontainer 0.7 takes the mask of a masked comparison for the wanted value and the other way round, which would let `clone` make any namespace: it
/// gets them exchanged.
fn with_masks_for_libcontainer(filter: LinuxSeccomp) -> Result<LinuxSeccomp> {
    let failed = |error: serde_json::Error| Error::internal(format!("a seccomp profile: {error}"));
    let mut value = serde_json::to_value(filter).map_err(failed)?;
    let calls = value["syscalls"].as_array_mut().into_iter().flatten();
    for argument in calls.filter_map(|call| call["args"].as_array_mut()).flatten() {
        if argument["op"] == "SCMP_CMP_MASKED_EQ" {
            let wanted = argument["valueTwo"].as_u64().unwrap_or(0);
            argument["valueTwo"] = argument["value"].take();
            argument["value"] = wanted.into();
        }
    }
    Ok(serde_json::from_value(value).map_err(failed)?)
}

/// Without a listener, without flags of the load itself, without tracing.
fn is_plain(filter: &LinuxSeccomp) -> bool {
    let plain =
        |action| !matches!(action, LinuxSeccompAction::ScmpActNotify | LinuxSeccompAction::ScmpActTrace);
    filter.listener_path().is_none()
        && filter.flags().as_ref().is_none_or(Vec::is_empty)
        && plain(filter.default_action())
        && filter.syscalls().iter().flatten().all(|call| plain(call.action()))
}

fn compile(filter: &LinuxSeccomp) -> Result<Vec<u8>, CompileError> {
    let default = action(filter.default_action(), filter.default_errno_ret());
    let mut context = ScmpFilterContext::new(default)?;
    context.set_ctl_optimize(OPTIMIZE_TREE)?;
    for arch in filter.architectures().iter().flatten() {
        context.add_arch(architecture(*arch))?;
    }
    for call in filter.syscalls().iter().flatten() {
        let answer = action(call.action(), call.errno_ret());
        // libseccomp refuses a rule that changes nothing.
        if answer != default {
            add(&mut context, call, answer)?;
        }
    }
    let memory = memfd_create(c"seccomp", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?;
    context.export_bpf(&memory)?;
    let (mut file, mut program) = (File::from(memory), Vec::new());
    file.rewind()?;
    file.read_to_end(&mut program)?;
    Ok(program)
}

#[derive(Debug, thiserror::Error)]
enum CompileError {
    #[error(transparent)]
    Rule(#[from] libseccomp::error::SeccompError),
    #[error("memory file: {0}")]
    File(#[from] io::Error),
}

fn add(context: &mut ScmpFilterContext, call: &LinuxSyscall, answer: ScmpAction) -> Result<(), CompileError> {
    let arguments = call.args().as_deref().unwrap_or_default();
    for name in call.names() {
        // A call that this libseccomp does not know is one that no program here makes: the default answers it.
        let Ok(number) = ScmpSyscall::from_name(name) else { continue };
        if arguments.is_empty() {
            context.add_rule(answer, number)?;
        } else if has_repeated_index(arguments) {
            // One rule compares an argument once; several comparisons of one are alternatives (as runc reads them).
            for argument in arguments {
                context.add_rule_conditional(answer, number, &[comparison(argument)])?;
            }
        } else {
            let all: Vec<ScmpArgCompare> = arguments.iter().map(comparison).collect();
            context.add_rule_conditional(answer, number, &all)?;
        }
    }
    Ok(())
}

fn has_repeated_index(arguments: &[LinuxSeccompArg]) -> bool {
    let mut indices: Vec<usize> = arguments.iter().map(LinuxSeccompArg::index).collect();
    indices.sort_unstable();
    indices.windows(2).any(|pair| pair[0] == pair[1])
}

fn comparison(argument: &LinuxSeccompArg) -> ScmpArgCompare {
    let op = match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => ScmpCompareOp::NotEqual,
        LinuxSeccompOperator::ScmpCmpLt => ScmpCompareOp::Less,
        LinuxSeccompOperator::ScmpCmpLe => ScmpCompareOp::LessOrEqual,
        LinuxSeccompOperator::ScmpCmpEq => ScmpCompareOp::Equal,
        LinuxSeccompOperator::ScmpCmpGe => ScmpCompareOp::GreaterEqual,
        LinuxSeccompOperator::ScmpCmpGt => ScmpCompareOp::Greater,
        // The value is the mask, the second value what is wanted of it (OCI runtime spec, config-linux.md).
        LinuxSeccompOperator::ScmpCmpMaskedEq => ScmpCompareOp::MaskedEqual(argument.value()),
    };
    let datum = match argument.op() {
        LinuxSeccompOperator::ScmpCmpMaskedEq => argument.value_two().unwrap_or(0),
        _ => argument.value(),
    };
    ScmpArgCompare::new(u32::try_from(argument.index()).unwrap_or(u32::MAX), op, datum)
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> ScmpAction {
    let errno = errno.and_then(|errno| i32::try_from(errno).ok()).unwrap_or(libc::EPERM);
    match action {
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(errno),
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActKill
        | LinuxSeccompAction::ScmpActKillThread
        // Not plain, so they do not come here; the strictest answer if they ever did.
        | LinuxSeccompAction::ScmpActNotify
        | LinuxSeccompAction::ScmpActTrace => ScmpAction::KillThread,
    }
}

fn architecture(arch: Arch) -> ScmpArch {
    match arch {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchMips => ScmpArch::Mips,
        Arch::ScmpArchMips64 => ScmpArch::Mips64,
        Arch::ScmpArchMips64n32 => ScmpArch::Mips64N32,
        Arch::ScmpArchMipsel => ScmpArch::Mipsel,
        Arch::ScmpArchMipsel64 => ScmpArch::Mipsel64,
        Arch::ScmpArchMipsel64n32 => ScmpArch::Mipsel64N32,
        Arch::ScmpArchPpc => ScmpArch::Ppc,
        Arch::ScmpArchPpc64 => ScmpArch::Ppc64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390 => ScmpArch::S390,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchParisc => ScmpArch::Parisc,
        Arch::ScmpArchParisc64 => ScmpArch::Parisc64,
        Arch::ScmpArchLoongarch64 => ScmpArch::Loongarch64,
        Arch::ScmpArchM68k => ScmpArch::M68k,
        Arch::ScmpArchSh => ScmpArch::Sh,
        Arch::ScmpArchSheb => ScmpArch::Sheb,
    }
}

#[cfg(test)]
mod tests;
