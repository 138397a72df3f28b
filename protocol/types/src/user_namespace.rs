//! A container's own users: which ids inside are which outside (SPC-11, CTR-15).

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::{Error, Labels, Result};

/// Most ranges that the kernel takes in one map.
pub const RANGES_MAX: usize = 340;
/// Label of a snapshot whose files are shown through a map of users: its ranges, comma separated. containerd's own key.
pub const LABEL_UIDS: &str = "containerd.io/snapshot/uidmapping";
/// The same for groups.
pub const LABEL_GIDS: &str = "containerd.io/snapshot/gidmapping";
/// Word of a mount's options: a range of the map that its files are shown through.
const WORD_UIDS: &str = "uidmap=";
const WORD_GIDS: &str = "gidmap=";

/// `size` ids from `container` on inside are those from `host` on outside. As text `container:host:size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct IdRange {
    /// First id inside.
    pub container: u32,
    /// First id outside.
    pub host: u32,
    /// How many; at least 1.
    pub size: u32,
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.container, self.host, self.size)
    }
}

impl FromStr for IdRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let malformed = || {
            Error::invalid_argument(format!("id range {text:?} is malformed"))
                .with_hint("use INSIDE:OUTSIDE:SIZE, such as 0:100000:65536")
        };
        let numbers: Option<Vec<u32>> = text.split(':').map(|word| word.parse().ok()).collect();
        match numbers.as_deref() {
            Some([container, host, size]) => Ok(Self { container: *container, host: *host, size: *size }),
            _ => Err(malformed()),
        }
    }
}

impl IdRange {
    /// The last id on either side is no id: all ones means "leave it".
    fn fits(first: u32, size: u32) -> bool {
        first.checked_add(size).is_some()
    }

    fn overlaps(a: (u32, u32), b: (u32, u32)) -> bool {
        a.0 < b.0.saturating_add(b.1) && b.0 < a.0.saturating_add(a.1)
    }
}

/// Where the files of an image belong to the mapped users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ownership {
    /// By the mount where kernel and file system can, else on disk.
    #[default]
    Auto,
    /// By the mount (an idmapped one): nothing is copied, and on disk files keep the owners that the image says.
    Idmap,
    /// On disk: a copy of the image's files with other owners, made once for each map.
    Copy,
}

/// A user namespace to make, with its maps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserNamespace {
    /// Users.
    pub uids: Vec<IdRange>,
    /// Groups; empty: as the users.
    pub gids: Vec<IdRange>,
    /// How the root's files come to belong to them.
    pub ownership: Ownership,
}

impl UserNamespace {
    /// Both maps, checked.
    pub fn maps(&self) -> Result<IdMaps> {
        let gids = if self.gids.is_empty() { &self.uids } else { &self.gids };
        let maps = IdMaps { uids: self.uids.clone(), gids: gids.clone() };
        maps.check()?;
        Ok(maps)
    }
}

/// Maps of users and of groups.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
pub struct IdMaps {
    /// Users.
    pub uids: Vec<IdRange>,
    /// Groups.
    pub gids: Vec<IdRange>,
}

impl IdMaps {
    /// What the kernel would refuse later, and a container without a root.
    pub fn check(&self) -> Result<()> {
        for (what, ranges) in [("users", &self.uids), ("groups", &self.gids)] {
            check(what, ranges)?;
        }
        Ok(())
    }

    /// The user outside who is `uid` inside.
    pub fn host_uid(&self, uid: u32) -> Option<u32> {
        to_host(&self.uids, uid)
    }

    /// The group outside that is `gid` inside.
    pub fn host_gid(&self, gid: u32) -> Option<u32> {
        to_host(&self.gids, gid)
    }

    /// The user inside who is `uid` outside.
    pub fn inside_uid(&self, uid: u32) -> Option<u32> {
        to_inside(&self.uids, uid)
    }

    /// The group inside that is `gid` outside.
    pub fn inside_gid(&self, gid: u32) -> Option<u32> {
        to_inside(&self.gids, gid)
    }

    /// The labels that a snapshot shown through these maps has.
    pub fn to_labels(&self) -> Labels {
        Labels::from([
            (LABEL_UIDS.to_owned(), joined(&self.uids)),
            (LABEL_GIDS.to_owned(), joined(&self.gids)),
        ])
    }

