//! `daemon.capnp`: status, the supervision tree, operations.

use bosun_types::operation::{Intent, OperationRecord, OperationStatus};
use bosun_types::tree::{DaemonStatus, NodeKind, NodeState, PartRecord, TreeNode};
use bosun_types::{Error, OperationId, Result, Timestamp};

use super::common::enum_both_ways;
use super::{
    Sound, Wire, length, pair_count, read_list, read_optional_text, read_pairs, read_parsed, read_text,
    read_texts, read_time, write_list, write_pairs, write_texts, write_time,
};
use crate::daemon_capnp as wire;

enum_both_ways!(NodeKind, wire::NodeKind, kind_to_wire, kind_from_wire, [Supervisor, Worker]);

impl Wire for DaemonStatus {
    type Struct = wire::daemon_status::Owned;

    fn write(&self, mut to: wire::daemon_status::Builder<'_>) {
        to.set_version(self.version.as_str());
        to.set_revision(self.revision.as_str());
        to.set_pid(self.pid);
        to.set_started_at(self.started_at.0);
        to.set_recovering(self.recovering);
        if let Some(why) = &self.read_only {
            to.set_read_only(why.as_str());
        }
        to.set_root(self.root.as_str());
        to.set_state(self.state.as_str());
        to.set_containers(self.containers);
        to.set_tasks_live(self.tasks_live);
        to.set_operations_open(self.operations_open);
        to.set_operations_parked(self.operations_parked);
        to.set_event_sequence(self.event_sequence);
    }

    fn read(from: wire::daemon_status::Reader<'_>) -> Result<Self> {
        Ok(Self {
            version: read_text(from.get_version())?,
            revision: read_text(from.get_revision())?,
            pid: from.get_pid(),
            started_at: Timestamp(from.get_started_at()),
            recovering: from.get_recovering(),
            read_only: read_optional_text(from.has_read_only(), from.get_read_only())?,
            root: read_text(from.get_root())?,
            state: read_text(from.get_state())?,
            containers: from.get_containers(),
            tasks_live: from.get_tasks_live(),
            operations_open: from.get_operations_open(),
            operations_parked: from.get_operations_parked(),
            event_sequence: from.get_event_sequence(),
        })
    }
}

impl Wire for TreeNode {
    type Struct = wire::tree_node::Owned;

    fn write(&self, mut to: wire::tree_node::Builder<'_>) {
        to.set_id(self.name.as_str());
        to.set_kind(kind_to_wire(self.kind));
        let mut state = to.reborrow().init_state();
        match &self.state {
            NodeState::Running => state.set_running(()),
            NodeState::Restarting => state.set_restarting(()),
            NodeState::Parked(cause) => state.set_parked(cause.as_str()),
            NodeState::Stopped => state.set_stopped(()),
        }
        to.set_detail(self.detail.as_str());
        to.set_restarts(self.restarts);
        to.set_mailbox(self.mailbox.map_or(-1, i64::from));
        to.set_started_at(write_time(self.started_at));
        write_list(&self.children, to.init_children(length(&self.children)));
    }

    fn read(from: wire::tree_node::Reader<'_>) -> Result<Self> {
        use wire::tree_node::state::Which;
        let state = match from.get_state().which().sound()? {
            Which::Running(()) => NodeState::Running,
            Which::Restarting(()) => NodeState::Restarting,
            Which::Parked(cause) => NodeState::Parked(read_text(cause)?),
            Which::Stopped(()) => NodeState::Stopped,
        };
        Ok(Self {
            name: read_text(from.get_id())?,
            kind: kind_from_wire(from.get_kind().sound()?),
            state,
            detail: read_text(from.get_detail())?,
            restarts: from.get_restarts(),
            mailbox: u32::try_from(from.get_mailbox()).ok(),
            started_at: read_time(from.get_started_at()),
            children: read_list(from.get_children())?,
        })
    }
}

impl Wire for OperationRecord {
    type Struct = wire::operation_record::Owned;

    fn write(&self, mut to: wire::operation_record::Builder<'_>) {
        to.set_id(self.id.0);
        to.set_namespace(self.namespace.as_str());
        to.set_kind(self.intent.name());
        let intent = intent_json::encode(&self.intent);
        to.set_intent(intent.as_str());
        to.set_boot_id(self.boot_id.as_str());
        to.set_opened_at(self.opened_at.0);
        to.set_attempts(self.attempts);
        let mut status = to.init_status();
        match &self.status {
            OperationStatus::Forward => status.set_forward(()),
            OperationStatus::Undoing { cause } => cause.write(status.init_undoing()),
            OperationStatus::Parked { cause } => cause.write(status.init_parked()),
        }
    }

    fn read(from: wire::operation_record::Reader<'_>) -> Result<Self> {
        use wire::operation_record::status::Which;
        let status = match from.get_status().which().sound()? {
            Which::Forward(()) => OperationStatus::Forward,
            Which::Undoing(cause) => OperationStatus::Undoing { cause: Error::read(cause.sound()?)? },
            Which::Parked(cause) => OperationStatus::Parked { cause: Error::read(cause.sound()?)? },
        };
        Ok(Self {
            id: OperationId(from.get_id()),
            namespace: read_parsed(from.get_namespace())?,
            intent: intent_json::decode(&read_text(from.get_intent())?)?,
            boot_id: read_text(from.get_boot_id())?,
            opened_at: Timestamp(from.get_opened_at()),
            status,
            attempts: from.get_attempts(),
            // Not shown: a key is the caller's secret.
            call: None,
        })
    }
}

/// Intents cross as JSON: they are shown, not acted on, and new kinds must not need a new schema.
mod intent_json {
    use super::{Error, Intent, Result};

    pub(super) fn encode(intent: &Intent) -> String {
        // Only a map with keys that are no strings could fail, and an intent has none.
        serde_json::to_string(intent).unwrap_or_default()
    }

    pub(super) fn decode(text: &str) -> Result<Intent> {
        serde_json::from_str(text).map_err(|error| {
            Error::not_implemented(format!("an operation of a kind unknown here: {error}"))
                .with_hint("the daemon is newer than this build")
        })
    }
}

impl Wire for PartRecord {
    type Struct = wire::part_record::Owned;

    fn write(&self, mut to: wire::part_record::Builder<'_>) {
        to.set_kind(self.kind.as_str());
        to.set_id(self.id.as_str());
        write_texts(&self.requires, to.reborrow().init_requires(length(&self.requires)));
        write_list(&self.platforms, to.reborrow().init_platforms(length(&self.platforms)));
        write_pairs(&self.exports, to.reborrow().init_exports(pair_count(&self.exports)));
        write_texts(&self.capabilities, to.reborrow().init_capabilities(length(&self.capabilities)));
        if let Some(failure) = &self.failure {
            failure.write(to.init_failure());
        }
    }

    fn read(from: wire::part_record::Reader<'_>) -> Result<Self> {
        Ok(Self {
            kind: read_text(from.get_kind())?,
            id: read_text(from.get_id())?,
            requires: read_texts(from.get_requires())?,
            platforms: read_list(from.get_platforms())?,
            exports: read_pairs(from.get_exports())?,
            capabilities: read_texts(from.get_capabilities())?,
            failure: if from.has_failure() { Some(Error::read(from.get_failure().sound()?)?) } else { None },
        })
    }
}
