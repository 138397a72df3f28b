//! Restart policies of containers: when an ended container is started again, how soon, how often. An actor's restart is something else
//! (docs/architecture.md, Words): a container's is a *relaunch*.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::stdio::Stdio;
use crate::task::{ExitStatus, OnShimDeath};
use crate::{ContainerId, Error, Labels, NamespaceName, OperationId, Result, Timestamp};

/// Label under which tools of the ecosystem keep the policy (RST-1): `no`, `always`, `on-failure[:n]`, `unless-stopped`.
pub const POLICY_LABEL: &str = "containerd.io/restart.policy";
/// Label by which they say whether the container is to run (RST-1): `running` or `stopped`.
pub const STATUS_LABEL: &str = "containerd.io/restart.status";
/// Label by which they say that a person stopped it (RST-1).
pub const EXPLICITLY_STOPPED_LABEL: &str = "containerd.io/restart.explicitly-stopped";
/// Label with the signal that the image wants as a first word of its end, such as `SIGQUIT`.
pub const STOP_SIGNAL_LABEL: &str = "io.containerd.image.config.stop-signal";

/// When an ended container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RestartWhen {
    /// Never.
    #[default]
    No,
    /// After an end with another code than 0, by a signal or unseen; at most so often in a row of starts by nobody. 0: as often as it fails.
    OnFailure {
        /// Most relaunches since a person started it.
        most: u32,
    },
    /// Whatever its end was; after a person stopped it, when the daemon starts the next time.
    Always,
    /// Whatever its end was, unless a person stopped it.
    UnlessStopped,
}

impl fmt::Display for RestartWhen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::OnFailure { most: 0 } => f.write_str("on-failure"),
            Self::OnFailure { most } => write!(f, "on-failure:{most}"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

impl FromStr for RestartWhen {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid_argument(format!("restart policy {text:?} is unknown"))
                .with_hint("use no, on-failure, on-failure:N, always or unless-stopped")
        };
        match text.split_once(':') {
            None => match text {
                "no" => Ok(Self::No),
                "on-failure" => Ok(Self::OnFailure { most: 0 }),
                "always" => Ok(Self::Always),
                "unless-stopped" => Ok(Self::UnlessStopped),
                _ => Err(bad()),
            },
            Some(("on-failure", most)) => Ok(Self::OnFailure { most: most.parse().map_err(|_| bad())? }),
            Some(_) => Err(bad()),
        }
    }
}

impl TryFrom<String> for RestartWhen {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<RestartWhen> for String {
    fn from(when: RestartWhen) -> Self {
        when.to_string()
    }
}

/// At most `restarts` within `period_ms`; one more is too many (OTP's intensity).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RestartIntensity {
    /// Allowed.
    pub restarts: u32,
    /// In this time, in milliseconds.
    pub period_ms: u64,
}

/// Most restarts that an intensity may allow: their times are kept.
pub const INTENSITY_RESTARTS_MAX: u32 = 1000;

/// A restart policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// When.
    pub when: RestartWhen,
    /// How often at most; over it the container is given up. `None`: as often as it ends.
    pub intensity: Option<RestartIntensity>,
    /// Before the first relaunch, in milliseconds; doubled for each that follows. Default 100.
    pub backoff_first_ms: u64,
    /// The back-off's cap, in milliseconds. Default 60 000.
    pub backoff_most_ms: u64,
    /// A life at least this long, in milliseconds, was healthy: the back-off begins anew. Default 10 000.
    pub healthy_ms: u64,
}

impl Default for RestartPolicy {
    /// Never; the times as Docker has them.
    fn default() -> Self {
        Self {
            when: RestartWhen::No,
            intensity: None,
            backoff_first_ms: 100,
            backoff_most_ms: 60_000,
            healthy_ms: 10_000,
        }
    }
}

impl RestartPolicy {
    /// With the default times.
    pub fn new(when: RestartWhen) -> Self {
        Self { when, ..Self::default() }
    }

    /// Whether its numbers make sense.
    pub fn check(&self) -> Result<()> {
        if self.backoff_first_ms == 0 || self.backoff_first_ms > self.backoff_most_ms {
            return Err(Error::invalid_argument(format!(
                "restart back-off {} ms to {} ms: the first must be at least 1 ms and not above the cap",
                self.backoff_first_ms, self.backoff_most_ms
            )));
        }
        match self.intensity {
            Some(intensity) => check_intensity(intensity),
            None => Ok(()),
        }
    }

