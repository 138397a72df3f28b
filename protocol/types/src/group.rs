//! Groups: containers supervised together, in OTP's words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::relaunch::{RestartIntensity, check_intensity};
use crate::{ContainerId, Error, GroupName, NamespaceName, Result, Timestamp};

/// Most members of a group.
pub const MEMBERS_MAX: usize = 256;
/// How long a member's orderly end may take when nobody says, in milliseconds.
pub const SHUTDOWN_MS: u64 = 10_000;
/// Longest time that a member's orderly end may be given, in milliseconds: an hour.
pub const SHUTDOWN_MS_MAX: u64 = 3_600_000;

/// What else is started again with a member that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupStrategy {
    /// It alone.
    #[default]
    OneForOne,
    /// All.
    OneForAll,
    /// It and those after it.
    RestForOne,
}

/// When a member is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberRestart {
    /// Always.
    #[default]
    Permanent,
    /// After an abnormal end: another code than 0, a signal, or unseen.
    Transient,
    /// Never.
    Temporary,
}

macro_rules! words {
    ($type:ty, $what:literal, $hint:literal, [$($variant:ident = $word:literal),*]) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)* })
            }
        }
        impl FromStr for $type {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(Error::invalid_argument(format!(concat!($what, " {:?} is unknown"), text)).with_hint($hint)),
                }
            }
        }
    };
}

words!(
    GroupStrategy,
    "strategy",
    "use one_for_one, one_for_all or rest_for_one",
    [OneForOne = "one_for_one", OneForAll = "one_for_all", RestForOne = "rest_for_one"]
);
words!(
    MemberRestart,
    "restart",
    "use permanent, transient or temporary",
    [Permanent = "permanent", Transient = "transient", Temporary = "temporary"]
);

/// Who is supervised.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberName {
    /// A container.
    Container(ContainerId),
    /// A group: up or down as a whole; failed is an abnormal end.
    Group(GroupName),
}

impl fmt::Display for MemberName {
    /// A group is marked by `@`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(id) => fmt::Display::fmt(id, f),
            Self::Group(name) => write!(f, "@{name}"),
        }
    }
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct GroupMember {
    /// Who.
    pub name: MemberName,
    /// When it is started again.
    pub restart: MemberRestart,
    /// How long its orderly end may take, in milliseconds, before it is killed.
    pub shutdown_ms: u64,
}

/// A group as a person wants it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct GroupSpec {
    /// Its name, unique in the namespace.
    pub name: GroupName,
    /// What else is started again.
    pub strategy: GroupStrategy,
    /// How often at most; over it the group fails: it is stopped, and shown with its cause.
    pub intensity: RestartIntensity,
    /// In the order in which they are started; stopped in reverse.
    pub members: Vec<GroupMember>,
}

/// OTP's default is 1 in 5 s; containers take longer to fail.
pub const INTENSITY_DEFAULT: RestartIntensity = RestartIntensity { restarts: 3, period_ms: 60_000 };

impl GroupSpec {
    /// Whether it makes sense by itself.
    pub fn check(&self) -> Result<()> {
        let what = format!("group {}", self.name);
        if self.members.is_empty() {
            return Err(Error::invalid_argument(format!("{what} has no members")));
        }
        if self.members.len() > MEMBERS_MAX {
            let count = self.members.len();
            return Err(Error::invalid_argument(format!(
                "{what} has {count} members, at most {MEMBERS_MAX} are allowed"
            )));
        }
        let mut seen = BTreeSet::new();
        if let Some(member) = self.members.iter().find(|member| !seen.insert(&member.name)) {
            return Err(Error::invalid_argument(format!("{what}: {} is a member twice", member.name)));
        }
        if self.members.iter().any(|member| member.name == MemberName::Group(self.name.clone())) {
            return Err(Error::invalid_argument(format!("{what} is a member of itself")));
        }
        if let Some(member) = self.members.iter().find(|member| member.shutdown_ms > SHUTDOWN_MS_MAX) {
            let (name, hours) = (&member.name, "an hour");
            return Err(Error::invalid_argument(format!(
                "{what}: the shutdown of {name} may take {hours} at most"
            )));
        }
        check_intensity(self.intensity).map_err(|error| error.context(what))
    }
}

/// Starting members, after stopping what is there of them.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Round {
    /// Positions of the members to start, in order.
    pub members: Vec<u32>,
    /// Positions of members to stop only.
    pub stop_only: Vec<u32>,
    /// What was there when the round began, by position: it goes, and counts no more.
    pub before: BTreeMap<u32, String>,
    /// How many of `members` have been started.
    pub started: u32,
}

