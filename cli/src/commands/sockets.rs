//! `bosun namespaces socket`.

use anyhow::{Context as _, bail};
use bosun_types::access::{Access, SocketRecord};
use bosun_types::{NamespaceName, SocketId, Timestamp};

use crate::accounts::{self, User};
use crate::arguments::SocketCommand;
use crate::context::Context;
use crate::output;

/// Does what the words say.
pub async fn sockets(context: &Context, command: SocketCommand) -> anyhow::Result<()> {
    match command {
        SocketCommand::Create { namespace, name, owner, mode, read_only } => {
            let namespace: NamespaceName = namespace.parse()?;
            let id = SocketId::new(name.unwrap_or_else(|| namespace.to_string()))?;
            let (uid, gid) = owner_of(&owner)?;
            let mode = u32::from_str_radix(mode.trim_start_matches("0o"), 8)
                .with_context(|| format!("mode {mode:?}: use octal, such as 0660"))?;
            let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
            let wanted =
                SocketRecord { id, namespace, uid, gid, mode, access, created_at: Timestamp::default() };
            let (record, path) = context.client.create_socket(wanted).await?;
            if context.json {
                return output::json(&record);
            }
            output::line(path.to_string_lossy());
            Ok(())
        }
        SocketCommand::Rm { name } => {
            context.client.remove_socket(name.parse()?).await?;
            output::line(name);
            Ok(())
        }
        SocketCommand::Ls => list(context).await,
    }
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let records = context.client.sockets().await?;
    context.list(&records, &["NAME", "NAMESPACE", "OWNER", "MODE", "ACCESS", "AGE"], |record| {
        vec![
            record.id.to_string(),
            record.namespace.to_string(),
            format!("{}:{}", user_name(record.uid), group_name(record.gid)),
            format!("{:04o}", record.mode),
            record.access.to_string(),
            output::age(record.created_at),
        ]
    })
}

/// `USER`, `USER:GROUP`, `:GROUP`; a user alone brings its own group.
fn owner_of(text: &str) -> anyhow::Result<(u32, u32)> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    if user.is_empty() && group.is_none_or(str::is_empty) {
        bail!("owner {text:?}: use USER, USER:GROUP or :GROUP");
    }
    let (uid, own_group) = if user.is_empty() { (0, 0) } else { user_of(user)? };
    let gid = match group {
        None => own_group,
        Some(group) => match group.parse() {
            Ok(number) => number,
            Err(_) => {
                accounts::group_number(group)?.with_context(|| format!("group {group:?} is unknown"))?
            }
        },
    };
    Ok((uid, gid))
}

/// A user's number and group, by name or number; a number that nobody has is its own group.
pub fn user_of(text: &str) -> anyhow::Result<(u32, u32)> {
    if let Ok(number) = text.parse::<u32>() {
        let group = User::numbered(number)?.map_or(number, |user| user.gid);
        return Ok((number, group));
    }
    let user = User::named(text)?.with_context(|| format!("user {text:?} is unknown"))?;
    Ok((user.uid, user.gid))
}

/// A user's name, or its number.
pub fn user_name(uid: u32) -> String {
    User::numbered(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

fn group_name(gid: u32) -> String {
    accounts::group_name(gid).ok().flatten().unwrap_or_else(|| gid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_by_name_and_number() {
        assert_eq!(owner_of("root").expect("there is root"), (0, 0));
        assert_eq!(owner_of("1234567:7").expect("numbers"), (1_234_567, 7));
        assert_eq!(owner_of("1234567").expect("its own group"), (1_234_567, 1_234_567));
        assert_eq!(owner_of(":0").expect("a group"), (0, 0));
        for bad in ["", ":", "no-such-user", "0:no-such-group"] {
            assert!(owner_of(bad).is_err(), "{bad:?}");
        }
    }
}
