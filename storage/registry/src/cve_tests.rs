//! Named regressions: what registries, mirrors and token services have done to clients of this field.

use std::time::Duration;

use bosun_types::ErrorClass;
use bosun_types::content::Descriptor;
use bosun_types::reference::Reference;
use bosun_types::transfer::Credential;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};

use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};

use super::*;
use crate::client::digest_of;
use crate::pull::{DIGEST_HEADER, descriptor_of};
use crate::testing::{Fault, FaultyRegistry};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const SECRET: &str = "hush";

struct World {
    server: FaultyRegistry,
    repository: Repository,
}

impl World {
    async fn new() -> Self {
        Self::with(RegistryOptions { tries_max: 2, ..RegistryOptions::default() }).await
    }

    async fn with(options: RegistryOptions) -> Self {
        install_crypto_provider();
        let server = FaultyRegistry::start().await.expect("listens");
        let reference: Reference = format!("{}/team/app:1", server.host()).parse().expect("good");
        let credential = Some(Credential { user: "user".to_owned(), secret: SECRET.to_owned() });
        let registry = Registry::new(options).expect("a client");
        let repository = registry.repository(&reference, &Access { plain_http: false, credential });
        Self { server, repository: repository.expect("opens") }
    }

    async fn resolve(&self) -> Result<Descriptor> {
        self.repository.resolve().await
    }
}

/// Nothing that came to it tells the secret, plain or in base64.
fn assert_kept_from(other: &FaultyRegistry) {
    for seen in other.seen() {
        let all = format!("{} {:?}", seen.line, seen.headers);
        assert!(!all.contains(SECRET) && !all.to_lowercase().contains("authorization"), "{all}");
    }
}

async fn another() -> FaultyRegistry {
    FaultyRegistry::start().await.expect("listens")
}

#[tokio::test]
async fn cve_2020_15157_what_a_challenge_of_another_host_says_is_not_done() {
    let (world, other) = (World::new().await, another().await);
    let layer = world.server.add_blob(LAYER, "0123456789");
    let away = format!("Location: http://{}/v2/x/blobs/{}", other.host(), layer.digest);
    world.server.fault("blobs", 9, Fault::Headers(302, vec![away]));
    let realm = format!("Bearer realm=\"http://{}/token\",service=\"x\"", other.host());
    other.need("Bearer never", &realm);
    let fetched = world.repository.fetch(&layer, 0).await.err().expect("refused");
    assert_eq!(fetched.class(), ErrorClass::Unauthenticated);
    assert!(other.seen().iter().all(|seen| !seen.line.contains("/token")), "its token service is not asked");
    assert_kept_from(&other);
}

#[tokio::test]
async fn cve_2020_15157_settings_of_a_host_do_not_go_along_with_a_redirect() {
    let (hosts, other) = (tempfile::tempdir().expect("a folder"), another().await);
    let options =
        RegistryOptions { hosts_directory: Some(hosts.path().to_owned()), ..RegistryOptions::default() };
    let world = World::with(options.clone()).await;
    let own = hosts.path().join(world.server.host());
    std::fs::create_dir(&own).expect("makes");
    std::fs::write(own.join("hosts.toml"), "[header]\nx-token = \"hush\"\n").expect("writes");
    let reference: Reference = format!("{}/team/app:1", world.server.host()).parse().expect("good");
    let registry = Registry::new(options).expect("a client");
    let repository = registry.repository(&reference, &Access::default()).expect("opens");
    let layer = other.add_blob(LAYER, "0123456789");
    let away = format!("Location: http://{}/v2/x/blobs/{}", other.host(), layer.digest);
    world.server.fault("blobs", 9, Fault::Headers(307, vec![away]));
    let fetch = repository.fetch(&layer, 0).await.expect("follows");
    let bytes: Vec<Bytes> = fetch.stream.try_collect().await.expect("whole");
    assert_eq!(bytes.concat(), b"0123456789");
    assert!(
        world.server.seen().iter().all(|seen| seen.headers.get("x-token").is_some_and(|it| it == SECRET))
    );
    assert_kept_from(&other);
}

