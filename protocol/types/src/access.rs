//! Who may reach what, and who did what: sockets that yield one namespace alone, and the audit log.

use std::fmt;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::{Error, NamespaceName, SocketId, Timestamp};

/// Mode of a namespace's socket when none is given: its owner and its group.
pub const SOCKET_MODE_DEFAULT: u32 = 0o660;

/// What a socket lets its peers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Everything that the capability reaches.
    #[default]
    ReadWrite,
    /// Looking only: every call that changes something is refused as PermissionDenied.
    ReadOnly,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
        })
    }
}

/// A socket that yields one namespace and nothing else. The record is what is wanted; the edge makes the host like it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct SocketRecord {
    /// Its name, unique in the daemon; its file is `<state>/sockets/<id>.sock`.
    pub id: SocketId,
    /// What it yields.
    pub namespace: NamespaceName,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permission bits, at most 0777.
    pub mode: u32,
    /// What its peers may do.
    pub access: Access,
    /// When it was made.
    pub created_at: Timestamp,
}

impl SocketRecord {
    /// Root's, mode 0600: give it the owner who is to use it.
    pub fn new(id: SocketId, namespace: NamespaceName, access: Access) -> Self {
        Self { id, namespace, uid: 0, gid: 0, mode: 0o600, access, created_at: Timestamp(0) }
    }
}

/// What a connection may reach, as the daemon sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// `None`: every namespace, and the daemon itself.
    pub namespace: Option<NamespaceName>,
    /// What it may do there.
    pub access: Access,
    /// The peer's user, as the kernel says.
    pub uid: u32,
    /// The peer's process, as the kernel says.
    pub pid: i32,
}

/// One call that changed something, or was to. Written before the call's own first commit, so that no change is without its entry.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Its number; in order of begin.
    pub sequence: u64,
    /// When the call began.
    pub at: Timestamp,
    /// Who: the peer's user, as the kernel says.
    pub uid: u32,
    /// Who: the peer's process at the time of connecting.
    pub pid: i32,
    /// Through which namespace socket; `None`: the daemon's own.
    pub socket: Option<SocketId>,
    /// The call, such as `container.create`.
    pub call: String,
    /// What it was about: namespace, then container, then exec, as far as they are known: `default/web`.
    pub subject: String,
    /// How it ended.
    pub result: AuditResult,
}

/// How an audited call ended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditResult {
    /// It had not ended when this was written. From an earlier life of the daemon: it was cut off, and recovery decided.
    Begun,
    /// It did what was asked.
    Done {
        /// How long it took.
        micros: u64,
    },
    /// It was refused or failed.
    Refused {
        /// Why.
        error: Error,
        /// How long it took.
        micros: u64,
    },
}

/// Which entries of the audit log are wanted; what is not given is not asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AuditQuery {
    /// Begun at or after.
    pub since: Option<Timestamp>,
    /// By this user.
    pub uid: Option<u32>,
    /// Whose subject is this, or below it: `default` finds `default/web`.
    pub subject: Option<String>,
    /// Whose call is this, or begins with it and a dot: `container` finds `container.create`.
    pub call: Option<String>,
    /// Only those that were refused or failed.
    pub refused: bool,
}

impl AuditQuery {
    /// Whether it asks for this one.
    pub fn wants(&self, record: &AuditRecord) -> bool {
        let below = |asked: &Option<String>, text: &str, separator: char| {
            asked.as_ref().is_none_or(|asked| {
                text.strip_prefix(asked.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(separator))
            })
        };
        self.since.is_none_or(|since| record.at >= since)
            && self.uid.is_none_or(|uid| record.uid == uid)
            && below(&self.subject, &record.subject, '/')
            && below(&self.call, &record.call, '.')
            && (!self.refused || matches!(record.result, AuditResult::Refused { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> AuditRecord {
        AuditRecord {
            sequence: 1,
            at: Timestamp(100),
            uid: 1000,
            pid: 7,
            socket: None,
            call: "container.create".to_owned(),
            subject: "default/web".to_owned(),
            result: AuditResult::Done { micros: 3 },
        }
    }

    #[test]
    fn a_query_finds_what_is_below_its_words_and_not_their_longer_siblings() {
        let wants = |query: AuditQuery| query.wants(&record());
        let subject = |text: &str| AuditQuery { subject: Some(text.to_owned()), ..AuditQuery::default() };
        let call = |text: &str| AuditQuery { call: Some(text.to_owned()), ..AuditQuery::default() };
        assert!(wants(AuditQuery::default()));
        assert!(wants(subject("default")) && wants(subject("default/web")));
        assert!(!wants(subject("def")) && !wants(subject("default/we")));
        assert!(wants(call("container")) && !wants(call("cont")) && !wants(call("container.delete")));
        assert!(wants(AuditQuery { since: Some(Timestamp(100)), uid: Some(1000), ..AuditQuery::default() }));
        assert!(!wants(AuditQuery { since: Some(Timestamp(101)), ..AuditQuery::default() }));
        assert!(!wants(AuditQuery { uid: Some(0), ..AuditQuery::default() }));
        assert!(!wants(AuditQuery { refused: true, ..AuditQuery::default() }));
    }
}
