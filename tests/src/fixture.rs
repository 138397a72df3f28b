//! Images for tests, demo and bench, made by our own image writer from Debian's static busybox.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use bosun_registry::{Access, BlobSource, Registry, RegistryOptions};
use bosun_storage::compression::Compression;
use bosun_storage::image::ImageProcess;
use bosun_storage::image::writer::{BuiltImage, ImageBuilder, Layer, LayerBuilder};
use bosun_types::reference::Reference;
use bytes::Bytes;
use futures::StreamExt as _;

/// Where Debian puts the static busybox.
const BUSYBOX: &[&str] = &["/bin/busybox", "/usr/bin/busybox"];
/// The programs of busybox that our images have.
const APPLETS: &[&str] = &[
    "sh", "true", "false", "sleep", "echo", "cat", "ls", "hostname", "id", "env", "pwd", "printf", "mkdir",
    "rm", "touch", "ps", "kill", "seq", "yes", "head", "wc", "stty", "test", "dd", "ln", "mount", "chmod",
    "stat", "tty", "trap", "date", "tail", "grep", "chown", "nproc",
];

/// The bytes of the static busybox.
pub fn busybox() -> anyhow::Result<Vec<u8>> {
    let path = BUSYBOX.iter().find(|path| Path::new(path).exists());
    let path = path.context("busybox-static is not installed: run `cargo xtask test`, which installs it")?;
    Ok(std::fs::read(path)?)
}

/// A root file system: busybox, its links, users, the usual directories.
pub fn root_layer() -> anyhow::Result<LayerBuilder> {
    let mut layer = LayerBuilder::new();
    for (directory, mode) in [
        ("bin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("proc", 0o555),
        ("root", 0o700),
        ("run", 0o755),
        ("sys", 0o555),
        ("tmp", 0o1777),
    ] {
        layer = layer.directory(directory, mode);
    }
    layer = layer.file("bin/busybox", 0o755, &busybox()?);
    for applet in APPLETS {
        layer = layer.symlink(&format!("bin/{applet}"), "busybox");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\nweb:x:1000:1000::/tmp:/bin/sh\n";
    let group = "root:x:0:\nnobody:x:65534:\nweb:x:1000:\nextra:x:2000:web\n";
    Ok(layer.file("etc/passwd", 0o644, passwd.as_bytes()).file("etc/group", 0o644, group.as_bytes()))
}

/// How our images run.
fn process() -> ImageProcess {
    ImageProcess {
        env: vec!["PATH=/bin".to_owned()],
        cmd: vec!["/bin/sh".to_owned()],
        ..ImageProcess::default()
    }
}

/// busybox in one gzip layer.
pub fn busybox_image() -> anyhow::Result<BuiltImage> {
    let layer = root_layer()?.build(Compression::Gzip)?;
    Ok(ImageBuilder { process: process(), ..ImageBuilder::new() }.layer(layer).build())
}

/// The same, said to be for another platform.
pub fn image_of(platform: &str) -> anyhow::Result<BuiltImage> {
    let layer = root_layer()?.build(Compression::Gzip)?;
    let platform = bosun_types::platform::Platform::parse(platform)?;
    Ok(ImageBuilder { process: process(), platform, ..ImageBuilder::new() }.layer(layer).build())
}

/// busybox and some layers of data above it, so that a pull has something to show.
pub fn layered_image(layers: usize, bytes_each: usize) -> anyhow::Result<BuiltImage> {
    let mut image = ImageBuilder { process: process(), ..ImageBuilder::new() }
        .layer(root_layer()?.build(Compression::Gzip)?);
    for number in 0..layers {
        image = image.layer(data_layer(number, bytes_each)?);
    }
    Ok(image.build())
}

/// One file of bytes that do not compress; the same for the same number.
pub fn data_layer(number: usize, bytes: usize) -> anyhow::Result<Layer> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (number as u64);
    let noise: Vec<u8> = (0..bytes)
        .map(|_| {
            // xorshift64: good enough to defeat compression.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect();
    Ok(LayerBuilder::new()
        .directory("data", 0o755)
        .file(&format!("data/{number}"), 0o644, &noise)
        .build(Compression::Gzip)?)
}

/// Pushes every blob, the target last, under the reference's tag.
pub async fn push(image: &BuiltImage, reference: &Reference) -> anyhow::Result<()> {
    bosun_registry::install_crypto_provider();
    push_as(image, reference, None, &Access::default()).await
}

/// The same, with per-host settings and as somebody.
pub async fn push_as(
    image: &BuiltImage,
    reference: &Reference,
    hosts_directory: Option<PathBuf>,
    access: &Access,
) -> anyhow::Result<()> {
    bosun_registry::install_crypto_provider();
    let registry = Registry::new(RegistryOptions { hosts_directory, ..RegistryOptions::default() })?;
    let repository = registry.repository(reference, access)?;
    for (descriptor, bytes) in &image.blobs {
        let media_type = &descriptor.media_type;
        if media_type.contains("manifest") || media_type.contains("index") {
            let by_digest = descriptor.digest.to_string();
            let under = if *descriptor == image.target { reference.object()? } else { by_digest };
            repository.push_manifest(&under, media_type, bytes.clone()).await?;
        } else {
            let bytes = Bytes::from(bytes.clone());
            let source: BlobSource = Arc::new(move |offset| {
                let rest = bytes.slice(usize::try_from(offset).unwrap_or(usize::MAX)..);
                futures::stream::iter([Ok(rest)]).boxed()
            });
            repository.push_blob(descriptor, source, &[]).await?;
        }
    }
    Ok(())
}

/// The root file system as a directory of the host, for `--rootfs` and for bundles.
pub fn write_rootfs(directory: &Path) -> anyhow::Result<()> {
    for name in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"] {
        std::fs::create_dir_all(directory.join(name))?;
    }
    let program = directory.join("bin/busybox");
    std::fs::write(&program, busybox()?)?;
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    for applet in APPLETS {
        let _ = std::os::unix::fs::symlink("busybox", directory.join("bin").join(applet));
    }
    Ok(())
}
