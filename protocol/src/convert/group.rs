//! `group.capnp`.

use bosun_types::group::{
    GroupInfo, GroupMember, GroupSpec, GroupStatus, GroupStrategy, INTENSITY_DEFAULT, MemberName,
    MemberRestart, SHUTDOWN_MS,
};
use bosun_types::relaunch::RestartIntensity;
use bosun_types::{Result, Timestamp};

use super::common::enum_both_ways;
use super::{
    Sound, Wire, length, read_list, read_optional_text, read_parsed, read_texts, write_list, write_texts,
};
use crate::group_capnp as wire;

enum_both_ways!(
    GroupStrategy,
    wire::GroupStrategy,
    strategy_to_wire,
    strategy_from_wire,
    [OneForOne, OneForAll, RestForOne]
);
enum_both_ways!(
    MemberRestart,
    wire::MemberRestart,
    restart_to_wire,
    restart_from_wire,
    [Permanent, Transient, Temporary]
);
enum_both_ways!(
    GroupStatus,
    wire::GroupStatus,
    status_to_wire,
    status_from_wire,
    [Stopped, Starting, Up, Stopping, Failed]
);

impl Wire for GroupMember {
    type Struct = wire::group_member::Owned;

    fn write(&self, mut to: wire::group_member::Builder<'_>) {
        let mut name = to.reborrow().init_name();
        match &self.name {
            MemberName::Container(id) => name.set_container(id.as_str()),
            MemberName::Group(group) => name.set_group(group.as_str()),
        }
        to.set_restart(restart_to_wire(self.restart));
        to.set_shutdown_ms(i64::try_from(self.shutdown_ms).unwrap_or(i64::MAX));
    }

    fn read(from: wire::group_member::Reader<'_>) -> Result<Self> {
        use wire::group_member::name::Which;
        let name = match from.get_name().which().sound()? {
            Which::Container(id) => MemberName::Container(read_parsed(id)?),
            Which::Group(group) => MemberName::Group(read_parsed(group)?),
        };
        let restart = restart_from_wire(from.get_restart().sound()?);
        Ok(Self { name, restart, shutdown_ms: u64::try_from(from.get_shutdown_ms()).unwrap_or(SHUTDOWN_MS) })
    }
}

impl Wire for GroupSpec {
    type Struct = wire::group_spec::Owned;

    fn write(&self, mut to: wire::group_spec::Builder<'_>) {
        to.set_id(self.name.as_str());
        to.set_strategy(strategy_to_wire(self.strategy));
        to.set_restarts_max(self.intensity.restarts);
        to.set_period_ms(self.intensity.period_ms);
        write_list(&self.members, to.init_members(length(&self.members)));
    }

    fn read(from: wire::group_spec::Reader<'_>) -> Result<Self> {
        let intensity = match from.get_period_ms() {
            0 => INTENSITY_DEFAULT,
            period_ms => RestartIntensity { restarts: from.get_restarts_max(), period_ms },
        };
        Ok(Self {
            name: read_parsed(from.get_id())?,
            strategy: strategy_from_wire(from.get_strategy().sound()?),
            intensity,
            members: read_list(from.get_members())?,
        })
    }
}

impl Wire for GroupInfo {
    type Struct = wire::group_info::Owned;

    fn write(&self, mut to: wire::group_info::Builder<'_>) {
        self.spec.write(to.reborrow().init_spec());
        to.set_status(status_to_wire(self.status));
        if let Some(cause) = &self.cause {
            to.set_cause(cause.as_str());
        }
        to.set_restarts(self.restarts);
        to.set_created_at(self.created_at.0);
        write_texts(&self.members, to.init_members(length(&self.members)));
    }

    fn read(from: wire::group_info::Reader<'_>) -> Result<Self> {
        Ok(Self {
            spec: GroupSpec::read(from.get_spec().sound()?)?,
            status: status_from_wire(from.get_status().sound()?),
            cause: read_optional_text(from.has_cause(), from.get_cause())?,
            restarts: from.get_restarts(),
            created_at: Timestamp(from.get_created_at()),
            members: read_texts(from.get_members())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::round_trips;
    use super::*;

    #[test]
    fn groups_round_trip() {
        let member = |name, restart| GroupMember { name, restart, shutdown_ms: 0 };
        let spec = GroupSpec {
            name: "shop".parse().expect("good"),
            strategy: GroupStrategy::RestForOne,
            intensity: RestartIntensity { restarts: 0, period_ms: 1 },
            members: vec![
                member(MemberName::Container("db".parse().expect("good")), MemberRestart::Transient),
                member(MemberName::Group("cache".parse().expect("good")), MemberRestart::Temporary),
            ],
        };
        round_trips(spec.clone());
        let info = GroupInfo {
            spec,
            status: GroupStatus::Failed,
            cause: Some("too often".to_owned()),
            restarts: 3,
            created_at: Timestamp(1),
            members: vec!["running".to_owned(), "-".to_owned()],
        };
        round_trips(GroupInfo { cause: None, ..info.clone() });
        round_trips(info);
    }
}
