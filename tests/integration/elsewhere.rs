//! Layers that may not be given on: pulled from addresses of their own, pushed only when that is asked for, left out of archives or not. The
//! registry is docker's, the addresses are a small server's of the test.

use bosun_client::Client;
use bosun_registry::testing::{Fault, FaultyRegistry};
use bosun_storage::image::digest_of;
use bosun_storage::image::writer::{BuiltImage, Dialect, ImageBuilder};
use bosun_tests::client::namespace;
use bosun_tests::fixture;
use bosun_tests::registry::{Guards, Registry, SECRET, USER};
use bosun_tests::world::World;
use bosun_types::content::Descriptor;
use bosun_types::platform::Platform;
use bosun_types::reference::Reference;
use bosun_types::snapshot::SNAPSHOTTER_DEFAULT;
use bosun_types::transfer::{
    Credential, ExportRequest, ImportRequest, Platforms, PullRequest, PushRequest, TransferKind,
};
use bosun_types::{ErrorClass, ImageName, NamespaceName};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::distribution::pull;

const DOCKER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
const OCI: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";

/// An image whose second layer may not be given on, and is at `http://<host>/files/<digest>`.
fn image(dialect: Dialect, platform: &str, number: usize, host: &str) -> (BuiltImage, Descriptor) {
    let platform = Platform::parse(platform).expect("good");
    let plain = ImageBuilder { dialect, platform, ..ImageBuilder::new() }
        .layer(fixture::data_layer(number, 1000).expect("a layer"))
        .layer(fixture::data_layer(number + 1, 300_000).expect("a layer"))
        .build();
    let (target, bytes) = plain.blobs.last().expect("its manifest").clone();
    let mut manifest: Value = serde_json::from_slice(&bytes).expect("JSON");
    let media_type = if dialect == Dialect::Docker { DOCKER } else { OCI };
    let layer = &mut manifest["layers"][1];
    layer["mediaType"] = json!(media_type);
    let digest = layer["digest"].as_str().expect("a digest").to_owned();
    layer["urls"] = json!([format!("http://{host}/gone/x"), format!("http://{host}/files/{digest}")]);
    let bytes = serde_json::to_vec(&manifest).expect("JSON");
    let target = Descriptor { digest: digest_of(&bytes), size: bytes.len() as u64, ..target };
    let mut blobs = plain.blobs;
    blobs.pop();
    blobs.push((target.clone(), bytes));
    let foreign = blobs.iter_mut().find(|(blob, _)| blob.digest.to_string() == digest).expect("the layer");
    foreign.0.media_type = media_type.to_owned();
    let foreign = foreign.0.clone();
    (BuiltImage { blobs, target, platforms: plain.platforms }, foreign)
}

fn host_platform() -> String {
    Platform::host().to_string()
}

/// Everything to the registry but the layer, which goes to the server.
async fn offer(built: &BuiltImage, foreign: &Descriptor, reference: &Reference, files: &FaultyRegistry) {
    let (given, kept): (Vec<_>, Vec<_>) =
        built.blobs.iter().cloned().partition(|(blob, _)| blob.digest != foreign.digest);
    files.add_blob(&foreign.media_type, Bytes::from(kept[0].1.clone()));
    let given = BuiltImage { blobs: given, ..built.clone() };
    let access = bosun_registry::Access { plain_http: false, credential: Some(credential()) };
    fixture::push_as(&given, reference, None, &access).await.expect("pushes");
}

fn credential() -> Credential {
    Credential { user: USER.to_owned(), secret: SECRET.to_owned() }
}

struct Place {
    world: World,
    registry: Registry,
    files: FaultyRegistry,
    client: Client,
    _daemon: bosun_tests::world::Daemon,
}

impl Place {
    async fn new() -> Self {
        let world = World::new();
        let registry = Registry::guarded(&world.path("r"), &Guards { users: true, ..Guards::default() });
        let files = FaultyRegistry::start().await.expect("listens");
        let _daemon = world.start();
        let client = world.client().await;
        Self { world, registry, files, client, _daemon }
    }

    fn transfers(&self) -> bosun_client::Transfers {
        namespace(&self.client).transfers().with_credential(Some(credential()))
    }

