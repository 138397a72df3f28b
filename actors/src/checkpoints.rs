//! Checkpoints as images, and the directories in which CRIU's files lie while they are made or restored.
//!
//! `<root>/checkpoints/<nonce of the task>/dump` is there while a checkpoint is made, `…/restore` from the creation of a task that is restored to
//! its start. Below the root, not below the state directory: they are as large as the container's memory. Both go with their task at the latest;
//! what no task and no operation names recovery removes.

use std::collections::BTreeSet;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use bosun_storage::archive::UnpackOptions;
use bosun_storage::image::checkpoint::Checkpoint;
use bosun_storage::image::{MANIFEST_BYTES_MAX, media_type};
use bosun_storage::layer::fetch_and_unpack;
use bosun_types::checkpoint::{MEDIA_CRIU, TaskCheckpoint};
use bosun_types::content::Descriptor;
use bosun_types::error::class_of_io;
use bosun_types::{Error, ImageName, NamespaceName, Result};

use crate::core::{Core, Shared, blocking};
use crate::spec_source::read_blob;
use crate::{content, images};

/// A container's memory is nobody else's to read.
const PRIVATE_MODE: u32 = 0o700;

/// Of a task.
pub(crate) fn directory(core: &Core, nonce: &str) -> PathBuf {
    parent(core).join(nonce)
}

/// Where a checkpoint is made.
pub(crate) fn dump_directory(core: &Core, nonce: &str) -> PathBuf {
    directory(core, nonce).join("dump")
}

/// Where a task is restored from.
pub(crate) fn restore_directory(core: &Core, nonce: &str) -> PathBuf {
    directory(core, nonce).join("restore")
}

fn parent(core: &Core) -> PathBuf {
    core.root.join("checkpoints")
}

/// Makes it, and what is above it.
pub(crate) fn ensure_directory(path: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(PRIVATE_MODE).create(path);
    made.map_err(|error| failed("make", path, &error))
}

/// Removes it; its absence is success.
pub(crate) fn ensure_no_directory(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed("remove", path, &error)),
        _ => Ok(()),
    }
}

/// Nonces of all directories.
pub(crate) fn directories(core: &Core) -> Result<BTreeSet<String>> {
    let path = parent(core);
    match std::fs::read_dir(&path) {
        Ok(entries) => {
            Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(failed("list", &path, &error)),
    }
}

fn failed(doing: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::new(class_of_io(error), format!("{doing} {}: {error}", path.display()))
}

/// The parts of an image that is a checkpoint. InvalidArgument when it is none (CKP-10).
pub(crate) async fn read(core: &Shared, namespace: &NamespaceName, name: &ImageName) -> Result<Checkpoint> {
    let target = images::get(core, namespace, name)?.target;
    let context = |error: Error| error.context(format!("image {name}"));
    if !media_type::is_index(&target.media_type) {
        return Err(context(Error::invalid_argument("checkpoint not found in index"))
            .with_hint("`bosun checkpoint` makes images of checkpoints"));
    }
    let bytes = read_blob(core, namespace, &target, MANIFEST_BYTES_MAX).await.map_err(context)?;
    Checkpoint::from_json(&bytes).map_err(|error| context(error.into()))
}

/// CRIU's part, which must be here (TSK-5).
pub(crate) async fn criu_part(
    core: &Shared,
    namespace: &NamespaceName,
    from: &TaskCheckpoint,
) -> Result<Descriptor> {
    let part = match from {
        TaskCheckpoint::Image(name) => read(core, namespace, name).await?.criu,
        TaskCheckpoint::Descriptor(descriptor) => descriptor.clone(),
    };
    if part.media_type != MEDIA_CRIU {
        return Err(Error::invalid_argument(format!("a checkpoint of type {:?}", part.media_type))
            .with_hint(format!("it must be {MEDIA_CRIU}")));
    }
    content::get(core, namespace, &part.digest)?;
    Ok(part)
}

/// CRIU's files into the directory that a task is restored from; whatever was there goes first.
pub(crate) async fn unpack(core: &Shared, nonce: &str, part: &Descriptor) -> Result<()> {
    let (directory, content, part) = (restore_directory(core, nonce), core.content.clone(), part.clone());
    blocking(move || {
        ensure_no_directory(&directory)?;
        ensure_directory(&directory)?;
        let blob = content.open_blob(&part.digest)?;
        let options = UnpackOptions { devices: false, ..UnpackOptions::default() };
        fetch_and_unpack(blob, None, &part, Some((&directory, &options)), &|_| ())?;
        Ok(())
    })
    .await
}
