//! A thread that makes files as somebody else, with root's rights. Through a mount that shows users through maps only who is in the maps can make
//! files (EOVERFLOW), and root of the host is in none.

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use crate::error::{Context as _, Result};

/// What this thread makes from now on belongs to them; its rights stay. There is no way back: for a thread that ends with its work.
pub fn make_files_as(uid: u32, gid: u32) -> Result<()> {
    let rights = capabilities::of_this_thread().context(|| "read this thread's capabilities".to_owned())?;
    // Neither call says whether it worked: the second look does.
    setfsgid(Gid::from_raw(gid));
    setfsuid(Uid::from_raw(uid));
    // Leaving root takes the rights over files; they are taken back.
    capabilities::set(rights).context(|| "keep this thread's capabilities".to_owned())?;
    if (setfsuid(Uid::from_raw(uid)).as_raw(), setfsgid(Gid::from_raw(gid)).as_raw()) != (uid, gid) {
        let message = format!("this thread cannot make files as {uid}:{gid}");
        return Err(bosun_types::Error::permission_denied(message).into());
    }
    Ok(())
}

/// The system calls that nix does not have.
#[expect(unsafe_code, reason = "nix 0.31 has no capget and capset")]
mod capabilities {
    use nix::errno::Errno;

    /// `_LINUX_CAPABILITY_VERSION_3`.
    const VERSION: u32 = 0x2008_0522;

    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }

    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    pub(super) struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }

    /// Low and high halves.
    pub(super) fn of_this_thread() -> std::io::Result<[Sets; 2]> {
        let mut header = Header { version: VERSION, pid: 0 };
        let mut sets = [Sets::default(); 2];
        // SAFETY: version 3 fills two structures; both pointers are to values that live through the call.
        let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
        Errno::result(result)?;
        Ok(sets)
    }

    pub(super) fn set(sets: [Sets; 2]) -> std::io::Result<()> {
        let mut header = Header { version: VERSION, pid: 0 };
        // SAFETY: version 3 reads two structures; both pointers are to values that live through the call.
        let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) };
        Errno::result(result)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_thread_makes_files_as_somebody_else_with_roots_rights() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().expect("a directory, root's alone");
        let file = directory.path().join("file");
        let made = file.clone();
        std::thread::spawn(move || {
            super::make_files_as(100_000, 100_001).expect("we are root");
            std::fs::write(&made, "x").expect("root's rights");
            std::os::unix::fs::chown(&made, Some(7), None).expect("root's rights");
        })
        .join()
        .expect("ends");
        let found = std::fs::metadata(&file).expect("there");
        assert_eq!((found.uid(), found.gid()), (7, 100_001));
    }
}
