//! `run`'s flags about users of the container's own.

use anyhow::Context as _;
use bosun_types::user_namespace::{IdRange, Ownership, UserNamespace};

use crate::arguments::{OwnershipChoice, Users};

/// How many ids a container gets when nobody says: as many as one host has by custom.
const SIZE_DEFAULT: u32 = 65_536;

/// `None`: the host's users.
pub fn user_namespace(flags: &Users) -> anyhow::Result<Option<UserNamespace>> {
    let ranges =
        |words: &[String]| words.iter().map(|word| word.parse()).collect::<Result<Vec<IdRange>, _>>();
    let users = UserNamespace {
        uids: match &flags.userns_remap {
            Some(word) => vec![shorthand(word)?],
            None => ranges(&flags.uidmap).context("--uidmap")?,
        },
        gids: ranges(&flags.gidmap).context("--gidmap")?,
        ownership: match flags.userns_files {
            OwnershipChoice::Auto => Ownership::Auto,
            OwnershipChoice::Idmap => Ownership::Idmap,
            OwnershipChoice::Copy => Ownership::Copy,
        },
    };
    if users.uids.is_empty() {
        return Ok(None);
    }
    users.maps()?;
    Ok(Some(users))
}

/// `UID[:SIZE]`: root inside is UID outside.
fn shorthand(word: &str) -> anyhow::Result<IdRange> {
    let malformed = || format!("--userns-remap {word:?}: use UID or UID:SIZE, such as 100000:65536");
    let (host, size) = match word.split_once(':') {
        Some((host, size)) => (host, size.parse().with_context(malformed)?),
        None => (word, SIZE_DEFAULT),
    };
    Ok(IdRange { container: 0, host: host.parse().with_context(malformed)?, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(uidmap: &[&str], gidmap: &[&str], remap: Option<&str>) -> Users {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        Users {
            uidmap: words(uidmap),
            gidmap: words(gidmap),
            userns_remap: remap.map(str::to_owned),
            userns_files: OwnershipChoice::Auto,
        }
    }

    #[test]
    fn spc_11_ranges_and_the_short_form() {
        let long = user_namespace(&flags(&["0:100000:65536", "65536:1:1"], &[], None)).expect("good");
        assert_eq!(long.expect("some").uids.len(), 2);
        let short = user_namespace(&flags(&[], &[], Some("100000"))).expect("good").expect("some");
        assert_eq!(short.uids, [IdRange { container: 0, host: 100_000, size: 65_536 }]);
        assert_eq!(shorthand("7:9").expect("good").size, 9);
        assert_eq!(user_namespace(&flags(&[], &[], None)).expect("good"), None);
        for bad in ["", "x", "1:2:3", "-1", "1:"] {
            assert!(shorthand(bad).is_err(), "{bad}");
        }
        assert!(user_namespace(&flags(&["1:2:3"], &[], None)).is_err(), "without a root");
    }
}
