//! `bosun images export` and `save`: images into an archive, a layout directory, or standard output.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bosun_client::Export;
use bosun_types::ImageName;
use bosun_types::platform::Platform;
use bosun_types::transfer::{ExportRequest, Platforms};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::pull;
use crate::arguments::{ArchiveFormat, SaveImages};
use crate::context::Context;
use crate::output;

/// Does what the words say.
pub async fn save(context: &Context, options: &SaveImages) -> anyhow::Result<()> {
    if options.output == Path::new("-") && std::io::stdout().is_terminal() {
        bail!("an archive is not for a terminal: give --output, or redirect");
    }
    let images = options.images.iter().map(|name| ImageName::new(name.as_str()));
    let request = ExportRequest {
        images: images.collect::<Result<_, _>>()?,
        platforms: match options.platform.as_slice() {
            _ if options.all_platforms => Platforms::All,
            [] => Platforms::Host,
            only => Platforms::Only(only.iter().map(|text| Platform::parse(text)).collect::<Result<_, _>>()?),
        },
        docker: context.archive == ArchiveFormat::Docker,
        skip_non_distributable: options.skip_non_distributable,
    };
    let export = context.namespace().transfers().export(request).await?;
    let transfer = export.transfer().clone();
    let mut place = Place::open(&options.output).await?;
    let (copied, followed) =
        tokio::join!(place.take(export), pull::follow(&transfer, options.quiet || context.json));
    // Our own failure ends the transfer, and the transfer's own reaches us through the bytes: the first is the cause.
    let images = match copied.and(followed) {
        Ok(images) => images,
        Err(error) => {
            place.discard().await;
            return Err(error);
        }
    };
    place.keep().await?;
    if options.output == Path::new("-") {
        return Ok(());
    }
    pull::show(context, &images, options.quiet)
}

/// Where the archive goes. Nothing half written is left under its name.
enum Place {
    Standard,
    File {
        unfinished: PathBuf,
        path: PathBuf,
        file: tokio::fs::File,
    },
    /// A directory, filled by tar.
    Directory {
        path: PathBuf,
        is_new: bool,
        tar: Child,
    },
}

impl Place {
    async fn open(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Standard);
        }
        if path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            let is_new = !path.exists();
            if !is_new && std::fs::read_dir(path)?.next().is_some() {
                bail!("{} is not empty: a layout needs a directory of its own", path.display());
            }
            std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
            let tar = Command::new("tar")
                .args(["--extract", "--file=-", "--directory"])
                .arg(path)
                .stdin(std::process::Stdio::piped())
                .spawn()
                .context("cannot start tar to fill the directory")?;
            return Ok(Self::Directory { path: path.to_owned(), is_new, tar });
        }
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        let file = tokio::fs::File::create(&unfinished).await;
        let file = file.with_context(|| format!("cannot write {}", unfinished.display()))?;
        Ok(Self::File { unfinished, path: path.to_owned(), file })
    }

    async fn take(&mut self, mut export: Export) -> anyhow::Result<()> {
        let mut stdout = tokio::io::stdout();
        let output: &mut (dyn AsyncWrite + Unpin) = match self {
            Self::Standard => &mut stdout,
            Self::File { file, .. } => file,
            Self::Directory { tar, .. } => tar.stdin.as_mut().context("tar has an input")?,
        };
        while let Some(chunk) = export.next().await? {
            output.write_all(&chunk).await.context("cannot write the archive")?;
        }
        output.flush().await.context("cannot write the archive")
    }

    async fn keep(self) -> anyhow::Result<()> {
        match self {
            Self::Standard => Ok(()),
            Self::File { unfinished, path, file } => {
                file.sync_all().await.context("cannot write the archive")?;
                std::fs::rename(&unfinished, &path).with_context(|| format!("cannot name {}", path.display()))
            }
            Self::Directory { path, mut tar, .. } => {
                drop(tar.stdin.take());
                let status = tar.wait().await?;
                if status.success() { Ok(()) } else { bail!("tar could not fill {}", path.display()) }
            }
        }
    }

    /// A failure to clean up changes nothing about the failure that is told.
    async fn discard(self) {
        match self {
            Self::Standard => {}
            Self::File { unfinished, .. } => {
                if let Err(error) = std::fs::remove_file(&unfinished) {
                    output::note(format!("{} stays: {error}", unfinished.display()));
                }
            }
            Self::Directory { path, is_new, mut tar } => {
                drop(tar.stdin.take());
                let _ = tar.kill().await;
                if is_new && let Err(error) = std::fs::remove_dir_all(&path) {
                    output::note(format!("{} stays: {error}", path.display()));
                }
            }
        }
    }
}
