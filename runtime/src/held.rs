//! Descriptors of the processes of live tasks. With one at hand the kernel tells how a process ended even when its parent, the shim, died before it could
//! write that down (`PIDFD_GET_INFO`, Linux 6.15); without, a process that ended together with its shim has ended unseen.
//!
//! One descriptor a running process; they go when the exit is known, or with the task's directory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bosun_types::ExecId;
use bosun_types::task::ProcessIdentity;

use crate::process::PidFd;

type OfTask = BTreeMap<Option<ExecId>, Arc<PidFd>>;

/// By the nonce of the task and the process in it: `None` is init. See the module.
#[derive(Debug, Default)]
pub struct HeldProcesses(Mutex<HashMap<String, OfTask>>);

impl HeldProcesses {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, OfTask>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds it from now on. One that is gone already is not; without descriptors left, nothing is held and only exits of the unluckiest are unknown.
    pub fn hold(&self, nonce: &str, exec: Option<&ExecId>, process: &ProcessIdentity) {
        match PidFd::open(process) {
            Ok(Some(descriptor)) => {
                let mut held = self.lock();
                held.entry(nonce.to_owned()).or_default().insert(exec.cloned(), Arc::new(descriptor));
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(nonce, %error, "a process is not held"),
        }
    }

    /// Its exit is known.
    pub fn release(&self, nonce: &str, exec: Option<&ExecId>) {
        let mut held = self.lock();
        if let Some(of_task) = held.get_mut(nonce) {
            of_task.remove(&exec.cloned());
            if of_task.is_empty() {
                held.remove(nonce);
            }
        }
    }

    /// The task is gone.
    pub fn release_all(&self, nonce: &str) {
        self.lock().remove(nonce);
    }

    /// What is held of a task.
    pub fn of(&self, nonce: &str) -> Vec<(Option<ExecId>, Arc<PidFd>)> {
        let held = self.lock();
        let of_task = held.get(nonce).into_iter().flatten();
        of_task.map(|(exec, descriptor)| (exec.clone(), Arc::clone(descriptor))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::identity_of;

    #[test]
    fn processes_are_held_until_released() {
        let held = HeldProcesses::default();
        let own = identity_of(std::process::id()).expect("lives");
        let exec = ExecId::new("e").expect("good");
        held.hold("n", None, &own);
        held.hold("n", Some(&exec), &own);
        held.hold("n", Some(&exec), &own);
        held.hold("other", None, &ProcessIdentity { start_ticks: own.start_ticks + 1, ..own });
        assert_eq!(held.of("n").len(), 2);
        assert!(held.of("other").is_empty(), "that one has gone, whoever has its pid now");
        held.release("n", Some(&exec));
        assert_eq!(held.of("n").iter().map(|(exec, _)| exec.clone()).collect::<Vec<_>>(), [None]);
        held.release_all("n");
        assert!(held.of("n").is_empty() && held.lock().is_empty());
    }
}
