//! F8: a full disk is a typed error; the daemon serves on, and heals when there is space.

use std::io::Write as _;
use std::process::Command;

use bosun_tests::client::{import, namespace, shell};
use bosun_tests::world::{World, eventually};
use bosun_types::ErrorClass;
use bosun_types::task::{ExitCause, TaskRequest};

struct Small(std::path::PathBuf);

impl Small {
    fn mount(path: std::path::PathBuf) -> Self {
        std::fs::create_dir_all(&path).expect("makes");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=160m,mode=700", "bosun-small"])
            .arg(&path)
            .status()
            .expect("mount runs");
        assert!(status.success(), "this test needs root");
        Self(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f_8_a_full_disk_is_said_so_and_heals() {
    let world = World::new();
    let _small = Small::mount(world.places().root.clone());
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let filler = world.places().root.join("filler");
    let mut file = std::fs::File::create(&filler).expect("creates");
    while file.write_all(&[7; 1 << 16]).is_ok() {}
    // Fill what is left in small pieces too.
    while file.write_all(&[7; 512]).is_ok() {}
    let noise = bosun_tests::fixture::data_layer(1, 8 << 20).expect("a layer");
    let image = bosun_storage::image::writer::ImageBuilder::new().layer(noise).build();
    let mut archive = Vec::new();
    image.write_oci_tar(&mut archive, Some("test.local/large:1")).expect("an archive");
    let error = bosun_tests::client::import_bytes(&client, archive.clone()).await.expect_err("no space");
    assert_eq!(error.class, ErrorClass::ResourceExhausted, "{error}");
    assert!(client.status().await.is_ok(), "it serves on");
    assert_eq!(namespace(&client).images().list().await.expect("reads").len(), 1);
    drop(file);
    std::fs::remove_file(&filler).expect("removes");
    eventually("imports to work again", || async {
        bosun_tests::client::import_bytes(&client, archive.clone()).await.is_ok()
    })
    .await;
    let run = bosun_client::RunRequest { container: shell("after", "exit 2"), task: TaskRequest::default() };
    let exit = namespace(&client).run(run).await.expect("runs").wait().await.expect("ends");
    assert_eq!(exit.cause, ExitCause::Code(2));
    drop(daemon);
}