    /// From a snapshot's labels; `None`: its files are shown as they are on disk.
    pub fn from_labels(labels: &Labels) -> Result<Option<Self>> {
        let (uids, gids) = match (labels.get(LABEL_UIDS), labels.get(LABEL_GIDS)) {
            (None, None) => return Ok(None),
            (Some(uids), Some(gids)) => (uids, gids),
            _ => {
                let message = format!("labels {LABEL_UIDS} and {LABEL_GIDS} belong together");
                return Err(Error::invalid_argument(message));
            }
        };
        let parse = |text: &str| text.split(',').map(str::parse).collect::<Result<Vec<IdRange>>>();
        let maps = Self { uids: parse(uids)?, gids: parse(gids)? };
        maps.check()?;
        Ok(Some(maps))
    }

    /// The words that a mount through these maps has.
    pub fn to_mount_words(&self) -> Vec<String> {
        let uids = self.uids.iter().map(|range| format!("{WORD_UIDS}{range}"));
        uids.chain(self.gids.iter().map(|range| format!("{WORD_GIDS}{range}"))).collect()
    }

    /// From a mount's options; `None`: it is an ordinary one.
    pub fn from_mount_words(words: &[String]) -> Result<Option<Self>> {
        let mut maps = Self::default();
        for word in words {
            if let Some(range) = word.strip_prefix(WORD_UIDS) {
                maps.uids.push(range.parse()?);
            } else if let Some(range) = word.strip_prefix(WORD_GIDS) {
                maps.gids.push(range.parse()?);
            }
        }
        if maps == Self::default() {
            return Ok(None);
        }
        maps.check()?;
        Ok(Some(maps))
    }

    /// A name for a copy of files that belongs to these maps: `<uid>-<gid>` of root outside (CTR-15), and the whole maps
    /// when they are more than one range.
    pub fn suffix(&self) -> String {
        match (self.uids.as_slice(), self.gids.as_slice()) {
            ([uids], [gids]) if uids.container == 0 && gids.container == 0 => {
                format!("{}-{}", uids.host, gids.host)
            }
            (uids, gids) => format!("{}-{}", joined(uids), joined(gids)),
        }
    }
}

