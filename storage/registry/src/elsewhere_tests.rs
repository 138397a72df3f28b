//! REM-8: layers that may not be given on, at addresses that their manifest names. Nothing of the registry's goes there.

use bosun_types::ErrorClass;
use bosun_types::content::Descriptor;
use bosun_types::reference::Reference;
use bosun_types::transfer::Credential;
use bytes::Bytes;
use futures::TryStreamExt as _;

use super::*;
use crate::testing::{Fault, FaultyRegistry};

const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
const BYTES: &str = "0123456789";
const SECRET: &str = "hush";

struct World {
    registry: FaultyRegistry,
    /// Somebody else's server.
    files: FaultyRegistry,
    repository: Repository,
    layer: Descriptor,
    /// Settings of the registry: a header that is a secret.
    _hosts: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        install_crypto_provider();
        let (registry, files) = (
            FaultyRegistry::start().await.expect("listens"),
            FaultyRegistry::start().await.expect("listens"),
        );
        let hosts = tempfile::tempdir().expect("a folder");
        let own = hosts.path().join(registry.host());
        std::fs::create_dir(&own).expect("makes");
        std::fs::write(own.join("hosts.toml"), "[header]\nx-token = \"hush\"\n").expect("writes");
        let hosts_directory = Some(hosts.path().to_owned());
        let options = RegistryOptions { tries_max: 1, hosts_directory, ..RegistryOptions::default() };
        let reference: Reference = format!("{}/team/app:1", registry.host()).parse().expect("good");
        let credential = Some(Credential { user: "user".to_owned(), secret: SECRET.to_owned() });
        let access = Access { plain_http: false, credential };
        let repository = Registry::new(options).expect("a client").repository(&reference, &access);
        let layer = files.add_blob(FOREIGN, BYTES);
        Self { registry, files, repository: repository.expect("opens"), layer, _hosts: hosts }
    }

    fn url(&self) -> String {
        format!("http://{}/files/{}", self.files.host(), self.layer.digest)
    }

    async fn fetch(&self, url: &str, offset: u64) -> Result<(u64, Vec<u8>)> {
        let fetch = self.repository.fetch_elsewhere(url, &self.layer, offset).await?;
        let bytes: Vec<Bytes> = fetch.stream.try_collect().await?;
        Ok((fetch.offset, bytes.concat()))
    }

    /// Whoever saw a secret of the registry's.
    fn assert_kept(&self) {
        for seen in self.files.seen() {
            let all = format!("{} {:?}", seen.line, seen.headers);
            assert!(!all.contains(SECRET) && !all.to_lowercase().contains("authorization"), "{all}");
        }
    }
}

#[tokio::test]
async fn rem_8_a_layer_comes_from_its_own_address_whole_or_from_where_it_was_cut() {
    let world = World::new().await;
    assert_eq!(world.fetch(&world.url(), 0).await.expect("whole"), (0, BYTES.into()));
    assert_eq!(world.fetch(&world.url(), 4).await.expect("the rest"), (4, BYTES[4..].into()));
    assert_eq!(world.fetch(&world.url(), 10).await.expect("nothing more"), (10, Vec::new()));
    world.files.fault("files", 1, Fault::IgnoreRange);
    assert_eq!(world.fetch(&world.url(), 4).await.expect("the whole again"), (0, BYTES.into()));
    world.files.fault("files", 1, Fault::TooLong);
    assert_eq!(world.fetch(&world.url(), 0).await.expect_err("too long").class(), ErrorClass::DataLoss);
    world.files.fault("files", 1, Fault::Status(404, None));
    assert_eq!(world.fetch(&world.url(), 0).await.expect_err("none").class(), ErrorClass::NotFound);
    world.assert_kept();
    assert!(world.registry.seen().is_empty(), "the registry is not asked");
}

#[tokio::test]
async fn cve_2020_15157_a_challenge_at_an_address_of_a_manifest_is_not_answered() {
    let world = World::new().await;
    for challenge in
        ["Basic realm=\"x\"".to_owned(), format!("Bearer realm=\"http://{}/token\"", world.files.host())]
    {
        world.files.need("Bearer never", &challenge);
        let error = world.fetch(&world.url(), 0).await.expect_err("refused");
        assert_eq!(error.class(), ErrorClass::Unauthenticated, "{error}");
    }
    assert!(world.files.seen().iter().all(|seen| !seen.line.contains("/token")), "its service is not asked");
    world.assert_kept();
}

#[tokio::test]
async fn cve_ssrf_an_address_of_a_manifest_is_no_file_and_has_no_secret_in_it() {
    let world = World::new().await;
    let with_secret = format!("http://user:{SECRET}@{}/files/x", world.files.host());
    for url in ["file:///etc/shadow", "ftp://127.0.0.1/x", "gopher://127.0.0.1/", "//x/y", "", &with_secret] {
        let error = world.fetch(url, 0).await.expect_err(url);
        assert_eq!(error.class(), ErrorClass::DataLoss, "{url}: {error}");
        assert!(!error.to_string().contains(SECRET), "{error}");
    }
    assert!(world.files.seen().is_empty());
}

#[tokio::test]
async fn cve_ssrf_what_an_address_of_a_manifest_is_redirected_to_follows_the_rules_of_redirects() {
    let world = World::new().await;
    for to in ["file:///etc/shadow", "ftp://127.0.0.1/x"] {
        world.files.fault("files", 1, Fault::Headers(302, vec![format!("Location: {to}")]));
        assert_eq!(world.fetch(&world.url(), 0).await.expect_err(to).class(), ErrorClass::DataLoss);
    }
    // Even back to the registry: it sees nobody that it knows.
    let stored = world.registry.add_blob(FOREIGN, BYTES);
    let back = format!("Location: http://{}/v2/team/app/blobs/{}", world.registry.host(), stored.digest);
    world.files.fault("files", 1, Fault::Headers(307, vec![back]));
    assert_eq!(world.fetch(&world.url(), 0).await.expect("follows"), (0, BYTES.into()));
    let seen = world.registry.seen();
    assert_eq!(seen.len(), 1);
    assert!(
        !format!("{seen:?}").contains(SECRET) && !seen[0].headers.contains_key("authorization"),
        "{seen:?}"
    );
}

/// A registry elsewhere sends nobody to what only this machine reaches, and from TLS nobody to where there is none.
#[tokio::test]
async fn cve_ssrf_a_distant_registrys_manifest_leads_to_nothing_on_this_machine() {
    install_crypto_provider();
    let files = FaultyRegistry::start().await.expect("listens");
    let layer = files.add_blob(FOREIGN, BYTES);
    let reference: Reference = "registry.example/team/app:1".parse().expect("good");
    let registry = Registry::new(RegistryOptions::default()).expect("a client");
    let repository = registry.repository(&reference, &Access::default()).expect("opens");
    for url in [format!("https://{}/x", files.host()), "http://cdn.example/x".to_owned()] {
        let error = repository.fetch_elsewhere(&url, &layer, 0).await.err().expect("refused");
        assert_eq!(error.class(), ErrorClass::DataLoss, "{url}: {error}");
    }
    assert!(files.seen().is_empty());
}