    /// What the ecosystem's labels say (RST-1). `None`: nothing.
    pub fn from_labels(labels: &Labels) -> Result<Option<Self>> {
        match (labels.get(POLICY_LABEL), labels.get(STATUS_LABEL)) {
            (Some(policy), _) => Ok(Some(Self::new(policy.parse()?))),
            // As the original's monitor reads it: to be running, and nothing else said.
            (None, Some(_)) => Ok(Some(Self::new(RestartWhen::Always))),
            (None, None) => Ok(None),
        }
    }
}

/// Whether an intensity's numbers make sense.
pub fn check_intensity(intensity: RestartIntensity) -> Result<()> {
    if intensity.period_ms == 0 || intensity.restarts > INTENSITY_RESTARTS_MAX {
        return Err(Error::invalid_argument(format!(
            "restart intensity {} in {} ms: give a period, and at most {INTENSITY_RESTARTS_MAX} restarts",
            intensity.restarts, intensity.period_ms
        )));
    }
    Ok(())
}

/// Whether the ecosystem's labels say that a person stopped it (RST-1).
pub fn stopped_by_labels(labels: &Labels) -> bool {
    labels.get(STATUS_LABEL).is_some_and(|status| status == "stopped")
        || labels.get(EXPLICITLY_STOPPED_LABEL).is_some_and(|stopped| stopped == "true")
}

/// One try to start a container again.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Attempt {
    /// Its operation.
    pub operation: OperationId,
    /// The task that goes, if there is one.
    pub old: Option<String>,
    /// The task that comes; made by this attempt alone, so that it is made once.
    pub nonce: String,
    /// A person asked for it, not the policy.
    pub by_person: bool,
}

/// Where a container's policy is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
pub enum RelaunchPhase {
    /// Nothing to do: it runs, was never started, or is left as it ended.
    #[default]
    Idle,
    /// The back-off runs until then.
    Waiting {
        /// When it is over.
        until: Timestamp,
    },
    /// Being started again.
    Relaunching(Attempt),
    /// Told to end.
    Stopping {
        /// What it was told.
        signal: u32,
        /// From then on it is killed.
        until: Timestamp,
        /// It is started again after its end.
        then_start: bool,
    },
    /// Not started again until a person does.
    GivenUp {
        /// Why.
        cause: String,
    },
}

/// What the policy has to remember.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
pub struct RelaunchState {
    /// Where it is.
    pub phase: RelaunchPhase,
    /// The task whose end was taken into account last: an end counts once, however often it is told.
    pub handled: Option<String>,
    /// Relaunches by the policy since a person started it last.
    pub count: u32,
    /// Ends in a row without a healthy life before: what the back-off doubles by.
    pub tries: u32,
    /// When it was relaunched, as far back as the intensity's period reaches.
    pub history: Vec<Timestamp>,
    /// A person stopped it.
    pub stopped: bool,
    /// The task that the person stopped; a later one was started by a person again.
    pub stopped_task: Option<String>,
    /// How it ended last.
    pub last_exit: Option<ExitStatus>,
    /// Start of the daemon's life in which it was looked at last.
    pub daemon: Timestamp,
    /// What its next task takes over from its last.
    pub heritage: Option<Heritage>,
}

/// What a task takes over from the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Heritage {
    /// Its streams; FIFOs, which were of a client that has gone, excepted.
    pub stdio: Stdio,
    /// What becomes of it when its shim dies.
    pub on_shim_death: OnShimDeath,
}

/// A container's policy and where it is; there is none for a container that never had one and was never stopped or started by name.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RelaunchRecord {
    /// Namespace.
    pub namespace: NamespaceName,
    /// Its container.
    pub container: ContainerId,
    /// The policy.
    pub policy: RestartPolicy,
    /// Where it is.
    pub state: RelaunchState,
}

impl RelaunchRecord {
    /// Before anything happened.
    pub fn new(namespace: NamespaceName, container: ContainerId, policy: RestartPolicy) -> Self {
        Self { namespace, container, policy, state: RelaunchState::default() }
    }

