//! Users and groups by the container's own `/etc/passwd` and `/etc/group`: untrusted files of an image.
//!
//! They are opened below the root by `openat2` (a link leads nowhere else), looked at before they are opened for reading
//! (regular files only: CVE-2024-9676), read to a limit (GO-2026-5475), and parsed by hand: no host library, no NSS.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use bosun_types::{Error, ErrorClass};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use oci_spec::runtime::User;

use super::environment::check_text;
use crate::error::{Context as _, Result};

/// Longest passwd or group file in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most supplementary groups; the kernel's own limit.
const GROUPS_MAX: usize = 65_536;
/// Greatest uid and gid: more turns negative somewhere, and all ones means "leave it" (CVE-2024-40635).
const ID_MAX: u64 = (1 << 31) - 2;

/// Both files, as far as a lookup needs them.
#[derive(Debug, Default)]
pub struct UserDatabase {
    passwd: String,
    group: String,
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

impl UserDatabase {
    /// Of the root file system behind this descriptor. A file that is not there is empty.
    pub fn read(root: BorrowedFd<'_>) -> Result<Self> {
        Ok(Self { passwd: read_file(root, "etc/passwd")?, group: read_file(root, "etc/group")? })
    }

    fn user(&self, is_it: impl Fn(&PasswdEntry<'_>) -> bool) -> Option<PasswdEntry<'_>> {
        self.passwd
            .lines()
            .filter_map(|line| {
                let mut fields = line.trim().split(':');
                let name = fields.next()?;
                let uid = number(fields.nth(1)?)?.ok()?;
                let gid = number(fields.next()?)?.ok()?;
                Some(PasswdEntry { name, uid, gid })
            })
            .find(is_it)
    }

    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let name = fields.next()?;
            let gid = number(fields.nth(1)?)?.ok()?;
            Some((name, gid, fields.next().unwrap_or_default()))
        })
    }
}

/// `user[:group]`, names or numbers (SPC-13, SPC-14), to numbers. Empty: root.
///
/// A number that no line has is taken as it is, with a group of the same number; a name must be there. Supplementary
/// groups are those that list the user, unless the caller names a group; the primary one is always among them.
pub fn resolve(text: &str, root: Option<BorrowedFd<'_>>) -> Result<User> {
    check_text("user", text)?;
    let (user, group) = split(text)?;
    let database = root.map(UserDatabase::read).transpose()?;
    let user = if user.is_empty() { "0" } else { user };
    let (name, uid, mut gid) = match number(user) {
        Some(uid) => {
            let uid = uid?;
            match database.as_ref().and_then(|it| it.user(|entry| entry.uid == uid)) {
                Some(entry) => (Some(entry.name), uid, entry.gid),
                None => (None, uid, uid),
            }
        }
        None => {
            let database = database.as_ref().ok_or_else(|| no_root("user", user))?;
            let entry = database.user(|entry| entry.name == user).ok_or_else(|| unknown("user", user))?;
            (Some(entry.name), entry.uid, entry.gid)
        }
    };
    let mut gids = Vec::new();
    match group {
        Some(group) => gid = resolve_group(group, database.as_ref())?,
        None => gids = memberships(name, database.as_ref())?,
    }
    gids.push(gid);
    gids.sort_unstable();
    gids.dedup();
    let mut resolved = User::default();
    resolved.set_uid(uid).set_gid(gid).set_additional_gids(Some(gids));
    Ok(resolved)
}

fn split(text: &str) -> Result<(&str, Option<&str>), Error> {
    match text.split_once(':') {
        None => Ok((text, None)),
        Some((user, group)) if !group.contains(':') && !group.is_empty() => Ok((user, Some(group))),
        Some(_) => Err(Error::invalid_argument(format!("user {text:?} is not user or user:group"))),
    }
}

fn resolve_group(group: &str, database: Option<&UserDatabase>) -> Result<u32> {
    if let Some(gid) = number(group) {
        return Ok(gid?);
    }
    let database = database.ok_or_else(|| no_root("group", group))?;
    let found = database.groups().find(|(name, ..)| *name == group);
    Ok(found.map(|(_, gid, _)| gid).ok_or_else(|| unknown("group", group))?)
}

fn memberships(name: Option<&str>, database: Option<&UserDatabase>) -> Result<Vec<u32>> {
    let (Some(name), Some(database)) = (name, database) else { return Ok(Vec::new()) };
    let lists_user = |members: &str| members.split(',').any(|member| member.trim() == name);
    let gids: Vec<u32> =
        database.groups().filter(|(_, _, members)| lists_user(members)).map(|(_, gid, _)| gid).collect();
    if gids.len() >= GROUPS_MAX {
        let message = format!("user {name} is in {} groups, fewer than {GROUPS_MAX} are allowed", gids.len());
        return Err(Error::new(ErrorClass::ResourceExhausted, message).into());
    }
    Ok(gids)
}

/// `None`: it is a name. Digits only are a number, and one over the limit is refused, never wrapped.
fn number(text: &str) -> Option<Result<u32, Error>> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let id = text.parse::<u64>().ok().filter(|id| *id <= ID_MAX).and_then(|id| u32::try_from(id).ok());
    Some(id.ok_or_else(|| {
        Error::invalid_argument(format!("user or group id {text} is too large, at most {ID_MAX} is allowed"))
    }))
}

fn no_root(what: &str, name: &str) -> Error {
    Error::failed_precondition(format!("{what} {name:?} cannot be looked up without a root file system"))
        .with_hint("give numbers, such as 1000:1000")
}

fn unknown(what: &str, name: &str) -> Error {
    Error::not_found(format!(
        "{what} {name:?} is not in the container's /etc/{}",
        match what {
            "user" => "passwd",
            _ => "group",
        }
    ))
}

fn read_file(root: BorrowedFd<'_>, path: &str) -> Result<String> {
    let what = || format!("read /{path} of the root file system");
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let found = match openat2(root, path, how) {
        Ok(found) => File::from(found),
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(String::new()),
        Err(error) => return Err(error).context(what),
    };
    let meta = found.metadata().context(what)?;
    if !meta.is_file() {
        let message = format!("/{path} of the root file system is no regular file (mode {:o})", meta.mode());
        return Err(Error::failed_precondition(message).into());
    }
    // The descriptor above opens nothing; the link of it in /proc leads to that very file, whatever the path is now.
    let mut file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(format!("/proc/self/fd/{}", found.as_raw_fd()))
        .context(what)?;
    let mut bytes = Vec::new();
    file.by_ref().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).context(what)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let message = format!("/{path} of the root file system is longer than {FILE_BYTES_MAX} bytes");
        return Err(Error::new(ErrorClass::ResourceExhausted, message).into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
