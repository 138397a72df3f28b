//! The files the shim leaves for recovery: the beacon and the exit records.

use std::path::PathBuf;

use bosun_types::Error;
use bosun_types::ExecId;
use bosun_types::shim::{Adoption, ExitNotice, ShimBeacon, codec, file};

use crate::error::{Context as _, Result};
use crate::sys::write_durably;

/// Where the exit record of a process lies, relative to the task directory.
pub fn exit_path(exec: Option<&ExecId>) -> PathBuf {
    match exec {
        None => PathBuf::from(file::EXIT_INIT),
        Some(id) => PathBuf::from(format!("{}{id}.rec", file::EXIT_EXEC_PREFIX)),
    }
}

/// Writes the beacon: the proof that this shim, and this init, belong to the task.
pub fn write_beacon(beacon: &ShimBeacon) -> Result<()> {
    write_durably(file::BEACON.as_ref(), &codec::encode_record(beacon)?)
}

/// Writes an exit record before the exit is reported.
pub fn write_exit(notice: &ExitNotice) -> Result<()> {
    write_durably(&exit_path(notice.exec.as_ref()), &codec::encode_record(notice)?)
}

/// The exit record of a process; `None`: it has none.
pub fn read_exit(exec: Option<&ExecId>) -> Result<Option<ExitNotice>> {
    let path = exit_path(exec);
    match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        bytes => Ok(Some(codec::decode_record(&bytes.context(|| format!("read {}", path.display()))?)?)),
    }
}

/// What the daemon says is to be taken over.
pub fn read_adoption(name: &str) -> Result<Adoption> {
    let bytes = std::fs::read(name).context(|| format!("read {name}"))?;
    match codec::decode_frame(&bytes)? {
        Some((adoption, used)) if used == bytes.len() => Ok(adoption),
        _ => Err(Error::data_loss(format!("{name} is not whole")).into()),
    }
}

/// Removes an acknowledged exit record; one that is not there is fine.
pub fn remove_exit(exec: Option<&ExecId>) -> Result<()> {
    let path = exit_path(exec);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
