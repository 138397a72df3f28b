//! Against a real docker-registry on loopback.

use std::process::{Child, Command, Stdio};

use bosun_types::ErrorClass;
use bosun_types::content::Descriptor;
use bosun_types::reference::Reference;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};

use super::*;
use crate::client::digest_of;

struct Real {
    child: Child,
    host: String,
    _data: tempfile::TempDir,
}

impl Real {
    async fn start() -> Self {
        install_crypto_provider();
        let data = tempfile::tempdir().expect("a folder");
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .expect("a port")
            .port();
        let config = data.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            data.path().display()
        );
        std::fs::write(&config, text).expect("writes");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = child.expect("docker-registry is installed: run `cargo xtask test`");
        let mut tries = 0;
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tries += 1;
            assert!(tries < 2000, "docker-registry does not listen");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        Self { child, host: format!("127.0.0.1:{port}"), _data: data }
    }

    fn repository(&self, rest: &str) -> Repository {
        let reference: Reference = format!("{}/{rest}", self.host).parse().expect("good");
        let registry = Registry::new(RegistryOptions::default()).expect("a client");
        registry.repository(&reference, &Access::default()).expect("opens")
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn source(bytes: &[u8]) -> BlobSource {
    let bytes = Bytes::copy_from_slice(bytes);
    std::sync::Arc::new(move |offset| {
        let rest = bytes.slice(usize::try_from(offset).expect("small")..);
        futures::stream::iter([Ok(rest)]).boxed()
    })
}

fn blob(bytes: &[u8], media_type: &str) -> Descriptor {
    Descriptor { media_type: media_type.to_owned(), digest: digest_of(bytes), size: bytes.len() as u64 }
}

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[tokio::test]
async fn push_resolve_and_fetch_against_a_real_registry() {
    let real = Real::start().await;
    let repository = real.repository("team/app:1");
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let layer = blob(&bytes, LAYER);
    let push = || repository.push_blob(&layer, source(&bytes), &[]);
    assert_eq!(push().await.expect("pushes"), Pushed::Uploaded);
    assert_eq!(push().await.expect("is there"), Pushed::Exists);
    let config = blob(b"{}", "application/vnd.oci.image.config.v1+json");
    repository.push_blob(&config, source(b"{}"), &[]).await.expect("pushes");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"{}","digest":"{}","size":2}},"layers":[{{"mediaType":"{LAYER}","digest":"{}","size":{}}}]}}"#,
        config.media_type, config.digest, layer.digest, layer.size
    );
    let push = repository.push_manifest("1", MANIFEST, manifest.clone().into_bytes());
    let digest = push.await.expect("pushes");

    let resolved = repository.resolve().await.expect("resolves");
    assert_eq!(
        (resolved.digest, resolved.media_type.as_str(), resolved.size),
        (digest, MANIFEST, manifest.len() as u64)
    );
    let by_digest = real.repository(&format!("team/app@{digest}"));
    assert_eq!(by_digest.resolve().await.expect("resolves"), resolved);
    assert_eq!(repository.fetch_bytes(&resolved).await.expect("fetches"), manifest.as_bytes());
    assert!(repository.has_manifest("1", &resolved).await.expect("answers"));
    assert!(!repository.has_manifest("2", &resolved).await.expect("answers"));
    assert_eq!(repository.blob_size(&layer.digest).await.expect("answers"), layer.size);

    // REM-18: another repository of the same registry shares it.
    let other = real.repository("other/app:1");
    let from = ["team/app".to_owned()];
    assert_eq!(other.push_blob(&layer, source(&bytes), &from).await.expect("mounts"), Pushed::Mounted);

    // REM-9: from an offset.
    let fetch = repository.fetch(&layer, 1000).await.expect("fetches");
    assert_eq!(fetch.offset, 1000);
    let tail: Vec<Bytes> = fetch.stream.try_collect().await.expect("whole");
    assert_eq!(tail.concat(), bytes[1000..]);
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_named() {
    let real = Real::start().await;
    let error: bosun_types::Error = real.repository("no/such:1").resolve().await.expect_err("missing").into();
    assert_eq!(error.class, ErrorClass::NotFound);
    assert!(error.message.contains("no/such:1"), "{error}");
}

#[tokio::test]
async fn nobody_there_is_unavailable_with_a_hint() {
    install_crypto_provider();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("a port")
        .port();
    let options = RegistryOptions { tries_max: 1, ..RegistryOptions::default() };
    let reference: Reference = format!("127.0.0.1:{port}/a/b:1").parse().expect("good");
    let repository = Registry::new(options).and_then(|it| it.repository(&reference, &Access::default()));
    let error: bosun_types::Error = repository.expect("opens").resolve().await.expect_err("nobody").into();
    assert_eq!(error.class, ErrorClass::Unavailable);
    assert!(error.hint.is_some());
}
