//! Leases: what a client is working on and nothing refers to yet stays while its lease does (LSE-*).

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::gc::Object;
use crate::{Error, Labels, LeaseId, NamespaceName, Result, Timestamp, labels};

/// Label on a lease: RFC 3339; from then on the lease holds nothing, and the next collection removes it.
pub const LABEL_EXPIRE: &str = "containerd.io/gc.expire";
/// Label on a lease: only its resources are held, not what their labels refer to. Parents of snapshots are held all the same.
pub const LABEL_FLAT: &str = "containerd.io/gc.flat";

/// One lease.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// Namespace it lives in.
    pub namespace: NamespaceName,
    /// Its id.
    pub id: LeaseId,
    /// Labels.
    pub labels: Labels,
    /// Set by the daemon.
    pub created_at: Timestamp,
}

impl LeaseRecord {
    /// LSE-1: what can be said before it is stored.
    pub fn validate(&self) -> Result<()> {
        labels::validate(&self.labels)?;
        match self.labels.get(LABEL_EXPIRE) {
            Some(text) => Timestamp::parse(text)
                .map(drop)
                .map_err(|error| error.context(format!("label {LABEL_EXPIRE}"))),
            None => Ok(()),
        }
    }

    /// When it ends by itself; `None`: never.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.labels.get(LABEL_EXPIRE).and_then(|text| Timestamp::parse(text).ok())
    }

    /// Whether it has ended by itself.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at().is_some_and(|at| at <= now)
    }

    /// Whether labels of what it holds are not followed.
    pub fn is_flat(&self) -> bool {
        self.labels.contains_key(LABEL_FLAT)
    }
}

/// What a lease holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "id")]
pub enum LeaseResource {
    /// A blob or a snapshot.
    Object(Object),
    /// An unfinished write, by its ref.
    Ingest(String),
}

impl LeaseResource {
    /// From the two words of containerd's API: `content` and a digest, `snapshots/<snapshotter>` and a key, `ingests` and a ref.
    pub fn parse(kind: &str, id: &str) -> Result<Self> {
        match kind.split_once('/') {
            None if kind == "content" => Ok(Self::Object(Object::Blob(id.parse()?))),
            None if kind == "ingests" && !id.is_empty() => Ok(Self::Ingest(id.to_owned())),
            Some(("snapshots", snapshotter)) if !snapshotter.is_empty() => {
                Ok(Self::Object(Object::Snapshot { snapshotter: snapshotter.to_owned(), key: id.parse()? }))
            }
            _ => Err(Error::invalid_argument(format!("a lease cannot hold {kind:?} {id:?}"))
                .with_hint("use content, snapshots/<snapshotter> or ingests")),
        }
    }

    /// The first word of [`Self::parse`].
    pub fn kind(&self) -> String {
        match self {
            Self::Object(Object::Blob(_)) => "content".to_owned(),
            Self::Object(Object::Snapshot { snapshotter, .. }) => format!("snapshots/{snapshotter}"),
            Self::Ingest(_) => "ingests".to_owned(),
        }
    }

    /// The second.
    pub fn id(&self) -> String {
        match self {
            Self::Object(Object::Blob(digest)) => digest.to_string(),
            Self::Object(Object::Snapshot { key, .. }) => key.to_string(),
            Self::Ingest(reference) => reference.clone(),
        }
    }
}

/// One thing that one lease holds: a row of its own, so that a lease may hold many.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct LeaseEntry {
    /// The lease's namespace.
    pub namespace: NamespaceName,
    /// The lease.
    pub lease: LeaseId,
    /// What it holds.
    pub resource: LeaseResource,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lse_7_resources_read_back_from_their_words() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (kind, id) in [("content", digest.as_str()), ("snapshots/overlayfs", "web"), ("ingests", "up-1")]
        {
            let resource = LeaseResource::parse(kind, id).expect("good");
            assert_eq!((resource.kind().as_str(), resource.id().as_str()), (kind, id));
        }
        for (kind, id) in [("content", "sha256:xy"), ("snapshots", "web"), ("images", "a"), ("ingests", "")] {
            LeaseResource::parse(kind, id).expect_err("malformed");
        }
    }

    #[test]
    fn lse_7_a_time_that_cannot_be_read_is_refused_when_the_lease_is_made() {
        let lease = |value: &str| LeaseRecord {
            namespace: NamespaceName::default_name(),
            id: LeaseId::new("l").expect("good"),
            labels: Labels::from([(LABEL_EXPIRE.to_owned(), value.to_owned())]),
            created_at: Timestamp(0),
        };
        lease("tomorrow").validate().expect_err("malformed");
        let good = lease("2026-11-24T08:00:00Z");
        good.validate().expect("good");
        let at = good.expires_at().expect("ends");
        assert!(good.is_expired(at) && !good.is_expired(Timestamp(at.0 - 1)));
    }
}
