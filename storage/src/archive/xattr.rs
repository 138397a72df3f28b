//! Extended attributes by descriptor. The only system calls of the archive code that no safe wrapper offers.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Sets an attribute of an open file or directory (not of an `O_PATH` descriptor).
#[expect(unsafe_code, reason = "libc has no safe form of fsetxattr")]
pub(crate) fn set(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed for the call, the name is NUL-terminated, and the value is read within its length.
    let result =
        unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets an attribute of what an `O_PATH` descriptor names, a symbolic link included.
#[expect(unsafe_code, reason = "libc has no safe form of setxattr")]
pub(crate) fn set_on_path_descriptor(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> io::Result<()> {
    let path = super::root::descriptor_path(file);
    // SAFETY: both strings are NUL-terminated and outlive the call; the value is read within its length.
    let result =
        unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an attribute of at most `N` bytes; `None` when there is none.
#[cfg(test)]
#[expect(unsafe_code, reason = "libc has no safe form of fgetxattr")]
pub(crate) fn get(file: BorrowedFd<'_>, name: &CStr) -> Option<Vec<u8>> {
    let mut value = vec![0u8; 64 << 10];
    // SAFETY: the buffer is writable for the length given.
    let length =
        unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(length).ok()?);
    Some(value)
}
