//! Bad input is a typed error that names the thing; nothing half done stays; the daemon serves on.

use std::io::Write as _;

use bosun_storage::compression::Compression;
use bosun_storage::image::writer::{ImageBuilder, Layer, LayerBuilder};
use bosun_tests::client::{IMAGE, import, import_bytes, namespace, shell};
use bosun_tests::world::World;
use bosun_types::ErrorClass;
use bosun_types::task::TaskRequest;

#[tokio::test(flavor = "multi_thread")]
async fn malformed_rpc_bytes_end_their_connection_and_no_other() {
    let world = World::new();
    let _daemon = world.start();
    let client = world.client().await;
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0, 0, 0, 0, 0, 0, 0x80, 0x07], &[0xfe, 1, 0, 0]]
    {
        let mut socket = std::os::unix::net::UnixStream::connect(world.address()).expect("connects");
        socket.write_all(bytes).expect("writes");
    }
    assert!(client.status().await.is_ok());
}

/// Path traversal, links out of the root, a bomb: each through a whole import.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_layers_are_refused_and_nothing_outside_is_touched() {
    let world = World::new();
    let _daemon = world.start();
    let client = world.client().await;
    let outside = world.path("outside");
    std::fs::write(&outside, "untouched").expect("writes");
    let target = outside.to_string_lossy().into_owned();
    let hostile = [
        ("dots", raw_layer("../../../../../../../../tmp/bosun-escaped")),
        ("hard link", layer(LayerBuilder::new().hard_link("inside", &target))),
        ("bomb", layer(LayerBuilder::new().file("zeros", 0o644, &vec![0; 200 << 20]))),
    ];
    for (name, layer) in hostile {
        let mut archive = Vec::new();
        let image = ImageBuilder::new().layer(layer).build();
        image.write_oci_tar(&mut archive, Some("test.local/hostile:1")).expect("an archive");
        let error = import_bytes(&client, archive).await.expect_err(name);
        assert!(!matches!(error.class, ErrorClass::Unknown | ErrorClass::Internal), "{name}: {error:?}");
    }
    assert_eq!(std::fs::read_to_string(&outside).expect("reads"), "untouched");
    assert!(!std::path::Path::new("/tmp/bosun-escaped").exists());
    assert!(namespace(&client).images().list().await.expect("lists").is_empty());
    world.check(&client).await;
}

fn layer(builder: LayerBuilder) -> Layer {
    builder.build(Compression::Gzip).expect("a layer")
}

/// One file under a name that no decent writer writes.
fn raw_layer(name: &str) -> Layer {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().expect("GNU").name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(1);
    header.set_mode(0o644);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, &b"x"[..]).expect("appends");
    let bytes = builder.into_inner().expect("ends");
    let digest = bosun_storage::image::digest_of(&bytes);
    Layer { bytes, compression: Compression::None, digest, diff_id: digest }
}

/// A symlinked parent stays inside the root.
#[tokio::test(flavor = "multi_thread")]
async fn a_symlinked_parent_does_not_lead_out() {
    let world = World::new();
    let _daemon = world.start();
    let client = world.client().await;
    let outside = world.path("outside");
    std::fs::create_dir(&outside).expect("makes");
    let layer =
        LayerBuilder::new().symlink("link", &outside.to_string_lossy()).file("link/escaped", 0o644, b"x");
    let image = ImageBuilder::new().layer(layer.build(Compression::None).expect("a layer")).build();
    let mut archive = Vec::new();
    image.write_oci_tar(&mut archive, Some("test.local/link:1")).expect("an archive");
    let _ = import_bytes(&client, archive).await;
    assert_eq!(std::fs::read_dir(&outside).expect("lists").count(), 0);
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_none_and_one_that_ends_too_early() {
    let world = World::new();
    let _daemon = world.start();
    let client = world.client().await;
    assert_eq!(
        import_bytes(&client, b"this is no archive".to_vec()).await.expect_err("refused").class,
        ErrorClass::InvalidArgument
    );
    let mut archive = Vec::new();
    bosun_tests::fixture::busybox_image()
        .expect("an image")
        .write_oci_tar(&mut archive, Some(IMAGE))
        .expect("an archive");
    archive.truncate(archive.len() / 2);
    assert!(import_bytes(&client, archive).await.is_err());
    world.check(&client).await;
    import(&client).await;
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn specs_that_make_no_sense_leave_no_container() {
    let world = World::new();
    let _daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let containers = namespace(&client).containers();
    let mut request = shell("bad-spec", "true");
    request.spec = bosun_types::spec::SpecRequest::Json(b"{ not json".to_vec());
    assert_eq!(containers.create(request).await.expect_err("refused").class, ErrorClass::InvalidArgument);
    let mut request = shell("bad-user", "true");
    request.spec = bosun_types::spec::SpecRequest::Build(Box::new(bosun_types::spec::SpecOptions {
        args: vec!["/bin/true".to_owned()],
        user: Some("nobody-knows".to_owned()),
        ..Default::default()
    }));
    let error = containers.create(request).await.expect_err("refused");
    assert!(error.message.contains("nobody-knows"), "{error}");
    let mut request = shell("bad-image", "true");
    request.image = Some(bosun_types::ImageName::new("test.local/none:1").expect("good"));
    assert_eq!(containers.create(request).await.expect_err("refused").class, ErrorClass::NotFound);
    let mut request = shell("bad-runtime", "true");
    request.runtime.name = "no-such-runtime".to_owned();
    containers.create(request).await.expect("a name is only a name");
    let container = containers.get(bosun_types::ContainerId::new("bad-runtime").expect("good"));
    assert!(container.create_task(TaskRequest::default()).await.is_err());
    world.check(&client).await;
    assert_eq!(containers.list().await.expect("lists").len(), 1);
}