/// Where a group is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
pub enum GroupPhase {
    /// Down by a person's wish, or never started.
    #[default]
    Stopped,
    /// Members are being started, or started again.
    Starting(Round),
    /// Watched.
    Up,
    /// Members are being stopped, last first.
    Stopping {
        /// It fails, because of this.
        failure: Option<String>,
    },
    /// Over its intensity: down until a person starts it.
    Failed {
        /// Why.
        cause: String,
    },
}

/// What a group has to remember.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
pub struct GroupState {
    /// Where it is.
    pub phase: GroupPhase,
    /// The incarnation of each member, by position, whose end was taken into account.
    pub handled: BTreeMap<u32, String>,
    /// When it restarted members, as far back as the intensity's period reaches.
    pub history: Vec<Timestamp>,
    /// Restarts of members since a person started it.
    pub restarts: u32,
    /// How often it was started: its own incarnation, for a group that it is a member of.
    pub generation: u64,
    /// Boot on which it was started: after another it is started anew, and nothing of that counts as a failure.
    pub boot_id: String,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct GroupRecord {
    /// Namespace.
    pub namespace: NamespaceName,
    /// As it was asked for.
    pub spec: GroupSpec,
    /// Where it is.
    pub state: GroupState,
    /// Set by the daemon.
    pub created_at: Timestamp,
}

/// [`GroupPhase`] in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupStatus {
    /// Down.
    Stopped,
    /// Members are being started.
    Starting,
    /// Watched.
    Up,
    /// Members are being stopped.
    Stopping,
    /// Given up.
    Failed,
}

impl fmt::Display for GroupStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        })
    }
}

impl GroupPhase {
    /// In a word.
    pub fn status(&self) -> GroupStatus {
        match self {
            Self::Stopped => GroupStatus::Stopped,
            Self::Starting(_) => GroupStatus::Starting,
            Self::Up => GroupStatus::Up,
            Self::Stopping { .. } => GroupStatus::Stopping,
            Self::Failed { .. } => GroupStatus::Failed,
        }
    }
}

/// A group as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupInfo {
    /// As it was asked for.
    pub spec: GroupSpec,
    /// Where it is.
    pub status: GroupStatus,
    /// Why it failed, or is about to.
    pub cause: Option<String>,
    /// Restarts of members since a person started it.
    pub restarts: u32,
    /// Set by the daemon.
    pub created_at: Timestamp,
    /// What is known of each member, in the spec's order: a container's process state or a group's status; `-`: there is none.
    pub members: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str) -> GroupMember {
        let name = MemberName::Container(ContainerId::new(name).expect("good"));
        GroupMember { name, restart: MemberRestart::Permanent, shutdown_ms: SHUTDOWN_MS }
    }

    fn spec(members: Vec<GroupMember>) -> GroupSpec {
        let name = GroupName::new("shop").expect("good");
        GroupSpec { name, strategy: GroupStrategy::OneForOne, intensity: INTENSITY_DEFAULT, members }
    }

    #[test]
    fn a_group_that_makes_no_sense_is_refused_and_says_why() {
        assert!(spec(vec![member("a"), member("b")]).check().is_ok());
        let itself =
            GroupMember { name: MemberName::Group(GroupName::new("shop").expect("good")), ..member("a") };
        let endless = GroupMember { shutdown_ms: SHUTDOWN_MS_MAX + 1, ..member("a") };
        let no_period = RestartIntensity { restarts: 1, period_ms: 0 };
        for (bad, why) in [
            (spec(vec![]), "no members"),
            (spec(vec![member("a"), member("a")]), "twice"),
            (spec(vec![itself]), "itself"),
            (spec(vec![endless]), "an hour"),
            (spec((0..=MEMBERS_MAX).map(|number| member(&format!("m{number}"))).collect()), "at most"),
            (GroupSpec { intensity: no_period, ..spec(vec![member("a")]) }, "period"),
        ] {
            let error = bad.check().expect_err(why);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for text in ["one_for_one", "one_for_all", "rest_for_one"] {
            assert_eq!(text.parse::<GroupStrategy>().expect(text).to_string(), text);
        }
        for text in ["permanent", "transient", "temporary"] {
            assert_eq!(text.parse::<MemberRestart>().expect(text).to_string(), text);
        }
        assert!("all_for_one".parse::<GroupStrategy>().expect_err("unknown").hint.is_some());
    }
}
