//! A client of another language, through the published schema alone: the example of the documentation, with pycapnp from PyPI.

use std::path::{Path, PathBuf};
use std::process::Command;

use bosun_tests::fixture;
use bosun_tests::registry::Registry;
use bosun_tests::world::{World, program};

/// The release that the example is known to work with.
const PYCAPNP: &str = "pycapnp==2.2.4";

/// pycapnp in a folder of its own below the build directory, fetched once.
fn pycapnp() -> PathBuf {
    let build = program("bosund").parent().and_then(Path::parent).expect("target/<profile>").to_path_buf();
    let folder = build.join("interop").join(PYCAPNP.replace("==", "-"));
    if folder.is_dir() {
        return folder;
    }
    std::fs::create_dir_all(build.join("interop")).expect("makes the folder");
    // Into a fresh folder, then moved: another test run may do the same.
    let fresh = tempfile::tempdir_in(build.join("interop")).expect("a folder");
    let installed = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"])
        .arg(fresh.path())
        .arg(PYCAPNP)
        .output()
        .expect("python3 is installed: run `cargo xtask test`");
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    if std::fs::rename(fresh.path(), &folder).is_ok() {
        // The folder has moved away from under its guard.
        let _ = fresh.keep();
    }
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_pulls_runs_waits_and_follows_events() {
    let world = World::new();
    let registry = Registry::start(&world.path(""));
    let _daemon = world.start();
    let client = world.client().await;
    let reference = registry.reference("team/app:1");
    fixture::push(&fixture::layered_image(2, 100_000).expect("an image"), &reference).await.expect("pushes");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol/example.py");
    let address = world.address();
    let output = tokio::task::spawn_blocking(move || {
        Command::new("python3")
            .arg(example)
            .arg(address)
            .arg(reference.to_string())
            .env("PYTHONPATH", pycapnp())
            .output()
            .expect("python3 runs")
    })
    .await
    .expect("joins");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    for line in ["exit code 42", "pull: 5 of 5 parts", "afterwards: notFound"] {
        assert!(told.lines().any(|told| told == line), "no line {line:?} in:\n{told}");
    }
    let topics = ["/images/create", "/containers/create", "/tasks/create", "/tasks/start", "/tasks/exit"];
    let line = told.lines().find(|line| line.contains("/tasks/exit")).expect("events");
    let places: Vec<usize> = topics.iter().map(|topic| line.find(topic).expect(topic)).collect();
    assert!(places.is_sorted(), "in order: {line}");
    world.check(&client).await;
}
