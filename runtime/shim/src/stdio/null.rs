//! `/dev/null` for a stream that goes nowhere (IO-5).

use std::fs::File;
use std::os::fd::OwnedFd;

use crate::error::{Context as _, Result};

/// Opens it for reading and writing.
pub fn open() -> Result<OwnedFd> {
    let file =
        File::options().read(true).write(true).open("/dev/null").context(|| "open /dev/null".into())?;
    Ok(file.into())
}
