//! What the rows say of the actors that hold policies and groups: counts, back-off timers, causes. Drawn into the tree after it was told, so that no
//! supervisor has to know.

use bosun_storage::key::Key;
use bosun_types::group::{GroupPhase, GroupRecord};
use bosun_types::relaunch::{RelaunchPhase, RelaunchRecord};
use bosun_types::tree::TreeNode;
use bosun_types::{Result, Timestamp};

use super::NAMESPACES;
use crate::core::Core;

/// The details of every policy and group.
pub(crate) fn annotate(core: &Core, root: &mut TreeNode) -> Result<()> {
    let policies: Vec<RelaunchRecord> = core.store.scan(&Key::all())?;
    for record in policies {
        let path =
            [NAMESPACES, record.namespace.as_str(), "containers", record.container.as_str(), "relaunch"];
        if let Some(node) = find(root, &path) {
            node.detail = policy_words(&record, Timestamp::now());
        }
    }
    let groups: Vec<GroupRecord> = core.store.scan(&Key::all())?;
    for record in groups {
        let path = [NAMESPACES, record.namespace.as_str(), "groups", record.spec.name.as_str()];
        if let Some(node) = find(root, &path) {
            node.detail = group_words(&record);
        }
    }
    Ok(())
}

fn find<'a>(node: &'a mut TreeNode, path: &[&str]) -> Option<&'a mut TreeNode> {
    match path {
        [] => Some(node),
        [first, rest @ ..] => find(node.children.iter_mut().find(|child| child.name == *first)?, rest),
    }
}

/// `restart policy always, 3 relaunches, again in 1.6 s`.
fn policy_words(record: &RelaunchRecord, now: Timestamp) -> String {
    let tenths = |until: Timestamp| {
        let left = u64::try_from(until.0.saturating_sub(now.0)).unwrap_or(0) / 100_000_000;
        format!("{}.{} s", left / 10, left % 10)
    };
    let phase = match &record.state.phase {
        RelaunchPhase::Idle => String::new(),
        RelaunchPhase::Waiting { until } => format!(", again in {}", tenths(*until)),
        RelaunchPhase::Relaunching(_) => ", starting it".to_owned(),
        RelaunchPhase::Stopping { until, .. } => format!(", stopping it, kills it in {}", tenths(*until)),
        RelaunchPhase::GivenUp { cause } => format!(", GIVEN UP: {cause}"),
    };
    format!("restart policy {}, {} relaunches{phase}", record.policy.when, record.state.count)
}

/// `group rest_for_one, up, 2 restarts`.
fn group_words(record: &GroupRecord) -> String {
    let state = &record.state;
    let cause = match &state.phase {
        GroupPhase::Failed { cause } | GroupPhase::Stopping { failure: Some(cause) } => format!(": {cause}"),
        _ => String::new(),
    };
    format!("group {}, {}{cause}, {} restarts", record.spec.strategy, state.phase.status(), state.restarts)
}

#[cfg(test)]
mod tests {
    use bosun_types::relaunch::RestartPolicy;

    use super::*;

    #[test]
    fn a_policy_says_when_it_starts_again() {
        let policy = RestartPolicy::new("on-failure:3".parse().unwrap());
        let mut record = RelaunchRecord::new("web".parse().unwrap(), "c".parse().unwrap(), policy);
        record.state.count = 2;
        assert_eq!(policy_words(&record, Timestamp(0)), "restart policy on-failure:3, 2 relaunches");
        record.state.phase = RelaunchPhase::Waiting { until: Timestamp(1_650_000_000) };
        assert!(policy_words(&record, Timestamp(0)).ends_with("again in 1.6 s"));
        record.state.phase = RelaunchPhase::GivenUp { cause: "too often".to_owned() };
        assert!(policy_words(&record, Timestamp(0)).ends_with("GIVEN UP: too often"));
    }
}
