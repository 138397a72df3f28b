//! Checkpoint and restore: what is asked for, and the words of a checkpoint's image (CKP-*).

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::content::Descriptor;
use crate::{ContainerId, Error, ImageName, Result, Timestamp};

/// A tar of CRIU's image files.
pub const MEDIA_CRIU: &str = "application/vnd.containerd.container.criu.checkpoint.criu.tar";
/// The container's spec as a protobuf `Any`.
pub const MEDIA_CONFIG: &str = "application/vnd.containerd.container.checkpoint.config.v1+proto";
/// CKP-4: reserved; nothing is written under these yet.
pub const MEDIA_RESERVED: [&str; 3] = [
    "application/vnd.containerd.container.criu.checkpoint.predump.tar",
    "application/vnd.containerd.container.resource.tar",
    "application/vnd.containerd.container.rw.tar",
];
/// Set to `true` on the image record of a checkpoint (CKP-5).
pub const LABEL_CHECKPOINT: &str = "containerd.io/checkpoint";
/// Annotation of the index: the name of the image that the container was made from (CKP-3).
pub const ANNOTATION_IMAGE: &str = "image.name";

/// Whether a descriptor of this type belongs to a checkpoint and has no children of its own (IMG-8).
pub fn is_part(media_type: &str) -> bool {
    media_type == MEDIA_CRIU || media_type == MEDIA_CONFIG || MEDIA_RESERVED.contains(&media_type)
}

/// What CRIU may store beyond processes, memory and files (CKP-6). The same holds when it is restored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
#[serde(default)]
pub struct DumpOptions {
    /// Established TCP connections.
    pub open_tcp: bool,
    /// Unix sockets whose other end is outside.
    pub external_unix_sockets: bool,
    /// A terminal that the container shares with its outside, as a shell's job. A container's own terminal needs no word.
    pub terminal: bool,
    /// File locks.
    pub file_locks: bool,
    /// Linux namespaces that are made anew, empty, at a restore: `network`.
    pub empty_namespaces: Vec<String>,
    /// What is kept of cgroups: `ignore` (default), `none`, `props`, `soft`, `full` or `strict`. A restored container's cgroup is made from
    /// its spec all the same.
    pub cgroups_mode: Option<String>,
}

/// What CRIU calls the ways to treat cgroups.
const CGROUP_MODES: [&str; 6] = ["ignore", "none", "props", "soft", "full", "strict"];

impl DumpOptions {
    /// Words that CRIU does not know are refused before anything is frozen.
    pub fn check(&self) -> Result<()> {
        if let Some(name) = self.empty_namespaces.iter().find(|name| *name != "network") {
            return Err(Error::invalid_argument(format!("CRIU cannot make an empty {name:?} namespace"))
                .with_hint("only `network` can be left empty"));
        }
        match &self.cgroups_mode {
            Some(mode) if !CGROUP_MODES.contains(&mode.as_str()) => {
                Err(Error::invalid_argument(format!("cgroups mode {mode:?} is unknown"))
                    .with_hint(format!("there is: {}", CGROUP_MODES.join(", "))))
            }
            _ => Ok(()),
        }
    }
}

/// A checkpoint to make.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckpointRequest {
    /// Name of the image; `None`: [`default_name`].
    pub image: Option<ImageName>,
    /// End the task once the image is recorded; else it goes on as it was.
    pub exit: bool,
    /// For CRIU.
    pub dump: DumpOptions,
}

/// What a new task is restored from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskCheckpoint {
    /// The CRIU part of the image of that name (CKP-10).
    Image(ImageName),
    /// A blob of type [`MEDIA_CRIU`] (TSK-5).
    Descriptor(Descriptor),
}

/// CKP-2: `containerd.io/checkpoint/<id>:<MM-DD-YYYY-HH:MM:SS>`, in UTC.
pub fn default_name(container: &ContainerId, at: Timestamp) -> Result<ImageName> {
    let time = jiff::Timestamp::from_nanosecond(i128::from(at.0))
        .map_err(|error| Error::internal(format!("the time of a checkpoint: {error}")))?;
    ImageName::new(format!("{}:{}", default_repository(container), time.strftime("%m-%d-%Y-%H:%M:%S")))
}

/// What [`default_name`]s of a container begin with, before the time.
pub fn default_repository(container: &ContainerId) -> String {
    format!("containerd.io/checkpoint/{container}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ckp_2_the_default_name_has_container_and_time() {
        let at = Timestamp::parse("2026-11-07T08:05:09.5Z").unwrap();
        let name = default_name(&ContainerId::new("web").unwrap(), at).unwrap();
        assert_eq!(name.as_str(), "containerd.io/checkpoint/web:11-07-2026-08:05:09");
    }

    #[test]
    fn ckp_6_words_that_criu_does_not_know_are_refused_with_those_it_does() {
        let good = DumpOptions {
            empty_namespaces: vec!["network".into()],
            cgroups_mode: Some("soft".into()),
            ..DumpOptions::default()
        };
        assert_eq!(good.check(), Ok(()));
        let bad = DumpOptions { cgroups_mode: Some("hard".into()), ..DumpOptions::default() };
        assert!(bad.check().unwrap_err().hint.unwrap().contains("strict"));
        let bad = DumpOptions { empty_namespaces: vec!["pid".into()], ..DumpOptions::default() };
        assert!(bad.check().unwrap_err().message.contains("pid"));
    }

    #[test]
    fn ckp_4_reserved_types_are_parts_of_a_checkpoint_too() {
        assert!(is_part(MEDIA_CRIU) && is_part(MEDIA_CONFIG) && MEDIA_RESERVED.into_iter().all(is_part));
        assert!(!is_part("application/vnd.oci.image.layer.v1.tar"));
    }
}
