//! The crash matrix: every step of every registered operation fails, is repeated, is undone twice, and is where the daemon dies; before
//! and after it. After each, the invariants hold, what was acknowledged is there, and the whole script works again.

use std::sync::Arc;

use bosun_tests::client::{events, import, namespace};
use bosun_tests::criu::criu;
use bosun_tests::fixture;
use bosun_tests::registry::Registry;
use bosun_tests::world::{Daemon, World, program};
use bosun_types::reference::Reference;
use futures::StreamExt as _;

use super::script;

/// Worlds at a time: each is a daemon and a container now and then.
const AT_ONCE: usize = 4;

/// How a step is disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    FailBefore,
    FailAfter,
    FailBeforeUndoTwice,
    FailAfterUndoTwice,
    Repeat,
    AbortBefore,
    AbortAfter,
}

const FAULTS: [Fault; 7] = [
    Fault::FailBefore,
    Fault::FailAfter,
    Fault::FailBeforeUndoTwice,
    Fault::FailAfterUndoTwice,
    Fault::Repeat,
    Fault::AbortBefore,
    Fault::AbortAfter,
];

impl Fault {
    /// The value of `BOSUN_FAULTS`.
    fn plan(self, step: &str) -> String {
        // Where only a restored container has something to do, the second visit: the first is that of the container that is stored.
        let visit = if is_of_restore(step) { "@2" } else { "" };
        let plan = match self {
            Self::FailBefore => format!("{step}.before=error"),
            Self::FailAfter => format!("{step}.after=error"),
            Self::FailBeforeUndoTwice => format!("{step}.before=error,undo_twice=flag"),
            Self::FailAfterUndoTwice => format!("{step}.after=error,undo_twice=flag"),
            Self::Repeat => format!("{step}.repeat=flag"),
            Self::AbortBefore => format!("{step}.before=abort"),
            Self::AbortAfter => format!("{step}.after=abort"),
        };
        let (first, rest) = plan
            .split_once(',')
            .map_or((plan.as_str(), String::new()), |(first, rest)| (first, format!(",{rest}")));
        format!("{first}{visit}{rest}")
    }

    fn kills(self) -> bool {
        matches!(self, Self::AbortBefore | Self::AbortAfter)
    }
}

fn is_of_restore(step: &str) -> bool {
    matches!(step, "create_task.unpack_checkpoint" | "create_container.apply_layer")
}

fn needs_criu(step: &str) -> bool {
    step.starts_with("checkpoint.") || is_of_restore(step)
}