/// A redirect to a file, or into what only this machine reaches. Loopback may lead to loopback, so the pure table in `places` has the rest.
#[tokio::test]
async fn cve_ssrf_a_redirect_leads_to_no_file_and_no_metadata_service() {
    let world = World::new().await;
    let layer = world.server.add_blob(LAYER, "0123456789");
    for to in ["file:///etc/shadow", "gopher://127.0.0.1/", "ftp://127.0.0.1/x", "data:text/plain,x"] {
        world.server.fault("blobs", 1, Fault::Headers(307, vec![format!("Location: {to}")]));
        let error = world.repository.fetch(&layer, 0).await.err().expect(to);
        assert_eq!(error.class(), ErrorClass::DataLoss, "{to}: {error}");
    }
}

#[tokio::test]
async fn cve_ssrf_a_redirect_without_an_end_ends() {
    let world = World::new().await;
    let layer = world.server.add_blob(LAYER, "0123456789");
    let round = format!("Location: /v2/team/app/blobs/{}", layer.digest);
    world.server.fault("blobs", 1000, Fault::Headers(302, vec![round]));
    let error = world.repository.fetch(&layer, 0).await.err().expect("ends");
    assert_eq!(error.class(), ErrorClass::DataLoss);
    assert!(world.server.seen().len() <= 10, "{}", world.server.seen().len());
}

#[tokio::test]
async fn cve_ssrf_an_upload_is_sent_to_no_file() {
    let world = World::new().await;
    let layer = Descriptor { media_type: LAYER.to_owned(), digest: digest_of(b"x"), size: 1 };
    world.server.fault("POST", 1, Fault::Headers(202, vec!["Location: file:///etc/cron.d/x".to_owned()]));
    let source: BlobSource =
        std::sync::Arc::new(|_| futures::stream::iter([Ok(Bytes::from_static(b"x"))]).boxed());
    let error = world.repository.push_blob(&layer, source, &[]).await.expect_err("refused");
    assert_eq!(error.class(), ErrorClass::DataLoss);
}

#[tokio::test]
async fn cve_realm_a_token_service_is_no_file_and_no_other_scheme() {
    let world = World::new().await;
    for realm in ["file:///etc/passwd", "ftp://127.0.0.1/t", "javascript:x", "//", ""] {
        world.server.need("Bearer never", &format!("Bearer realm=\"{realm}\",service=\"x\""));
        let error = world.resolve().await.expect_err(realm);
        assert_eq!(error.class(), ErrorClass::DataLoss, "{realm}: {error}");
        assert!(!error.to_string().contains(SECRET));
    }
}

#[tokio::test]
async fn cve_realm_the_secret_goes_into_a_body_and_never_into_an_address() {
    let world = World::new().await;
    let realm = format!("Bearer realm=\"http://{}/token\",service=\"x\"", world.server.host());
    world.server.need("Bearer never", &realm);
    let _ = world.resolve().await;
    let seen = world.server.seen();
    assert!(seen.iter().any(|seen| seen.line.starts_with("POST /token")), "{seen:?}");
    assert!(seen.iter().all(|seen| !seen.line.contains(SECRET)), "{seen:?}");
}

#[tokio::test]
async fn cve_www_authenticate_of_endless_length_or_number_is_an_error_and_no_memory() {
    let world = World::new().await;
    let long = format!("WWW-Authenticate: Bearer realm=\"http://x/{}\"", "x".repeat(200_000));
    world.server.fault("manifests", 1, Fault::Headers(401, vec![long]));
    assert_eq!(world.resolve().await.expect_err("refused").class(), ErrorClass::Unauthenticated);
    let many = (0..5000).map(|number| format!("X-{number}: {}", "x".repeat(1000))).collect();
    world.server.fault("manifests", 9, Fault::Headers(200, many));
    assert_eq!(world.resolve().await.expect_err("refused").class(), ErrorClass::Unavailable);
}

