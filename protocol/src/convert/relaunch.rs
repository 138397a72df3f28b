//! `container.capnp`: restart policies, stops.

use bosun_types::Result;
use bosun_types::relaunch::{RelaunchInfo, RelaunchStatus, RestartIntensity, RestartPolicy, StopRequest};
use bosun_types::task::ExitStatus;

use super::common::enum_both_ways;
use super::{Sound, Wire, read_optional_text, read_parsed, read_text, read_time, write_time};
use crate::container_capnp as wire;

enum_both_ways!(
    RelaunchStatus,
    wire::RelaunchStatus,
    status_to_wire,
    status_from_wire,
    [Idle, Waiting, Relaunching, Stopping, GivenUp]
);

impl Wire for RestartPolicy {
    type Struct = wire::restart_policy::Owned;

    fn write(&self, mut to: wire::restart_policy::Builder<'_>) {
        to.set_when(self.when.to_string().as_str());
        if let Some(intensity) = self.intensity {
            to.set_restarts_max(intensity.restarts);
            to.set_period_ms(intensity.period_ms);
        }
        to.set_backoff_first_ms(self.backoff_first_ms);
        to.set_backoff_most_ms(self.backoff_most_ms);
        to.set_healthy_ms(self.healthy_ms);
    }

    fn read(from: wire::restart_policy::Reader<'_>) -> Result<Self> {
        let when = read_text(from.get_when())?.parse()?;
        let standard = Self::new(when);
        let or = |given: u64, standard: u64| if given == 0 { standard } else { given };
        let intensity = match from.get_period_ms() {
            0 => None,
            period_ms => Some(RestartIntensity { restarts: from.get_restarts_max(), period_ms }),
        };
        Ok(Self {
            when,
            intensity,
            backoff_first_ms: or(from.get_backoff_first_ms(), standard.backoff_first_ms),
            backoff_most_ms: or(from.get_backoff_most_ms(), standard.backoff_most_ms),
            healthy_ms: or(from.get_healthy_ms(), standard.healthy_ms),
        })
    }
}

impl Wire for StopRequest {
    type Struct = wire::stop_request::Owned;

    fn write(&self, mut to: wire::stop_request::Builder<'_>) {
        to.set_signal(self.signal.unwrap_or(0));
        to.set_timeout_ms(self.timeout_ms.map_or(-1, |timeout| i64::try_from(timeout).unwrap_or(i64::MAX)));
    }

    fn read(from: wire::stop_request::Reader<'_>) -> Result<Self> {
        let signal = from.get_signal();
        Ok(Self {
            signal: (signal != 0).then_some(signal),
            timeout_ms: u64::try_from(from.get_timeout_ms()).ok(),
        })
    }
}

impl Wire for RelaunchInfo {
    type Struct = wire::relaunch_info::Owned;

    fn write(&self, mut to: wire::relaunch_info::Builder<'_>) {
        to.set_container(self.container.as_str());
        self.policy.write(to.reborrow().init_policy());
        to.set_status(status_to_wire(self.status));
        to.set_count(self.count);
        to.set_stopped(self.stopped);
        to.set_next_at(write_time(self.next_at));
        if let Some(cause) = &self.cause {
            to.set_cause(cause.as_str());
        }
        if let Some(exit) = &self.last_exit {
            exit.write(to.init_last_exit());
        }
    }

    fn read(from: wire::relaunch_info::Reader<'_>) -> Result<Self> {
        let last_exit =
            if from.has_last_exit() { Some(ExitStatus::read(from.get_last_exit().sound()?)?) } else { None };
        Ok(Self {
            container: read_parsed(from.get_container())?,
            policy: RestartPolicy::read(from.get_policy().sound()?)?,
            status: status_from_wire(from.get_status().sound()?),
            count: from.get_count(),
            stopped: from.get_stopped(),
            next_at: read_time(from.get_next_at()),
            cause: read_optional_text(from.has_cause(), from.get_cause())?,
            last_exit,
        })
    }
}

#[cfg(test)]
mod tests {
    use bosun_types::Timestamp;
    use bosun_types::task::ExitCause;

    use super::super::tests::round_trips;
    use super::*;

    #[test]
    fn rst_1_policies_and_stops_round_trip() {
        let intensity = Some(RestartIntensity { restarts: 5, period_ms: 60_000 });
        for text in ["no", "on-failure", "on-failure:3", "always", "unless-stopped"] {
            let policy = RestartPolicy { intensity, ..RestartPolicy::new(text.parse().expect(text)) };
            round_trips(policy);
            round_trips(RestartPolicy { intensity: None, ..policy });
        }
        for (signal, timeout_ms) in [(None, None), (Some(3), Some(0)), (Some(9), Some(86_400_000))] {
            round_trips(StopRequest { signal, timeout_ms });
        }
        let info = RelaunchInfo {
            container: "c".parse().expect("good"),
            policy: RestartPolicy::default(),
            status: RelaunchStatus::GivenUp,
            count: 7,
            stopped: true,
            next_at: Some(Timestamp(5)),
            cause: Some("too often".to_owned()),
            last_exit: Some(ExitStatus { cause: ExitCause::Signal(9), exited_at: Timestamp(3) }),
        };
        round_trips(RelaunchInfo { next_at: None, cause: None, last_exit: None, ..info.clone() });
        round_trips(info);
    }

    #[test]
    fn zeroes_on_the_wire_are_the_defaults() {
        let mut message = capnp::message::Builder::new_default();
        message.init_root::<wire::restart_policy::Builder<'_>>().set_when("always");
        let read = message.get_root_as_reader::<wire::restart_policy::Reader<'_>>().expect("a root");
        let policy = RestartPolicy::read(read).expect("good");
        assert_eq!(policy, RestartPolicy::new("always".parse().expect("good")));
    }
}
