//! The listening socket: made under a temporary name with its owner and mode, then moved into place, so that nobody
//! connects to a socket that is not fully set up and a stale one is replaced in one step.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::error::{EdgeError, SOCKET_PATH_BYTES_MAX};

/// Where a socket is to be, and who may connect to it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    /// Permission bits.
    pub(crate) mode: u32,
    /// `None`: the daemon's.
    pub(crate) uid: Option<u32>,
    /// `None`: the daemon's.
    pub(crate) gid: Option<u32>,
}

impl Place {
    /// Whether its path fits a socket address.
    pub(crate) fn check(&self) -> Result<(), EdgeError> {
        if self.path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(EdgeError::PathTooLong { path: self.path.clone() });
        }
        Ok(())
    }
}

/// A bound socket; its path is removed on drop if it is still this one.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    inode: (u64, u64),
}

impl Socket {
    /// Binds. A socket that somebody answers on is refused, a stale one replaced.
    pub(crate) fn bind(place: &Place) -> Result<(Self, UnixListener), EdgeError> {
        place.check()?;
        let path = place.path.clone();
        refuse_if_used(&path)?;
        let io = |doing: &'static str| {
            let path = path.clone();
            move |source| EdgeError::Io { path, doing, source }
        };
        let temporary = path.with_extension("new");
        if let Err(error) = std::fs::remove_file(&temporary)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(io("cannot remove what an earlier start left")(error));
        }
        let listener = UnixListener::bind(&temporary).map_err(io("cannot bind"))?;
        std::os::unix::fs::chown(&temporary, place.uid, place.gid).map_err(io("cannot set the owner"))?;
        let mode = std::fs::Permissions::from_mode(place.mode);
        std::fs::set_permissions(&temporary, mode).map_err(io("cannot set the mode"))?;
        listener.set_nonblocking(true).map_err(io("cannot make it non-blocking"))?;
        let metadata = std::fs::symlink_metadata(&temporary).map_err(io("cannot look at it"))?;
        std::fs::rename(&temporary, &path).map_err(io("cannot move it into place"))?;
        Ok((Self { path, inode: (metadata.dev(), metadata.ino()) }, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.inode);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "socket not removed");
        }
    }
}

fn refuse_if_used(path: &Path) -> Result<(), EdgeError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(EdgeError::Io { path: path.to_owned(), doing: "cannot look at it", source }),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(EdgeError::NotASocket { path: path.to_owned() })
        }
        // Nobody listens on a stale socket: the kernel refuses.
        Ok(_) if UnixStream::connect(path).is_ok() => Err(EdgeError::InUse { path: path.to_owned() }),
        Ok(_) => Ok(()),
    }
}
