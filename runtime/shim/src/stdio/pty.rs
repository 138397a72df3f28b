//! The console socket: over it the OCI runtime sends the master of the pty that it made inside the container (IO-6).

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;

use bosun_types::Error;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};

use crate::error::{Context as _, Result};

/// Longest name that a runtime sends beside the descriptor.
const NAME_BYTES_MAX: usize = 256;

/// A listening socket in the task directory; its file goes away with it.
#[derive(Debug)]
pub struct ConsoleSocket {
    listener: UnixListener,
    path: String,
}

impl ConsoleSocket {
    /// Listens at `path`, relative to the task directory.
    pub fn bind(path: String) -> Result<Self> {
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).context(|| format!("bind {path}"))?;
        listener.set_nonblocking(true).context(|| path.clone())?;
        Ok(Self { listener, path })
    }

    /// Its path, relative to the task directory.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Takes the descriptor. The runtime has sent it before it reports success, so nothing is waited for.
    pub fn receive(&self) -> Result<OwnedFd> {
        let (socket, _) = self.listener.accept().context(|| "the OCI runtime sent no terminal".into())?;
        let mut name = [0; NAME_BYTES_MAX];
        let mut space = nix::cmsg_space!([i32; 1]);
        let mut slices = [IoSliceMut::new(&mut name)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)
            .context(|| "receive the terminal".into())?;
        let messages = message.cmsgs().context(|| "receive the terminal".into())?;
        for received in messages {
            if let ControlMessageOwned::ScmRights(fds) = received
                && let Some(fd) = fds.first()
            {
                return Ok(take(*fd));
            }
        }
        Err(Error::internal("the OCI runtime sent a message without a terminal").into())
    }
}

#[expect(unsafe_code, reason = "nix hands out received descriptors as numbers")]
fn take(fd: i32) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us; nothing else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
