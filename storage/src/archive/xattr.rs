//! Extended attributes by descriptor. The only system calls of the archive code that no safe wrapper offers.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Most files have no attributes, or few and short ones.
const FIRST_BUFFER_BYTES: usize = 256;
/// What Linux allows for the names of one file's attributes together, and for one value, in bytes.
const LIST_BYTES_MAX: usize = 64 << 10;

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

/// Removes an attribute of an open file or directory.
#[expect(unsafe_code, reason = "libc has no safe form of fremovexattr")]
pub(crate) fn remove(file: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed for the call and the name is NUL-terminated.
    let result = unsafe { libc::fremovexattr(file.as_raw_fd(), name.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// All attributes of what a descriptor names (an `O_PATH` one will do, of a symbolic link too), by name. None where the
/// file system has no attributes.
pub(crate) fn all(file: BorrowedFd<'_>) -> io::Result<Vec<(CString, Vec<u8>)>> {
    let path = super::root::descriptor_path(file);
    let names = match grown(|buffer| list_once(&path, buffer)) {
        Ok(names) => names,
        Err(error) if error.raw_os_error() == Some(libc::ENOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut attributes = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = super::path::c_string(name);
        match grown(|buffer| get_once(&path, &name, buffer)) {
            Ok(value) => attributes.push((name, value)),
            // Removed meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENODATA) => {}
            Err(error) => return Err(error),
        }
    }
    attributes.sort();
    Ok(attributes)
}

/// Calls with a buffer that grows until the answer fits.
fn grown(call: impl Fn(&mut [u8]) -> isize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0u8; FIRST_BUFFER_BYTES];
    loop {
        if let Ok(length) = usize::try_from(call(&mut buffer)) {
            buffer.truncate(length);
            return Ok(buffer);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || buffer.len() > LIST_BYTES_MAX {
            return Err(error);
        }
        buffer = vec![0u8; buffer.len() * 2];
    }
}

#[expect(unsafe_code, reason = "libc has no safe form of listxattr")]
fn list_once(path: &CStr, buffer: &mut [u8]) -> isize {
    // SAFETY: the path is NUL-terminated; the buffer is writable for the length given.
    unsafe { libc::listxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
}

#[expect(unsafe_code, reason = "libc has no safe form of getxattr")]
fn get_once(path: &CStr, name: &CStr, buffer: &mut [u8]) -> isize {
    // SAFETY: both texts are NUL-terminated; the buffer is writable for the length given.
    unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
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
