//! A group as a TOML file. What is wrong is said with its line, its member, and what is allowed.

use anyhow::{Context as _, bail};
use bosun_types::group::{
    GroupMember, GroupSpec, GroupStrategy, INTENSITY_DEFAULT, MemberName, MemberRestart, SHUTDOWN_MS,
};
use serde::Deserialize;

use super::lifecycle;
use crate::context;

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    #[serde(default)]
    strategy: GroupStrategy,
    intensity: Option<String>,
    #[serde(default)]
    member: Vec<Member>,
}

/// One `[[member]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Member {
    container: Option<String>,
    group: Option<String>,
    #[serde(default)]
    restart: MemberRestart,
    shutdown: Option<String>,
}

/// The group that the text describes.
pub fn parse(text: &str) -> anyhow::Result<GroupSpec> {
    let file: File = toml::from_str(text)?;
    let spec = GroupSpec {
        name: file.name.parse()?,
        strategy: file.strategy,
        intensity: match &file.intensity {
            Some(text) => lifecycle::intensity(text)?,
            None => INTENSITY_DEFAULT,
        },
        members: (1..)
            .zip(&file.member)
            .map(|(number, member)| parse_member(member).with_context(|| format!("member {number}")))
            .collect::<anyhow::Result<_>>()?,
    };
    spec.check()?;
    Ok(spec)
}

fn parse_member(member: &Member) -> anyhow::Result<GroupMember> {
    let name = match (&member.container, &member.group) {
        (Some(container), None) => MemberName::Container(container.parse()?),
        (None, Some(group)) => MemberName::Group(group.parse()?),
        (None, None) => bail!("name a container or a group"),
        (Some(_), Some(_)) => bail!("name a container or a group, not both"),
    };
    let shutdown_ms = match &member.shutdown {
        Some(text) => u64::try_from(context::duration(text).context("shutdown")?.as_millis())?,
        None => SHUTDOWN_MS,
    };
    Ok(GroupMember { name, restart: member.restart, shutdown_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "shop"
        strategy = "rest_for_one"
        intensity = "5/2m"
        [[member]]
        container = "db"
        shutdown = "30s"
        [[member]]
        group = "cache"
        restart = "transient"
    "#;

    #[test]
    fn a_file_is_a_group() {
        let spec = parse(GOOD).expect("good");
        assert_eq!((spec.strategy, spec.intensity.restarts), (GroupStrategy::RestForOne, 5));
        assert_eq!(spec.intensity.period_ms, 120_000);
        assert_eq!(spec.members[0].shutdown_ms, 30_000);
        assert_eq!(spec.members[1].name.to_string(), "@cache");
        assert_eq!(spec.members[1].restart, MemberRestart::Transient);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let with = |from: &str, to: &str| GOOD.replace(from, to);
        for (text, why) in [
            (with("rest_for_one", "all_for_one"), "one_for_one"),
            (with("strategy", "stratgy"), "stratgy"),
            (with("5/2m", "often"), "N/TIME"),
            (with("container = \"db\"", ""), "member 1"),
            (with("group = \"cache\"", "group = \"cache\"\ncontainer = \"x\""), "not both"),
            (with("30s", "soon"), "soon"),
            (with("transient", "rarely"), "permanent"),
            (with("\"db\"", "\"d b\""), "malformed"),
            ("name = \"empty\"".to_owned(), "no members"),
            ("name = ".to_owned(), "line 1"),
        ] {
            let error = format!("{:#}", parse(&text).expect_err(why));
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}
