//! The files the shim leaves for recovery: the beacon and the exit records.

use std::path::PathBuf;

use bosun_types::ExecId;
use bosun_types::shim::{ExitNotice, ShimBeacon, codec, file};

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
