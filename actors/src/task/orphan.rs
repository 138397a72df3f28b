//! What becomes of a container whose shim is gone, as a pure function.
//!
//! | policy | phase | init | |
//! |---|---|---|---|
//! | kill | any | any | ended |
//! | adopt | running, paused | lives | taken over by a new shim |
//! | adopt | running, paused | has ended | ended: how is asked of the records and the kernel |
//! | adopt | starting, or an exec is | any | looked at again: that hears first that the shim has gone |
//! | adopt | any other | any | ended: nothing of it ran, or nothing of it runs |

use bosun_types::shim::{AdoptedExec, Adoption, CreateRequest};
use bosun_types::task::{ExecRecord, OnShimDeath, ProcessIdentity, StoredPhase, TaskRecord};

use super::phase::Phase;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// What is left is killed and cleaned up.
    End,
    /// A new shim takes it over.
    TakeOver,
    /// It is not known yet what it is.
    LookAgain,
}

/// Decides. `is_unsettled`: requests about execs are under way, and what came of them is not in the rows yet.
pub(crate) fn next(policy: OnShimDeath, phase: &Phase, init_lives: bool, is_unsettled: bool) -> Next {
    match (policy, phase) {
        (OnShimDeath::Kill, _) => Next::End,
        (OnShimDeath::Adopt, Phase::Starting) => Next::LookAgain,
        (OnShimDeath::Adopt, Phase::Running | Phase::Paused) if is_unsettled => Next::LookAgain,
        (OnShimDeath::Adopt, Phase::Running | Phase::Paused) if init_lives => Next::TakeOver,
        (OnShimDeath::Adopt, _) => Next::End,
    }
}

/// What the new shim has to know; `None`: there is no init.
pub(crate) fn adoption<'a>(
    task: &TaskRecord,
    execs: impl Iterator<Item = &'a ExecRecord>,
) -> Option<Adoption> {
    let request = CreateRequest {
        id: task.container.to_string(),
        runtime: task.runtime.clone(),
        rootfs: Vec::new(),
        stdio: task.stdio.clone(),
        no_pivot_root: false,
        adoptable: true,
    };
    Some(Adoption { request, init: task.init?, execs: execs.filter_map(adopted).collect() })
}

fn adopted(exec: &ExecRecord) -> Option<AdoptedExec> {
    let of = |process: &[u8], identity: Option<ProcessIdentity>| AdoptedExec {
        id: exec.id.clone(),
        process: process.to_vec(),
        stdio: exec.stdio.clone(),
        identity,
    };
    match &exec.phase {
        StoredPhase::Created => Some(of(&exec.process, None)),
        StoredPhase::Running | StoredPhase::Paused => exec.identity.map(|identity| of(&[], Some(identity))),
        // Its row says how it ended.
        StoredPhase::Stopped(_) | StoredPhase::Creating => None,
    }
}

#[cfg(test)]
#[path = "orphan_tests.rs"]
mod tests;
