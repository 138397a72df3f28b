//! Our side of a copy: a tree of this host into a tar stream, and a stream into a tree.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bosun_client::{CopySink, CopyStream};
use bosun_types::copy::Copied;
use bytes::Bytes;
use tar::{EntryType, Header, HeaderMode};
use tokio::sync::mpsc;

use super::{CHUNK_BYTES, There};

/// Chunks between the stream and the worker that packs or unpacks.
const CHUNKS_WAITING: usize = 8;

/// What a path of this host is.
pub fn look(path: &Path) -> anyhow::Result<There> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(There::Directory),
        Ok(_) => Ok(There::File),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(There::Nothing),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}

/// Whether a source is one; that it exists.
pub fn is_directory(path: &Path, follow: bool) -> anyhow::Result<bool> {
    let found = metadata(path, follow || path.as_os_str().as_encoded_bytes().ends_with(b"/"));
    Ok(found.with_context(|| format!("cannot read {}", path.display()))?.is_dir())
}

fn metadata(path: &Path, follow: bool) -> io::Result<std::fs::Metadata> {
    if follow { std::fs::metadata(path) } else { std::fs::symlink_metadata(path) }
}

/// Sends a tree, its top called `rename`.
pub async fn pack(path: &Path, rename: &str, follow: bool, mut sink: CopySink) -> anyhow::Result<Copied> {
    let (sender, mut chunks) = mpsc::channel(CHUNKS_WAITING);
    let (path, rename) = (path.to_owned(), PathBuf::from(rename));
    let packer = tokio::task::spawn_blocking(move || {
        let mut archive = tar::Builder::new(io::BufWriter::with_capacity(CHUNK_BYTES, Channel(sender)));
        let mut skipped = 0;
        // A slash at its end asks for what a link leads to.
        let follow = follow || path.as_os_str().as_encoded_bytes().ends_with(b"/");
        add(&mut archive, &path, &rename, follow, &mut skipped)?;
        archive.into_inner()?.flush()?;
        anyhow::Ok(skipped)
    });
    let mut whole = true;
    while let Some(chunk) = chunks.recv().await {
        if !sink.write(chunk).await {
            // The copy itself says why.
            whole = false;
            break;
        }
    }
    drop(chunks);
    let packed = packer.await.context("the packing worker failed")?;
    if whole && let Err(error) = packed {
        return Err(error);
    }
    let copied = sink.finish().await?;
    Ok(Copied { skipped: copied.skipped + packed.unwrap_or(0), ..copied })
}

/// One file, and what is below it.
fn add<W: Write>(
    archive: &mut tar::Builder<W>,
    path: &Path,
    name: &Path,
    follow: bool,
    skipped: &mut u64,
) -> anyhow::Result<()> {
    let unreadable = || format!("cannot read {}", path.display());
    let found = metadata(path, follow).with_context(unreadable)?;
    let mut header = Header::new_gnu();
    header.set_metadata_in_mode(&found, HeaderMode::Complete);
    if found.is_symlink() {
        header.set_size(0);
        archive.append_link(&mut header, name, std::fs::read_link(path).with_context(unreadable)?)?;
    } else if found.is_dir() {
        header.set_size(0);
        if !name.as_os_str().is_empty() {
            archive.append_data(&mut header, name, io::empty())?;
        }
        let mut entries: Vec<_> =
            std::fs::read_dir(path).and_then(Iterator::collect).with_context(unreadable)?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            add(archive, &entry.path(), &name.join(entry.file_name()), false, skipped)?;
        }
    } else if found.is_file() {
        let file = std::fs::File::open(path).with_context(unreadable)?;
        // As many bytes as the header says, whatever becomes of the file meanwhile.
        let promised = file.metadata().with_context(unreadable)?.len();
        header.set_size(promised);
        let mut content = Exactly { file: file.take(promised), left: promised };
        archive.append_data(&mut header, name, &mut content).with_context(unreadable)?;
    } else {
        *skipped += 1;
    }
    Ok(())
}

/// A file that must not end early: the stream would be read wrongly from there on.
struct Exactly {
    file: io::Take<std::fs::File>,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.left -= count as u64;
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        Ok(count)
    }
}

/// Puts a stream into a directory.
pub async fn unpack(mut stream: CopyStream, directory: &Path, owners: bool) -> anyhow::Result<Copied> {
    if !directory.is_dir() {
        bail!("the directory {} does not exist", directory.display());
    }
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    let directory = directory.to_owned();
    let unpacker = tokio::task::spawn_blocking(move || {
        let mut archive = tar::Archive::new(Incoming { receiver, chunk: Bytes::new() });
        archive.set_preserve_permissions(true);
        archive.set_preserve_mtime(true);
        archive.set_preserve_ownerships(owners);
        let mut copied = Copied::default();
        for entry in archive.entries()? {
            let mut entry = entry?;
            let kind = entry.header().entry_type();
            if matches!(kind, EntryType::Char | EntryType::Block | EntryType::Fifo) {
                copied.skipped += 1;
                continue;
            }
            let size = entry.size();
            if !entry.unpack_in(&directory)? {
                bail!("the stream holds {:?}, which would leave {}", entry.path()?, directory.display());
            }
            copied.entries += 1;
            copied.bytes += size;
        }
        Ok(copied)
    });
    let received = async {
        while let Some(chunk) = stream.next().await? {
            if sender.send(Ok(chunk)).await.is_err() {
                break;
            }
        }
        anyhow::Ok(())
    }
    .await;
    if received.is_err() {
        // What looks like the stream's end must not be taken for it.
        let _ = sender.send(Err(io::Error::other("the copy failed"))).await;
    }
    drop(sender);
    let unpacked = unpacker.await.context("the unpacking worker failed")?;
    received?;
    unpacked
}

/// Chunks as they are written.
struct Channel(mpsc::Sender<Bytes>);

impl Write for Channel {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.blocking_send(Bytes::copy_from_slice(buffer)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Chunks as they come.
struct Incoming {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // An empty chunk is no end.
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(chunk) => self.chunk = chunk?,
            }
        }
        let count = self.chunk.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}
