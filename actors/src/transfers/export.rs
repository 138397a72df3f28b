//! Exporting images into an archive whose bytes go to the client (IEX-1, IEX-6).
//!
//! Nothing is logged and nothing is owned: an export changes nothing, and ends with who reads it.

use std::sync::Mutex;

use bosun_storage::image::closure::{Member, Platforms as Wanted};
use bosun_storage::image::export::{ExportImage, ExportOptions, write_archive};
use bosun_types::image::ImageRecord;
use bosun_types::platform::Platform;
use bosun_types::transfer::{ExportRequest, PartStatus, Platforms, TransferKind, TransferState};
use bosun_types::{Digest, Error, NamespaceName, Result};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::channel::Chunks;
use super::progress::Progress;
use super::{Added, TransferHandle};
use crate::core::{Shared, blocking};
use crate::{content, images};

/// Chunks between the writer of the archive and the client.
const CHUNKS_WAITING: usize = 8;
/// Most images of one archive.
const IMAGES_MAX: usize = 1024;

/// Starts the worker; the archive's bytes come through what this returns. Their end is the archive's end only if the transfer ends well.
pub(crate) fn start(
    core: &Shared,
    namespace: &NamespaceName,
    request: &ExportRequest,
) -> Result<(TransferHandle, mpsc::Receiver<Bytes>)> {
    if request.images.is_empty() || request.images.len() > IMAGES_MAX {
        return Err(Error::invalid_argument(format!(
            "{} images are asked for; an archive holds 1 to {IMAGES_MAX}",
            request.images.len()
        )));
    }
    let records: Vec<ImageRecord> =
        request.images.iter().map(|name| images::get(core, namespace, name)).collect::<Result<_>>()?;
    let platforms = match &request.platforms {
        Platforms::Host => Wanted::These(vec![Platform::host()]),
        Platforms::Only(platforms) => Wanted::These(platforms.clone()),
        Platforms::All => Wanted::All,
    };
    let subject = match request.images.as_slice() {
        [only] => only.to_string(),
        several => format!("{} images", several.len()),
    };
    let id = core.store.next_transfer();
    let Added::New(handle, progress) =
        core.transfers.add(id, namespace, (TransferKind::Export, &subject), None, None)?
    else {
        return Err(Error::internal("an export joins nothing"));
    };
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    let (core, namespace, request, cancel) =
        (core.clone(), namespace.clone(), request.clone(), handle.cancel.clone());
    core.runtime.clone().spawn(async move {
        let output = Chunks::new(sender, cancel.clone(), core.runtime.clone());
        let (shown, of_images) = (progress.clone(), records.clone());
        let written =
            blocking(move || write(&core, &namespace, &of_images, platforms, &request, &shown, output));
        progress.end(match written.await {
            Ok(()) => TransferState::Done(records),
            // What the writer says of its broken pipe is not the cause.
            Err(_) if cancel.is_cancelled() => {
                TransferState::Failed(Error::cancelled("the transfer was cancelled"))
            }
            Err(error) => TransferState::Failed(error),
        });
    });
    Ok((handle, receiver))
}

fn write(
    core: &Shared,
    namespace: &NamespaceName,
    records: &[ImageRecord],
    platforms: Wanted,
    request: &ExportRequest,
    progress: &Progress,
    output: Chunks,
) -> Result<()> {
    let mut images: Vec<ExportImage> = Vec::new();
    for record in records {
        match images.iter_mut().find(|image| image.target == record.target) {
            Some(image) => image.names.push(record.name.clone()),
            None => {
                images.push(ExportImage { names: vec![record.name.clone()], target: record.target.clone() })
            }
        }
    }
    // Rows as they come up, in the archive's order.
    let last = Mutex::new(None);
    let options = ExportOptions {
        platforms,
        docker: request.docker,
        skip_non_distributable: request.skip_non_distributable,
        known: &|digest: &Digest| content::get(core, namespace, digest).is_ok(),
        found: &|member: &Member| drop(progress.part(member.kind, &member.descriptor)),
        progress: &|member: &Member, bytes| {
            let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let part = match last.take() {
                Some((digest, part)) if digest == member.descriptor.digest => part,
                _ => {
                    let part = progress.part(member.kind, &member.descriptor);
                    part.set(PartStatus::Uploading);
                    part
                }
            };
            part.moved(bytes);
            if bytes == member.descriptor.size {
                part.set(PartStatus::Done);
            }
            *last = Some((member.descriptor.digest, part));
        },
    };
    Ok(write_archive(&images, &core.content, &options, output)?)
}
