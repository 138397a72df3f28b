//! Services that stand in for the daemon's own: another daemon's content, a recorder in a test (CLT-3).

use std::collections::BTreeMap;

use crate::containers::Containers;
use crate::content::Content;
use crate::events::Events;
use crate::images::Images;
use crate::leases::Leases;
use crate::snapshots::Snapshots;
use crate::transfers::Transfers;

/// Any subset of a namespace's services, taken from elsewhere: see [`Namespace::with_services`](crate::Namespace::with_services). A whole
/// daemon that is not at the other end of a socket is [`Client::over`](crate::Client::over).
#[derive(Clone, Default)]
pub struct Services {
    pub(crate) containers: Option<Containers>,
    pub(crate) images: Option<Images>,
    pub(crate) content: Option<Content>,
    pub(crate) snapshots: BTreeMap<String, Snapshots>,
    pub(crate) transfers: Option<Transfers>,
    pub(crate) events: Option<Events>,
    pub(crate) leases: Option<Leases>,
}

impl Services {
    /// None of them.
    pub fn new() -> Self {
        Self::default()
    }

    /// These containers.
    #[must_use]
    pub fn containers(self, containers: Containers) -> Self {
        Self { containers: Some(containers), ..self }
    }

    /// These images.
    #[must_use]
    pub fn images(self, images: Images) -> Self {
        Self { images: Some(images), ..self }
    }

    /// This content.
    #[must_use]
    pub fn content(self, content: Content) -> Self {
        Self { content: Some(content), ..self }
    }

    /// These snapshots, under the name of that snapshotter. Other names stay the daemon's own.
    #[must_use]
    pub fn snapshots(mut self, snapshotter: &str, snapshots: Snapshots) -> Self {
        self.snapshots.insert(snapshotter.to_owned(), snapshots);
        self
    }

    /// These transfers.
    #[must_use]
    pub fn transfers(self, transfers: Transfers) -> Self {
        Self { transfers: Some(transfers), ..self }
    }

    /// These events.
    #[must_use]
    pub fn events(self, events: Events) -> Self {
        Self { events: Some(events), ..self }
    }

    /// These leases.
    #[must_use]
    pub fn leases(self, leases: Leases) -> Self {
        Self { leases: Some(leases), ..self }
    }
}
