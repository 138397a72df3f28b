//! `bosun cp`: files between a container and here.
//!
//! What the daemon sends is named here ([`aim`]), and packed and resolved there: inside the container's root, whatever links it holds.

mod aim;
mod here;

use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use bosun_client::{Container, CopyStream};
use bosun_types::ErrorClass;
use bosun_types::copy::{Copied, CopyIn, CopyOut, FileKind};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use self::aim::{Aim, Source, There, aim, base_name, clean};
use crate::arguments::Copy;
use crate::context::Context;
use crate::output;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Stream,
    Here(&'a str),
    There(&'a str, &'a str),
}

impl<'a> Side<'a> {
    fn of(word: &'a str) -> Self {
        match word.split_once(':') {
            _ if word == "-" => Self::Stream,
            Some((container, path)) if !container.is_empty() && !container.contains('/') => {
                Self::There(container, path)
            }
            _ => Self::Here(word),
        }
    }
}

/// Copies; says how much.
pub async fn cp(context: &Context, options: &Copy) -> anyhow::Result<()> {
    let (source, destination) = (Side::of(&options.source), Side::of(&options.destination));
    let copied = match (source, destination) {
        (Side::There(name, path), to @ (Side::Here(_) | Side::Stream)) => {
            let container = context.container(name)?;
            let copied = out(&container, path, to, options).await;
            copied.with_context(|| format!("container {name}"))?
        }
        (from @ (Side::Here(_) | Side::Stream), Side::There(name, path)) => {
            let container = context.container(name)?;
            into(&container, from, path, options).await.with_context(|| format!("container {name}"))?
        }
        (Side::There(..), Side::There(..)) => {
            bail!(
                "from container to container is not one copy: use `bosun cp ONE:PATH - | bosun cp - OTHER:PATH`"
            )
        }
        _ => bail!("one of {:?} and {:?} is to be CONTAINER:PATH", options.source, options.destination),
    };
    if copied.skipped > 0 {
        output::note(format!("warning: {} sockets or devices were left out", copied.skipped));
    }
    if context.json {
        return output::json(&copied);
    }
    if !options.quiet && std::io::stderr().is_terminal() {
        output::note(format!("{} files, {}", copied.entries, output::size(copied.bytes)));
    }
    Ok(())
}

/// Out of the container.
async fn out(container: &Container, path: &str, to: Side<'_>, options: &Copy) -> anyhow::Result<Copied> {
    let contents = path.ends_with("/.") || path == "." || clean(path) == "/";
    let info = container.stat_path(path, options.follow_link).await?;
    let is_directory = info.kind == FileKind::Directory;
    let cleaned = clean(path);
    let name = base_name(&cleaned).to_owned();
    let request = |rename: &str| CopyOut {
        path: path.to_owned(),
        rename: rename.to_owned(),
        follow: options.follow_link,
    };
    let Side::Here(destination) = to else {
        if std::io::stdout().is_terminal() {
            bail!("a tar stream is not for a terminal: redirect it");
        }
        let top = if contents { "" } else { name.as_str() };
        return to_stdout(container.copy_out(request(top)).await?).await;
    };
    let source = Source { is_directory, contents: contents && is_directory, name: &name };
    let Aim { directory, rename } = aim(source, destination, here::look(Path::new(destination))?)?;
    let stream = container.copy_out(request(&rename)).await?;
    here::unpack(stream, Path::new(&directory), options.archive).await
}

async fn to_stdout(mut stream: CopyStream) -> anyhow::Result<Copied> {
    let mut stdout = tokio::io::stdout();
    let mut copied = Copied::default();
    while let Some(chunk) = stream.next().await? {
        copied.bytes += chunk.len() as u64;
        stdout.write_all(&chunk).await.context("cannot write the stream")?;
    }
    stdout.flush().await.context("cannot write the stream")?;
    Ok(copied)
}

/// Into the container.
async fn into(container: &Container, from: Side<'_>, path: &str, options: &Copy) -> anyhow::Result<Copied> {
    let there = match container.stat_path(path, true).await {
        Ok(info) if info.kind == FileKind::Directory => There::Directory,
        Ok(_) => There::File,
        Err(error) if error.class == ErrorClass::NotFound => {
            // A container that is not there is told now.
            container.record().await?;
            There::Nothing
        }
        Err(error) => return Err(error.into()),
    };
    let request = |directory: &str| CopyIn { directory: clean(directory), keep_owners: options.archive };
    let Side::Here(source) = from else {
        if there != There::Directory {
            bail!("{path:?} is no directory of the container: a tar stream goes into one");
        }
        let mut sink = container.copy_in(request(path)).await?;
        let mut stdin = tokio::io::stdin();
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let count = stdin.read(&mut buffer).await.context("cannot read the stream")?;
            if count == 0 || !sink.write(Bytes::copy_from_slice(&buffer[..count])).await {
                return Ok(sink.finish().await?);
            }
        }
    };
    let local = Path::new(source);
    let is_directory = here::is_directory(local, options.follow_link)?;
    let contents = is_directory && (source.ends_with("/.") || matches!(source, "." | "/"));
    let absolute = std::path::absolute(local)?;
    let name = absolute.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Aim { directory, rename } = aim(Source { is_directory, contents, name: &name }, path, there)?;
    let sink = container.copy_in(request(&directory)).await?;
    here::pack(local, &rename, options.follow_link, sink).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_as_docker_has_them() {
        assert_eq!(Side::of("-"), Side::Stream);
        assert_eq!(Side::of("web:/a:b"), Side::There("web", "/a:b"));
        for here in ["a", "./a:b", "/a:b", ":a", "../x:y"] {
            assert_eq!(Side::of(here), Side::Here(here));
        }
    }
}
