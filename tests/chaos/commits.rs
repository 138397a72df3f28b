//! The daemon dies right before and right after commits of the script: whatever is said to be done is there, whatever is not said may be. The steps of
//! operations are the matrix's; this finds what lies between them, above all what is durable and not yet answered.
//!
//! A few commits each time, by a seed that is printed; `BOSUN_COMMITS` takes more of them.

use std::sync::Arc;

use bosun_tests::client::import;
use bosun_tests::fixture;
use bosun_tests::registry::Registry;
use bosun_tests::world::World;
use bosun_types::reference::Reference;

use super::kill::{Random, seed, setting};
use super::matrix::{Case, all_hold};
use super::script;

/// Those of the import are not always as many.
const FIRST: u64 = 5;
const POINTS: [&str; 2] = ["commit.before_sync", "commit.after_sync"];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f_1_any_commit_may_be_the_last() {
    let mut random = Random(seed());
    let home = tempfile::tempdir().expect("a folder");
    let registry = Registry::start(home.path());
    let reference = registry.reference("chaos/app:1");
    fixture::push(&fixture::layered_image(2, 50_000).expect("an image"), &reference).await.expect("pushes");
    let reference = Arc::new(reference);
    let (first, last) = commits_of_the_script(&reference).await;
    let cases: Vec<Case> = (0..setting("BOSUN_COMMITS", 12))
        .map(|_| {
            let (point, visit) = (POINTS[random.next(2) as usize], first + random.next(last - first));
            Case {
                name: format!("{point}@{visit}"),
                faults: format!("{point}=abort@{visit}"),
                kills: true,
                starts_again: false,
                criu: None,
                reaches: point.to_owned(),
            }
        })
        .collect();
    all_hold(cases.into_iter(), &reference).await;
}

/// The numbers of those that the script makes. How many there are is not the same each time, for some ride with others: not quite to the last.
async fn commits_of_the_script(reference: &Reference) -> (u64, u64) {
    let world = World::new();
    let trace = world.path("trace");
    let _daemon = world.start_with(&[("BOSUN_FAULTS_TRACE", &trace.to_string_lossy())]);
    let client = world.client().await;
    let count = || {
        let reached = std::fs::read_to_string(&trace).unwrap_or_default();
        reached.lines().filter(|point| *point == POINTS[0]).count() as u64
    };
    import(&client).await;
    let before = count();
    script::play(&client, reference, false).await;
    let after = count();
    script::remove_all(&client).await;
    (before + FIRST, before + (after - before) * 4 / 5)
}
