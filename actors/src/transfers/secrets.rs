//! Credentials of transfers under way: in memory, and in `<state>/transfers/<number>`, 0600 in a 0700 directory, so that a transfer goes on with
//! them after the daemon was killed (ADR 0018). The state directory does not survive a reboot, nor does a secret. Never in the operation log.
//!
//! Kept before the intent is committed, forgotten when it is closed; [`sweep`] removes what a crash between left.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use bosun_storage::key::Key;
use bosun_types::operation::{Intent, OperationRecord};
use bosun_types::transfer::Credential;
use bosun_types::{Error, Result};
use serde_json::{Value, json};

use crate::core::{Core, Shared, blocking};

fn directory(core: &Core) -> PathBuf {
    core.state.join("transfers")
}

fn file(core: &Core, transfer: u64) -> PathBuf {
    directory(core).join(transfer.to_string())
}

fn failed(doing: &str, error: &std::io::Error) -> Error {
    Error::internal(format!("cannot {doing} the credential of a transfer: {error}"))
}

/// Keeps it until [`forget`]; without a credential there is nothing to keep.
pub(super) async fn keep(core: &Shared, transfer: u64, credential: Option<&Credential>) -> Result<()> {
    let Some(credential) = credential.cloned() else { return Ok(()) };
    let core = core.clone();
    blocking(move || {
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(directory(&core));
        made.map_err(|error| failed("keep", &error))?;
        let text = json!({ "user": credential.user, "secret": credential.secret }).to_string();
        let mut options = fs::OpenOptions::new();
        let opened = options.write(true).create(true).truncate(true).mode(0o600).open(file(&core, transfer));
        let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| failed("keep", &error))
    })
    .await
}

/// What was kept. Absent: there was none, or the machine was restarted since.
pub(super) async fn recall(core: &Shared, transfer: u64) -> Result<Option<Credential>> {
    let core = core.clone();
    blocking(move || {
        let text = match fs::read(file(&core, transfer)) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &error)),
        };
        // Cut off by a crash: the intent was not committed yet, or says soon that it is not authorized.
        let value: Value = serde_json::from_slice(&text).unwrap_or_default();
        let word = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        Ok(word("user").zip(word("secret")).map(|(user, secret)| Credential { user, secret }))
    })
    .await
}

/// The transfer is over.
pub(super) async fn forget(core: &Shared, transfer: u64) {
    let core = core.clone();
    let removed = blocking(move || match fs::remove_file(file(&core, transfer)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("forget", &error)),
        _ => Ok(()),
    });
    if let Err(error) = removed.await {
        tracing::warn!(%error, "a credential stays until the next start");
    }
}

/// Forgets what no open operation wants.
pub(crate) async fn sweep(core: &Shared) -> Result<()> {
    let core = core.clone();
    blocking(move || {
        // The files first: a transfer that starts now has its file before its intent, and is running.
        let entries = fs::read_dir(directory(&core)).into_iter().flatten().flatten();
        let found: Vec<u64> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        let open: Vec<OperationRecord> = core.store.scan(&Key::all())?;
        let mut wanted: BTreeSet<u64> =
            open.iter().filter_map(|operation| transfer_of(&operation.intent)).collect();
        wanted.extend(core.transfers.running());
        for transfer in found.into_iter().filter(|transfer| !wanted.contains(transfer)) {
            let _ = fs::remove_file(file(&core, transfer));
        }
        Ok(())
    })
    .await
}

const fn transfer_of(intent: &Intent) -> Option<u64> {
    match intent {
        Intent::Pull { transfer, .. }
        | Intent::Push { transfer, .. }
        | Intent::FetchObject { transfer, .. }
        | Intent::PushObject { transfer, .. } => Some(*transfer),
        _ => None,
    }
}