    async fn pull(&self, request: PullRequest) -> bosun_types::Result<()> {
        self.transfers().pull(request).await?.wait().await.map(drop)
    }

    async fn push(&self, request: PushRequest) -> bosun_types::Result<()> {
        self.transfers().push(request).await?.wait().await.map(drop)
    }

    /// The server was asked, and saw nothing of the registry's secret.
    fn assert_asked_as_nobody(&self) {
        let seen = self.files.seen();
        assert!(seen.iter().any(|seen| seen.line.starts_with("GET /files/")), "{seen:?}");
        assert!(seen.iter().all(|seen| !seen.headers.contains_key("authorization")), "{seen:?}");
    }
}

async fn pulled_and_pushed(dialect: Dialect) {
    let place = Place::new().await;
    let (built, foreign) = image(dialect, &host_platform(), 0, place.files.host());
    let reference = place.registry.reference("team/windows:1");
    offer(&built, &foreign, &reference, &place.files).await;
    // Cut in the middle: it goes on from there.
    place.files.fault("/files/", 1, Fault::CutAt(100_000));
    place.pull(pull(reference.clone())).await.expect("pulls");
    place.assert_asked_as_nobody();
    let ranged = place.files.seen().iter().any(|seen| seen.headers.contains_key("range"));
    assert!(ranged, "{:?}", place.files.seen());
    let name: ImageName = reference.to_string().parse().expect("good");
    let ours = namespace(&place.client).images().image(name.clone());
    let detail = ours.inspect(None, SNAPSHOTTER_DEFAULT).await.expect("inspects");
    assert!(detail.unpacked && detail.missing.is_empty(), "{detail:?}");
    assert_eq!(detail.layers[1], foreign);
    // Pushed to where nobody has it: the layer stays here, unless it is asked for.
    let file = place.registry.blob(&foreign.digest.hex());
    let to = |text: &str| PushRequest {
        image: Some(name.clone()),
        ..PushRequest::new(place.registry.reference(text))
    };
    place.push(to("other/windows:1")).await.expect("pushes");
    assert!(!file.exists(), "it was not given on");
    place.push(PushRequest { non_distributable: true, ..to("third/windows:1") }).await.expect("pushes");
    assert_eq!(std::fs::metadata(&file).expect("is there").len(), foreign.size);
    // What the registry has now comes from there when the address is gone.
    place.files.fault("/files/", 1000, Fault::Status(404, None));
    let elsewhere = place.client.namespace(NamespaceName::new("elsewhere").expect("good"));
    let transfers = elsewhere.transfers().with_credential(Some(credential()));
    let again = transfers.pull(pull(place.registry.reference("third/windows:1"))).await.expect("starts");
    again.wait().await.expect("pulls");
    place.world.check(&place.client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_8_a_foreign_layer_of_dockers_comes_from_its_address_and_is_pushed_only_when_asked() {
    pulled_and_pushed(Dialect::Docker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_8_a_nondistributable_layer_of_oci_comes_from_its_address_and_is_pushed_only_when_asked() {
    pulled_and_pushed(Dialect::Oci).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_8_a_foreign_layer_is_verified_and_its_absence_is_told() {
    let place = Place::new().await;
    let (built, foreign) = image(Dialect::Docker, &host_platform(), 0, place.files.host());
    let reference = place.registry.reference("team/windows:1");
    offer(&built, &foreign, &reference, &place.files).await;
    for (fault, class) in [
        (Fault::OtherBytes, ErrorClass::FailedPrecondition),
        (Fault::TooLong, ErrorClass::DataLoss),
        (Fault::Status(404, None), ErrorClass::NotFound),
        (Fault::Status(401, None), ErrorClass::Unauthenticated),
    ] {
        place.files.heal();
        place.files.fault("/files/", 1000, fault.clone());
        let error = place.pull(pull(reference.clone())).await.expect_err("fails");
        assert_eq!(error.class, class, "{fault:?}: {error}");
        assert!(error.to_string().contains(&foreign.digest.to_string()), "{error}");
    }
    assert!(namespace(&place.client).images().list().await.expect("lists").is_empty());
    assert!(place.client.operations().await.expect("lists").is_empty());
    place.files.heal();
    place.pull(pull(reference)).await.expect("pulls");
    place.world.check(&place.client).await;
}

/// Of an index for several platforms, as images for Windows usually are.
#[tokio::test(flavor = "multi_thread")]
async fn rem_8_foreign_layers_of_other_platforms_come_too_when_all_are_asked_for() {
    let place = Place::new().await;
    let (host, first) = image(Dialect::Docker, &host_platform(), 0, place.files.host());
    let (other, second) = image(Dialect::Docker, "windows/amd64", 10, place.files.host());
    let index = BuiltImage::index(vec![host, other.clone()], Dialect::Docker);
    let reference = place.registry.reference("team/windows:1");
    let layer = other.blob(&second.digest).expect("there").to_vec();
    place.files.add_blob(DOCKER, Bytes::from(layer));
    let without = index.blobs.iter().filter(|(blob, _)| blob.digest != second.digest).cloned().collect();
    offer(&BuiltImage { blobs: without, ..index }, &first, &reference, &place.files).await;
    place.pull(PullRequest { platforms: Platforms::All, ..pull(reference) }).await.expect("pulls");
    for layer in [first, second] {
        let record = namespace(&place.client).content().info(layer.digest).await.expect("is here");
        assert_eq!(record.size, layer.size);
    }
    place.assert_asked_as_nobody();
    place.world.check(&place.client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_has_foreign_layers_or_not_and_comes_in_without_them() {
    let place = Place::new().await;
    let (built, foreign) = image(Dialect::Oci, &host_platform(), 0, place.files.host());
    let reference = place.registry.reference("team/windows:1");
    offer(&built, &foreign, &reference, &place.files).await;
    place.pull(pull(reference.clone())).await.expect("pulls");
    let name = reference.to_string();
    let path = place.world.path("whole.tar").display().to_string();
    let run = |words: &[&str]| place.world.bosun(words).output().expect("runs");
    assert!(run(&["save", "-o", &path, &name]).status.success());
    let whole = std::fs::metadata(&path).expect("is there").len();
    assert!(run(&["save", "--skip-non-distributable", "-o", &path, &name]).status.success());
    let without = std::fs::metadata(&path).expect("is there").len();
    assert!(whole - without >= foreign.size, "{whole} {without}");
    let refused = run(&["save", "--format", "docker", "--skip-non-distributable", "-o", &path, &name]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("docker reads no archive"), "{refused:?}");
    // Into a namespace that has nothing: kept, not unpacked; then a pull fetches the rest.
    let elsewhere = place.client.namespace(NamespaceName::new("elsewhere").expect("good"));
    let images = vec![name.parse::<ImageName>().expect("good")];
    let request =
        ExportRequest { images, platforms: Platforms::Host, docker: false, skip_non_distributable: true };
    let mut export = namespace(&place.client).transfers().export(request).await.expect("starts");
    let mut archive = Vec::new();
    while let Some(chunk) = export.next().await.expect("reads") {
        archive.extend_from_slice(&chunk);
    }
    let import = async |unpack: Option<String>| {
        let request = ImportRequest { unpack, ..ImportRequest::default() };
        let mut sink = elsewhere.transfers().import(request).await?;
        sink.write(Bytes::from(archive.clone())).await?;
        sink.finish().await?.wait().await
    };
    // The file is here, of the other namespace; that does not make it this one's.
    namespace(&place.client).images().delete_sync(name.parse().expect("good")).await.expect("deletes");
    let error = import(Some(SNAPSHOTTER_DEFAULT.to_owned())).await.expect_err("cannot be unpacked");
    assert!(error.message.contains("may not be given on"), "{error}");
    assert_eq!(import(None).await.expect("comes in").len(), 1);
    assert_eq!(elsewhere.content().info(foreign.digest).await.expect_err("none").class, ErrorClass::NotFound);
    let transfers = elsewhere.transfers().with_credential(Some(credential()));
    transfers.pull(pull(reference)).await.expect("starts").wait().await.expect("pulls");
    elsewhere.content().info(foreign.digest).await.expect("is here");
    let kinds: Vec<TransferKind> =
        transfers.list().await.expect("lists").iter().map(|transfer| transfer.kind).collect();
    assert_eq!(kinds.last(), Some(&TransferKind::Pull));
    place.world.check(&place.client).await;
}