#[tokio::test]
async fn cve_token_of_endless_length_or_with_line_breaks_is_refused() {
    let endless = format!("{{\"token\":\"{}\"}}", "x".repeat(1 << 20));
    for token in [endless.as_str(), "{\"token\":\"a\\r\\nX-Evil: 1\"}", "{}", "[]"] {
        let (world, service) = (World::new().await, another().await);
        service.add_manifest("t", "application/json", token.to_owned());
        service.fault("POST", 99, Fault::Status(404, None));
        let realm = format!("http://{}/v2/token/manifests/t", service.host());
        world.server.need("Bearer never", &format!("Bearer realm=\"{realm}\",service=\"x\""));
        assert_eq!(world.resolve().await.expect_err("refused").class(), ErrorClass::DataLoss);
    }
}

/// Whoever serves other bytes under a digest is found out, whatever the header says.
#[tokio::test]
async fn cve_digest_confusion_the_bytes_decide_and_not_the_header() {
    let world = World::new().await;
    let target = world.server.add_manifest("1", MANIFEST, "{\"a\":1}");
    let lie = vec![format!("Docker-Content-Digest: {}", target.digest), format!("Content-Type: {MANIFEST}")];
    world.server.fault("GET", 9, Fault::Headers(200, lie));
    let error = world.repository.fetch_bytes(&target).await.expect_err("other bytes");
    assert_eq!(error.class(), ErrorClass::DataLoss);
}

#[test]
fn cve_2024_3727_a_digest_that_is_a_path_is_no_digest() {
    let reference: Reference = "r.io/team/app:1".parse().expect("good");
    let said = |digest: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(DIGEST_HEADER, digest.parse().expect("a header"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("2"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MANIFEST));
        descriptor_of(&headers, &reference)
    };
    assert!(said(&digest_of(b"x").to_string()).is_some());
    for digest in ["sha256:../../../etc/passwd", "md5:00", "sha256:", "sha256:ZZ", "sha512:00", "../x", ""] {
        assert!(said(digest).is_none(), "{digest}");
    }
}

/// A manifest that never ends, or says that it is larger than anyone takes.
#[tokio::test]
async fn cve_manifest_of_endless_size_is_refused() {
    let options = RegistryOptions {
        tries_max: 1,
        small_deadline: Duration::from_secs(20),
        ..RegistryOptions::default()
    };
    let world = World::with(options).await;
    let target = world.server.add_manifest("1", MANIFEST, vec![b' '; 9 << 20]);
    let error = world.repository.fetch_bytes(&target).await.expect_err("9 MiB");
    assert_eq!(error.class(), ErrorClass::DataLoss);
    assert!(world.server.seen().is_empty(), "not even asked for");
    world.server.fault("HEAD", 1, Fault::Status(405, None));
    assert_eq!(world.resolve().await.expect_err("9 MiB").class(), ErrorClass::DataLoss);
}

/// Bytes beyond what a descriptor promised, compressed or not, are not read on.
#[tokio::test]
async fn cve_a_blob_that_goes_on_beyond_its_size_is_cut_off() {
    let world = World::new().await;
    let layer = world.server.add_blob(LAYER, "0123456789");
    world.server.fault("blobs", 1, Fault::TooLong);
    let fetch = world.repository.fetch(&layer, 0).await.expect("begins");
    let all: Result<Vec<Bytes>> = fetch.stream.try_collect().await;
    assert_eq!(all.expect_err("too much").class(), ErrorClass::DataLoss);
}

/// What a registry says in an error is text for people: short, and without control characters.
#[tokio::test]
async fn cve_an_error_text_of_a_registry_moves_no_cursor_and_fills_no_screen() {
    let world = World::new().await;
    let layer = world.server.add_blob(LAYER, "0123456789");
    let evil = format!("\u{1b}[2J\r\nfaked line\u{7}{}", "x".repeat(100_000));
    world.server.fault("blobs", 9, Fault::Refusal(418, evil));
    let error = world.repository.fetch(&layer, 0).await.err().expect("refused").to_string();
    assert!(error.len() < 1000 && error.contains("faked line"), "{}", error.len());
    assert!(!error.contains(char::is_control), "{error:?}");
}

#[test]
fn cve_a_credential_does_not_print_its_secret() {
    let credential = Credential { user: "user".to_owned(), secret: SECRET.to_owned() };
    let access = Access { plain_http: false, credential: Some(credential) };
    assert!(!format!("{access:?}").contains(SECRET));
}
