//! Whom the files of a copy belong to: the same, or whoever a map says (CTR-15). Ids are not only in a file's inode, but
//! in two of its attributes as well.

use std::ffi::CStr;
use std::io;

use bosun_types::user_namespace::IdMaps;

const CAPABILITY: &CStr = c"security.capability";
/// The revision of file capabilities that says whose root they serve, in the attribute's first word.
const CAPABILITY_REVISION_MASK: u32 = 0xff00_0000;
const CAPABILITY_REVISION_3: u32 = 0x0300_0000;
/// Of revision 3: where that root's id is.
const CAPABILITY_ROOT_AT: usize = 20;
const ACLS: [&CStr; 2] = [c"system.posix_acl_access", c"system.posix_acl_default"];
/// A list of access rights: a word of its version, then entries of tag, rights and id.
const ACL_HEADER_BYTES: usize = 4;
const ACL_ENTRY_BYTES: usize = 8;
/// Tags of the entries that have an id.
const ACL_USER: u16 = 0x02;
const ACL_GROUP: u16 = 0x08;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(in crate::snapshotter) enum Owners<'a> {
    /// As they are.
    Same,
    /// From inside to outside; an id that is not mapped is an error.
    Mapped(&'a IdMaps),
}

impl Owners<'_> {
    pub(super) fn uid(self, uid: u32) -> io::Result<u32> {
        match self {
            Self::Same => Ok(uid),
            Self::Mapped(maps) => maps.host_uid(uid).ok_or_else(|| left_out("user", uid)),
        }
    }

    pub(super) fn gid(self, gid: u32) -> io::Result<u32> {
        match self {
            Self::Same => Ok(gid),
            Self::Mapped(maps) => maps.host_gid(gid).ok_or_else(|| left_out("group", gid)),
        }
    }

    /// An attribute's value with its ids changed. One of another length than it should be is nobody's, and stays.
    pub(super) fn attribute(self, name: &CStr, value: &mut [u8]) -> io::Result<()> {
        if matches!(self, Self::Same) {
            return Ok(());
        }
        if name == CAPABILITY {
            if word(value, 0).is_some_and(|word| word & CAPABILITY_REVISION_MASK == CAPABILITY_REVISION_3) {
                self.change(value, CAPABILITY_ROOT_AT, Self::uid)?;
            }
        } else if ACLS.contains(&name) {
            for at in (ACL_HEADER_BYTES..value.len()).step_by(ACL_ENTRY_BYTES) {
                match word(value, at).map(|word| (word & 0xffff) as u16) {
                    Some(ACL_USER) => self.change(value, at + 4, Self::uid)?,
                    Some(ACL_GROUP) => self.change(value, at + 4, Self::gid)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn change(self, value: &mut [u8], at: usize, to: fn(Self, u32) -> io::Result<u32>) -> io::Result<()> {
        let Some(id) = word(value, at) else { return Ok(()) };
        value[at..at + 4].copy_from_slice(&to(self, id)?.to_le_bytes());
        Ok(())
    }
}

fn word(value: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(value.get(at..at + 4)?.try_into().ok()?))
}

fn left_out(what: &str, id: u32) -> io::Error {
    let message = format!("it belongs to {what} {id}, whom the map leaves out");
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use bosun_types::user_namespace::IdRange;

    use super::*;

    fn maps() -> IdMaps {
        let range = |host| vec![IdRange { container: 0, host, size: 1000 }];
        IdMaps { uids: range(100_000), gids: range(200_000) }
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn ctr_15_ids_in_attributes_are_changed_too() {
        let (maps, owners) = (maps(), |maps| Owners::Mapped(maps));
        let change = |name: &CStr, given: &[u32]| {
            let mut value = words(given);
            owners(&maps).attribute(name, &mut value).map(|()| value)
        };
        // Without a root of its own: it serves whoever owns the file system.
        let second = [0x0200_0001, 1, 2, 3, 4];
        assert_eq!(change(CAPABILITY, &second).unwrap(), words(&second));
        let third = [0x0300_0001, 1, 2, 3, 4, 5];
        assert_eq!(change(CAPABILITY, &third).unwrap(), words(&[0x0300_0001, 1, 2, 3, 4, 100_005]));
        let (user, group, mask) = (0x0007_0002, 0x0005_0008, 0x0007_0010);
        let acl = [2, user, 7, group, 8, mask, u32::MAX];
        let changed = words(&[2, user, 100_007, group, 200_008, mask, u32::MAX]);
        assert_eq!(change(ACLS[0], &acl).unwrap(), changed);
        assert_eq!(change(ACLS[1], &acl).unwrap(), changed);
        assert!(change(ACLS[0], &[2, user, 1000]).unwrap_err().to_string().contains("1000"));
        assert_eq!(change(c"user.other", &acl).unwrap(), words(&acl));
        let mut short = vec![2, 0, 0];
        Owners::Mapped(&maps).attribute(ACLS[0], &mut short).unwrap();
        let mut value = words(&third);
        Owners::Same.attribute(CAPABILITY, &mut value).unwrap();
        assert_eq!(value, words(&third));
    }
}
