//! The compiled seccomp filter that the daemon put beside the spec.

use std::io;
use std::sync::Arc;

use bosun_types::Error;
use bosun_types::shim::file;

use crate::error::{Context as _, Result};

/// Most instructions that the kernel takes (BPF_MAXINSNS).
const INSTRUCTIONS_MAX: usize = 4096;
const INSTRUCTION_BYTES: usize = size_of::<libc::sock_filter>();

/// See the module. Read before the root changes, loaded by the process that it is for.
#[derive(Debug, Clone)]
pub struct Program(Arc<Vec<libc::sock_filter>>);

impl Program {
    /// The container's, if it has one.
    pub fn of_container() -> Result<Option<Self>> {
        match std::fs::read(file::SECCOMP) {
            Ok(bytes) => Ok(Some(Self::parse(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(|| format!("read {}", file::SECCOMP)),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let count = bytes.len() / INSTRUCTION_BYTES;
        if count == 0 || count > INSTRUCTIONS_MAX || !bytes.len().is_multiple_of(INSTRUCTION_BYTES) {
            let message = format!("{} of {} bytes is no seccomp filter", file::SECCOMP, bytes.len());
            return Err(Error::data_loss(message).into());
        }
        let instruction = |bytes: &[u8]| libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        };
        Ok(Self(Arc::new(bytes.chunks_exact(INSTRUCTION_BYTES).map(instruction).collect())))
    }

    /// From now on this process and all that it becomes are under it. `no_new_privs` must be set.
    #[expect(unsafe_code, reason = "prctl with a pointer")]
    pub fn load(&self) -> io::Result<()> {
        let filter = libc::sock_fprog {
            len: u16::try_from(self.0.len()).map_err(io::Error::other)?,
            filter: self.0.as_ptr().cast_mut(),
        };
        // SAFETY: `filter` points at as many instructions as it says, which the kernel copies.
        let result =
            unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_instructions_are_a_program() {
        assert!(Program::parse(&[6, 0, 0, 0, 0, 0, 255, 127]).is_ok());
        for bad in [&[][..], &[0; 7], &[0; 9], &vec![0; (INSTRUCTIONS_MAX + 1) * INSTRUCTION_BYTES]] {
            assert!(Program::parse(bad).is_err(), "{} bytes", bad.len());
        }
    }
}
