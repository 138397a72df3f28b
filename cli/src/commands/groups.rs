//! `bosun group`.

mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use bosun_client::Groups;
use bosun_types::GroupName;
use bosun_types::group::{GroupInfo, GroupMember, GroupSpec, INTENSITY_DEFAULT, MemberName, SHUTDOWN_MS};

use super::lifecycle;
use crate::arguments::{GroupCreate, Groups as Words, GroupsCommand};
use crate::context::{self, Context};
use crate::output;

/// Does what the words say.
pub async fn groups(context: &Context, options: Words) -> anyhow::Result<()> {
    let groups = context.namespace().groups();
    match options.command {
        None | Some(GroupsCommand::Ls) => list(context, &groups).await,
        Some(GroupsCommand::Create(options)) => create(context, &groups, &options).await,
        Some(GroupsCommand::Tree { names }) => tree(context, &groups, &names).await,
        Some(GroupsCommand::Inspect { names }) => inspect(&groups, &names).await,
        Some(GroupsCommand::Start { names }) => {
            for name in &names {
                groups.get(GroupName::new(name.as_str())?).start().await?;
                output::line(name);
            }
            Ok(())
        }
        Some(GroupsCommand::Stop { names }) => {
            for name in &names {
                groups.get(GroupName::new(name.as_str())?).stop().await?;
                output::line(name);
            }
            Ok(())
        }
        Some(GroupsCommand::Rm { names, force }) => {
            for name in &names {
                let group = groups.get(GroupName::new(name.as_str())?);
                if force {
                    group.stop().await?;
                }
                group.delete().await?;
                output::line(name);
            }
            Ok(())
        }
    }
}

async fn list(context: &Context, groups: &Groups) -> anyhow::Result<()> {
    let infos = groups.list().await?;
    context.list(&infos, &["GROUP", "STRATEGY", "MEMBERS", "RESTARTS", "AGE", "STATUS"], |info| {
        vec![
            info.spec.name.to_string(),
            info.spec.strategy.to_string(),
            info.spec.members.len().to_string(),
            info.restarts.to_string(),
            output::age(info.created_at),
            status_words(info),
        ]
    })
}

async fn inspect(groups: &Groups, names: &[String]) -> anyhow::Result<()> {
    let mut infos = Vec::new();
    for name in names {
        infos.push(groups.get(GroupName::new(name.as_str())?).info().await?);
    }
    output::json(&infos)
}

fn status_words(info: &GroupInfo) -> String {
    match &info.cause {
        Some(cause) => format!("{}: {cause}", info.status),
        None => info.status.to_string(),
    }
}

async fn create(context: &Context, groups: &Groups, options: &GroupCreate) -> anyhow::Result<()> {
    let spec = match &options.file {
        Some(path) => file::parse(&read(path)?).with_context(|| format!("group file {}", path.display()))?,
        None => spec_of_words(options)?,
    };
    let name = spec.name.clone();
    let mut info = groups.create(spec).await?;
    if options.start {
        let group = groups.get(name.clone());
        group.start().await?;
        info = group.info().await?;
    }
    if context.json {
        return output::json(&info);
    }
    output::line(name.as_str());
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(text)
}

fn spec_of_words(options: &GroupCreate) -> anyhow::Result<GroupSpec> {
    let spec = GroupSpec {
        name: GroupName::new(options.name.as_deref().unwrap_or_default())?,
        strategy: options.strategy.unwrap_or_default(),
        intensity: match &options.intensity {
            Some(text) => lifecycle::intensity(text)?,
            None => INTENSITY_DEFAULT,
        },
        members: options.members.iter().map(|word| member(word)).collect::<anyhow::Result<_>>()?,
    };
    spec.check()?;
    Ok(spec)
}

/// `NAME[:RESTART[:SHUTDOWN]]`, a group as `@NAME`.
fn member(word: &str) -> anyhow::Result<GroupMember> {
    let mut parts = word.split(':');
    let name = parts.next().unwrap_or_default();
    let name = match name.strip_prefix('@') {
        Some(group) => MemberName::Group(group.parse()?),
        None => MemberName::Container(name.parse()?),
    };
    let restart = parts.next().map(str::parse).transpose()?.unwrap_or_default();
    let shutdown_ms = match parts.next() {
        Some(text) => u64::try_from(context::duration(text)?.as_millis())?,
        None => SHUTDOWN_MS,
    };
    anyhow::ensure!(parts.next().is_none(), "member {word:?}: use NAME[:RESTART[:SHUTDOWN]]");
    Ok(GroupMember { name, restart, shutdown_ms })
}

async fn tree(context: &Context, groups: &Groups, names: &[String]) -> anyhow::Result<()> {
    let all: BTreeMap<GroupName, GroupInfo> =
        groups.list().await?.into_iter().map(|info| (info.spec.name.clone(), info)).collect();
    let nested: BTreeSet<&GroupName> = all
        .values()
        .flat_map(|info| &info.spec.members)
        .filter_map(|member| match &member.name {
            MemberName::Group(name) => Some(name),
            MemberName::Container(_) => None,
        })
        .collect();
    let tops: Vec<GroupName> = match names {
        [] => all.keys().filter(|name| !nested.contains(name)).cloned().collect(),
        names => names.iter().map(|name| GroupName::new(name.as_str())).collect::<Result<_, _>>()?,
    };
    if context.json {
        let shown: Vec<&GroupInfo> = tops.iter().filter_map(|name| all.get(name)).collect();
        return output::json(&shown);
    }
    for name in &tops {
        let info = all.get(name).with_context(|| format!("group {name} is not there"))?;
        output::line(format!("{name} [{}] {}", describe(&info.spec), status_words(info)));
        draw(&all, info, "");
    }
    Ok(())
}

fn describe(spec: &GroupSpec) -> String {
    let seconds = std::time::Duration::from_millis(spec.intensity.period_ms).as_secs_f64();
    format!("{}, {} in {seconds} s", spec.strategy, spec.intensity.restarts)
}

fn draw(all: &BTreeMap<GroupName, GroupInfo>, info: &GroupInfo, below: &str) {
    let last = info.spec.members.len().saturating_sub(1);
    for (index, (member, known)) in info.spec.members.iter().zip(&info.members).enumerate() {
        let (branch, trunk) = if index == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let inner = match &member.name {
            MemberName::Group(name) => all.get(name),
            MemberName::Container(_) => None,
        };
        let words = inner.map_or_else(String::new, |inner| format!(" [{}]", describe(&inner.spec)));
        let known = inner.map_or_else(|| known.clone(), status_words);
        output::line(format!("{below}{branch}{}{words} {} {known}", member.name, member.restart));
        if let Some(inner) = inner {
            draw(all, inner, &format!("{below}{trunk}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use bosun_types::group::MemberRestart;

    use super::*;

    #[test]
    fn members_by_their_words() {
        let plain = member("db").expect("good");
        assert_eq!((plain.restart, plain.shutdown_ms), (MemberRestart::Permanent, SHUTDOWN_MS));
        let full = member("@cache:transient:250ms").expect("good");
        assert_eq!(full.name.to_string(), "@cache");
        assert_eq!((full.restart, full.shutdown_ms), (MemberRestart::Transient, 250));
        for bad in ["", "@", "db:sometimes", "db:permanent:fast", "db:permanent:1s:more"] {
            assert!(member(bad).is_err(), "{bad}");
        }
    }
}
