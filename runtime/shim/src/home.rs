//! A process's `HOME` when nobody said one: by the container's own `/etc/passwd`, an untrusted file of an image.
//!
//! The C library would ask the container's name service for it, that is: load the container's libraries into a process
//! that is not confined yet (the way of CVE-2019-14271). So it is always given, and looked up here from outside.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// Most bytes of passwd that are looked at.
const PASSWD_BYTES_MAX: u64 = 1 << 20;
/// Of a user who has none, as runc has it.
const FALLBACK: &str = "/";

/// Adds it to the environment unless there is one.
pub fn complete(environment: &mut Vec<String>, root: BorrowedFd<'_>, uid: u32) {
    let is_given = |word: &String| word.strip_prefix("HOME=").is_some_and(|home| !home.is_empty());
    if !environment.iter().any(is_given) {
        environment.retain(|word| !word.starts_with("HOME="));
        let home = read_passwd(root).and_then(|text| home_in(&text, uid).map(str::to_owned));
        environment.push(format!("HOME={}", home.as_deref().unwrap_or(FALLBACK)));
    }
}

fn home_in(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.trim().split(':').skip(2);
        let it: u32 = fields.next()?.parse().ok()?;
        let home = fields.nth(2)?;
        (it == uid && home.starts_with('/') && !home.contains('\0')).then_some(home)
    })
}

/// `None` when there is none, or none that can be read: no reason to fail.
fn read_passwd(root: BorrowedFd<'_>) -> Option<String> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let found = File::from(openat2(root, "etc/passwd", how).ok()?);
    // Nothing but a regular file is opened for reading: a pipe would hold us, a device may act.
    if !found.metadata().ok()?.is_file() {
        return None;
    }
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    let mut bytes = Vec::new();
    file.take(PASSWD_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_home_is_that_of_the_users_line_or_the_root_directory() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nu:x:33:33::relative:\nv:x:34:34::/srv/v:\n";
        assert_eq!(home_in(passwd, 0), Some("/root"));
        assert_eq!(home_in(passwd, 33), None);
        assert_eq!(home_in(passwd, 34), Some("/srv/v"));
        assert_eq!(home_in(passwd, 35), None);
    }

    #[test]
    fn passwd_is_read_below_the_root_and_only_as_a_file() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let directory = File::open(root.path()).unwrap();
        let home = |given: &[&str]| {
            let mut environment = given.iter().map(|word| (*word).to_owned()).collect();
            complete(&mut environment, directory.as_fd(), 7);
            environment.join(" ")
        };
        let passwd = root.path().join("etc/passwd");
        assert_eq!(home(&["A=1"]), "A=1 HOME=/");
        std::os::unix::fs::symlink("/mine", &passwd).unwrap();
        std::fs::write(root.path().join("mine"), "seven:x:7:7::/home/seven:").unwrap();
        assert_eq!(home(&["HOME=", "A=1"]), "A=1 HOME=/home/seven");
        assert_eq!(home(&["HOME=/given"]), "HOME=/given");
        std::fs::remove_file(root.path().join("mine")).unwrap();
        nix::unistd::mkfifo(&root.path().join("mine"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(home(&[]), "HOME=/");
    }
}
