//! Devices for streams that go nowhere (IO-5).

use std::fs::File;
use std::os::fd::OwnedFd;

use crate::error::{Context as _, Result};

/// Writes to it are taken and forgotten. Not `/dev/null`: that the embedded runtime opens anew inside of the container, for reading only, and then each
/// write fails.
pub fn sink() -> Result<OwnedFd> {
    let file = File::options().write(true).open("/dev/zero").context(|| "open /dev/zero".into())?;
    Ok(file.into())
}

/// `/dev/null`, for reading and writing.
pub fn open() -> Result<OwnedFd> {
    let file =
        File::options().read(true).write(true).open("/dev/null").context(|| "open /dev/null".into())?;
    Ok(file.into())
}