    /// What people and programs see of it.
    pub fn info(&self) -> RelaunchInfo {
        let (status, next_at, cause) = match &self.state.phase {
            RelaunchPhase::Idle => (RelaunchStatus::Idle, None, None),
            RelaunchPhase::Waiting { until } => (RelaunchStatus::Waiting, Some(*until), None),
            RelaunchPhase::Relaunching(_) => (RelaunchStatus::Relaunching, None, None),
            RelaunchPhase::Stopping { until, .. } => (RelaunchStatus::Stopping, Some(*until), None),
            RelaunchPhase::GivenUp { cause } => (RelaunchStatus::GivenUp, None, Some(cause.clone())),
        };
        RelaunchInfo {
            container: self.container.clone(),
            policy: self.policy,
            status,
            count: self.state.count,
            stopped: self.state.stopped,
            next_at,
            cause,
            last_exit: self.state.last_exit.clone(),
        }
    }
}

/// [`RelaunchPhase`] in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelaunchStatus {
    /// Nothing to do.
    Idle,
    /// In back-off.
    Waiting,
    /// Being started again.
    Relaunching,
    /// Being stopped.
    Stopping,
    /// Left alone.
    GivenUp,
}

impl fmt::Display for RelaunchStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Relaunching => "relaunching",
            Self::Stopping => "stopping",
            Self::GivenUp => "given_up",
        })
    }
}

/// A container's policy as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelaunchInfo {
    /// Its container.
    pub container: ContainerId,
    /// The policy.
    pub policy: RestartPolicy,
    /// Where it is.
    pub status: RelaunchStatus,
    /// Relaunches by the policy since a person started it last.
    pub count: u32,
    /// A person stopped it.
    pub stopped: bool,
    /// End of the back-off, or when a stop becomes a kill.
    pub next_at: Option<Timestamp>,
    /// Why it was given up.
    pub cause: Option<String>,
    /// How it ended last.
    pub last_exit: Option<ExitStatus>,
}

/// How a container is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StopRequest {
    /// First signal; `None`: the image's, else SIGTERM.
    pub signal: Option<u32>,
    /// How long it may take, in milliseconds, before it is killed; `None`: 10 s.
    pub timeout_ms: Option<u64>,
}

/// What a stop waits before it kills, in milliseconds, when nobody says.
pub const STOP_TIMEOUT_MS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rst_1_policies_are_read_as_they_are_written() {
        for text in ["no", "on-failure", "on-failure:3", "always", "unless-stopped"] {
            assert_eq!(text.parse::<RestartWhen>().expect(text).to_string(), text);
        }
        for bad in ["", "never", "on-failure:", "on-failure:x", "on-failure:-1", "always:3", "no:1"] {
            assert!(bad.parse::<RestartWhen>().expect_err(bad).hint.is_some(), "{bad}");
        }
    }

    #[test]
    fn rst_1_labels_of_the_ecosystem() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Labels>()
        };
        let policy = |pairs: &[(&str, &str)]| RestartPolicy::from_labels(&labels(pairs));
        assert_eq!(policy(&[]).expect("none"), None);
        let given = policy(&[(POLICY_LABEL, "on-failure:2"), (STATUS_LABEL, "running")]).expect("good");
        assert_eq!(given.expect("one").when, RestartWhen::OnFailure { most: 2 });
        let status_alone = policy(&[(STATUS_LABEL, "running")]).expect("good");
        assert_eq!(status_alone.expect("one").when, RestartWhen::Always);
        assert!(policy(&[(POLICY_LABEL, "sometimes")]).is_err());
        assert!(stopped_by_labels(&labels(&[(STATUS_LABEL, "stopped")])));
        assert!(stopped_by_labels(&labels(&[(EXPLICITLY_STOPPED_LABEL, "true")])));
        assert!(!stopped_by_labels(&labels(&[(STATUS_LABEL, "running")])));
    }

    #[test]
    fn a_policy_of_impossible_numbers_is_refused() {
        let good = RestartPolicy::new(RestartWhen::Always);
        assert!(good.check().is_ok());
        assert!(RestartPolicy { backoff_first_ms: 0, ..good }.check().is_err());
        assert!(RestartPolicy { backoff_first_ms: 61_000, ..good }.check().is_err());
        let intensity = Some(RestartIntensity { restarts: 3, period_ms: 0 });
        assert!(RestartPolicy { intensity, ..good }.check().is_err());
    }
}