fn registered_steps() -> Vec<String> {
    let output =
        std::process::Command::new(program("bosund")).arg("crash-points").output().expect("bosund runs");
    let steps: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    assert!(steps.len() >= 10, "{steps:?}");
    steps
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f_1_every_step_of_every_operation_may_fail_repeat_or_be_the_last() {
    let home = tempfile::tempdir().expect("a folder");
    let registry = Registry::start(home.path());
    let reference = registry.reference("chaos/app:1");
    fixture::push(&fixture::layered_image(2, 50_000).expect("an image"), &reference).await.expect("pushes");
    let reference = Arc::new(reference);
    let criu = criu();
    if criu.is_none() {
        eprintln!("SKIPPED: the steps of a checkpoint and of its restore");
    }
    let has_what_it_needs = |step: &String| criu.is_some() || !needs_criu(step);
    let cases = registered_steps()
        .into_iter()
        .filter(has_what_it_needs)
        .flat_map(|step| FAULTS.map(|fault| (step.clone(), fault)));
    let cases = cases.map(|(step, fault)| Case {
        name: format!("{step} {fault:?}"),
        faults: fault.plan(&step),
        kills: fault.kills(),
        // A failed pull keeps what it fetched, for the next try; a start of the daemon sweeps what nobody came for.
        starts_again: step.starts_with("pull.") && !fault.kills(),
        criu: criu.clone().filter(|_| needs_criu(&step)),
        reaches: format!("{step}.before"),
    });
    all_hold(cases, &reference).await;
}

/// One disturbed run of the script, and one that is not.
pub struct Case {
    /// For whoever reads of its failure, and for `BOSUN_MATRIX_ONLY`.
    pub name: String,
    /// The value of `BOSUN_FAULTS`.
    pub faults: String,
    /// The daemon dies of them.
    pub kills: bool,
    /// It is started again although it has not died.
    pub starts_again: bool,
    /// With the part of the script that needs it.
    pub criu: Option<String>,
    /// The crash point that the script must come to.
    pub reaches: String,
}

/// Runs them, some at a time.
pub async fn all_hold(cases: impl Iterator<Item = Case>, reference: &Arc<Reference>) {
    let only = std::env::var("BOSUN_MATRIX_ONLY").unwrap_or_default();
    let wanted = |case: &Case| only.split(',').any(|part| case.name.contains(part));
    let runs = cases.filter(wanted).map(|case| {
        let reference = Arc::clone(reference);
        async move {
            let name = case.name.clone();
            match tokio::spawn(async move { holds(case, &reference).await }).await {
                Ok(()) => None,
                Err(error) => Some(format!("{name}: {}", panic_text(error))),
            }
        }
    });
    let failures: Vec<String> = futures::stream::iter(runs)
        .buffer_unordered(AT_ONCE)
        .filter_map(|failure| async { failure })
        .collect()
        .await;
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default(),
        Err(error) => error.to_string(),
    }
}

async fn holds(case: Case, reference: &Reference) {
    let mut world = World::new();
    let with_copies = case.criu.is_some();
    if let Some(criu) = &case.criu {
        world.use_criu(criu);
    }
    let trace = world.path("trace");
    let daemon =
        world.start_with(&[("BOSUN_FAULTS", &case.faults), ("BOSUN_FAULTS_TRACE", &trace.to_string_lossy())]);
    let client = world.client().await;
    import(&client).await;
    let playing = {
        let (client, reference) = (client.clone(), reference.clone());
        tokio::spawn(async move { script::play(&client, &reference, with_copies).await })
    };
    let (told, daemon) = if case.kills {
        died_and_back(&world, daemon, playing).await
    } else {
        (playing.await.expect("plays"), daemon)
    };
    let reached = std::fs::read_to_string(&trace).unwrap_or_default();
    assert!(reached.lines().any(|point| point == case.reaches), "no script reaches {}", case.reaches);
    let daemon = if case.starts_again {
        daemon.kill();
        world.start()
    } else {
        daemon
    };
    let client = world.client().await;
    world.recovered(&client).await;
    script::verify(&client, &told, reference).await;
    world.check(&client).await;
    script::remove_all(&client).await;
    // Once more, undisturbed: nothing that is left stands in the way.
    let told = script::play(&client, reference, with_copies).await;
    assert_eq!((told.exit, told.image), (Some(3), true), "it works again");
    assert!(told.copies.is_none_or(|told| told.stored && told.ended), "it is stored and restored again");
    script::remove_all(&client).await;
    world.check(&client).await;
    assert!(client.operations().await.expect("lists").is_empty(), "operations are left open");
    assert!(namespace(&client).tasks().await.expect("lists").is_empty());
    script::one_exit_each(&events(&client).await);
    drop(daemon);
}

/// The daemon dies at its point, and is started again without faults while the script goes on.
async fn died_and_back(
    world: &World,
    daemon: Daemon,
    playing: tokio::task::JoinHandle<script::Acknowledged>,
) -> (script::Acknowledged, Daemon) {
    let status = tokio::task::spawn_blocking(move || daemon.ended()).await.expect("waits");
    assert!(!status.success(), "it died of the fault");
    let daemon = world.start();
    (playing.await.expect("plays"), daemon)
}