/// The few words of an OCI spec that say which users its container has.
#[derive(Debug, Default, Deserialize)]
pub struct SpecSketch {
    #[serde(default)]
    linux: LinuxSketch,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LinuxSketch {
    uid_mappings: Vec<MappingSketch>,
    gid_mappings: Vec<MappingSketch>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct MappingSketch {
    #[serde(rename = "containerID")]
    container: u32,
    #[serde(rename = "hostID")]
    host: u32,
    size: u32,
}

impl SpecSketch {
    /// Both maps; `None`: the container has the host's users, or those of a namespace that it joins.
    pub fn maps(&self) -> Option<IdMaps> {
        let ranges = |mappings: &[MappingSketch]| {
            let range =
                |it: &MappingSketch| IdRange { container: it.container, host: it.host, size: it.size };
            mappings.iter().map(range).collect::<Vec<_>>()
        };
        let maps = IdMaps { uids: ranges(&self.linux.uid_mappings), gids: ranges(&self.linux.gid_mappings) };
        Some(maps).filter(|maps| !maps.uids.is_empty() && !maps.gids.is_empty())
    }
}

/// Whether a word of a mount's options is part of a map.
pub fn is_map_word(word: &str) -> bool {
    word.starts_with(WORD_UIDS) || word.starts_with(WORD_GIDS)
}

fn joined(ranges: &[IdRange]) -> String {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn to_host(ranges: &[IdRange], id: u32) -> Option<u32> {
    let range =
        ranges.iter().find(|range| id.checked_sub(range.container).is_some_and(|at| at < range.size))?;
    range.host.checked_add(id - range.container)
}

fn to_inside(ranges: &[IdRange], id: u32) -> Option<u32> {
    let range = ranges.iter().find(|range| id.checked_sub(range.host).is_some_and(|at| at < range.size))?;
    range.container.checked_add(id - range.host)
}

fn check(what: &str, ranges: &[IdRange]) -> Result<()> {
    let bad = |why: String| {
        Error::invalid_argument(format!("map of {what}: {why}"))
            .with_hint("ranges are INSIDE:OUTSIDE:SIZE, such as 0:100000:65536")
    };
    if ranges.is_empty() || ranges.len() > RANGES_MAX {
        return Err(bad(format!("{} ranges, 1 to {RANGES_MAX} are possible", ranges.len())));
    }
    for (index, range) in ranges.iter().enumerate() {
        if range.size == 0
            || !IdRange::fits(range.container, range.size)
            || !IdRange::fits(range.host, range.size)
        {
            return Err(bad(format!("range {range} is empty or too large")));
        }
        for other in &ranges[..index] {
            let inside = IdRange::overlaps((range.container, range.size), (other.container, other.size));
            let outside = IdRange::overlaps((range.host, range.size), (other.host, other.size));
            if inside || outside {
                return Err(bad(format!("ranges {other} and {range} overlap")));
            }
        }
    }
    if to_host(ranges, 0).is_none() {
        return Err(bad("0 is not mapped: nobody would be root inside".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(words: &[&str]) -> Vec<IdRange> {
        words.iter().map(|word| word.parse().expect(word)).collect()
    }

    fn maps(words: &[&str]) -> IdMaps {
        IdMaps { uids: ranges(words), gids: ranges(words) }
    }

    #[test]
    fn spc_11_ids_go_through_the_range_that_holds_them() {
        let maps = maps(&["0:100000:10", "50:300000:1", "10:200000:5"]);
        let found = [0, 9, 10, 14, 15, 49, 50, 51].map(|id| maps.host_uid(id));
        let wanted =
            [Some(100_000), Some(100_009), Some(200_000), Some(200_004), None, None, Some(300_000), None];
        assert_eq!(found, wanted);
        assert_eq!(maps.host_gid(u32::MAX), None);
    }

    #[test]
    fn spc_11_maps_that_the_kernel_would_refuse_are_refused_with_the_reason() {
        for (words, why) in [
            (vec![], "0 ranges"),
            (vec!["0:1:0"], "empty"),
            (vec!["0:4294967295:1"], "too large"),
            (vec!["1:100000:10"], "0 is not mapped"),
            (vec!["0:100000:10", "5:200000:10"], "overlap"),
            (vec!["0:100000:10", "10:100005:10"], "overlap"),
        ] {
            let error = maps(&words).check().expect_err("refused");
            assert!(error.message.contains(why), "{words:?}: {error}");
        }
        for bad in ["", "0", "0:1", "0:1:2:3", "a:1:2", "-1:1:2", "0:1:4294967296"] {
            assert!(bad.parse::<IdRange>().is_err(), "{bad}");
        }
        assert!(maps(&["0:4294967294:1"]).check().is_ok());
    }

    #[test]
    fn groups_are_mapped_as_users_unless_they_have_a_map() {
        let own = UserNamespace { uids: ranges(&["0:5:1"]), ..UserNamespace::default() };
        assert_eq!(own.maps().expect("good").gids, ranges(&["0:5:1"]));
        let both = UserNamespace { gids: ranges(&["0:6:1"]), ..own };
        assert_eq!(both.maps().expect("good").gids, ranges(&["0:6:1"]));
    }

    #[test]
    fn maps_survive_labels_and_mount_words() {
        let maps = IdMaps { uids: ranges(&["0:7:2", "5:90:1"]), gids: ranges(&["0:8:9"]) };
        assert_eq!(IdMaps::from_labels(&maps.to_labels()).expect("good"), Some(maps.clone()));
        let mut words = maps.to_mount_words();
        words.push("lowerdir=/a".to_owned());
        assert_eq!(IdMaps::from_mount_words(&words).expect("good"), Some(maps));
        assert_eq!(IdMaps::from_mount_words(&["ro".to_owned()]).expect("good"), None);
        let half = Labels::from([(LABEL_UIDS.to_owned(), "0:1:1".to_owned())]);
        assert!(IdMaps::from_labels(&half).is_err());
        assert!(IdMaps::from_mount_words(&["uidmap=0:1:1".to_owned()]).is_err(), "no groups");
    }

    #[test]
    fn ctr_15_the_suffix_is_roots_own_ids() {
        let one = IdMaps { uids: ranges(&["0:100000:65536"]), gids: ranges(&["0:200000:65536"]) };
        assert_eq!(one.suffix(), "100000-200000");
        assert_eq!(maps(&["0:7:1", "1:9:2"]).suffix(), "0:7:1,1:9:2-0:7:1,1:9:2");
    }
}
