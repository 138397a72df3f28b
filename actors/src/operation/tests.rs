//! The driver's laws: order, undo from the failing step, stuck when an undo fails.

use std::sync::Mutex;

use super::*;

static PLAN: Plan = Plan { name: "probe", steps: &["one", "two", "three"] };

#[derive(Default)]
struct Probe {
    fails: Option<usize>,
    undo_fails: Option<usize>,
    journal: Mutex<Vec<String>>,
}

impl Probe {
    fn note(&self, line: String) {
        self.journal.lock().expect("not poisoned").push(line);
    }

    fn journal(&self) -> Vec<String> {
        self.journal.lock().expect("not poisoned").clone()
    }
}

impl Operation for Probe {
    fn plan(&self) -> &'static Plan {
        &PLAN
    }

    fn forward(&self, step: usize) -> BoxFuture<'_, Result<()>> {
        self.note(format!("+{step}"));
        let result = if self.fails == Some(step) { Err(Error::unavailable("asked to")) } else { Ok(()) };
        Box::pin(async { result })
    }

    fn undo(&self, step: usize) -> BoxFuture<'_, Result<()>> {
        self.note(format!("-{step}"));
        let result = if self.undo_fails == Some(step) { Err(Error::internal("asked to")) } else { Ok(()) };
        Box::pin(async { result })
    }
}

#[tokio::test]
async fn steps_run_in_order() {
    let probe = Probe::default();
    perform(&probe).await.expect("nothing fails");
    assert_eq!(probe.journal(), ["+0", "+1", "+2"]);
}

#[tokio::test]
async fn each_failing_step_has_itself_and_all_before_it_taken_back() {
    for fails in 0..3 {
        let probe = Probe { fails: Some(fails), ..Probe::default() };
        let failure = perform(&probe).await.expect_err("fails");
        assert_eq!(failure, Failure::Undone(Error::unavailable("asked to")));
        let wanted: Vec<String> = (0..=fails)
            .map(|step| format!("+{step}"))
            .chain((0..=fails).rev().map(|step| format!("-{step}")))
            .collect();
        assert_eq!(probe.journal(), wanted);
    }
}

#[tokio::test]
async fn an_undo_that_fails_leaves_the_operation_stuck() {
    let probe = Probe { fails: Some(2), undo_fails: Some(1), ..Probe::default() };
    let failure = perform(&probe).await.expect_err("fails");
    assert!(matches!(failure, Failure::Stuck { .. }));
    assert_eq!(probe.journal(), ["+0", "+1", "+2", "-2", "-1"]);
}

#[test]
fn every_intent_has_a_plan_of_its_name() {
    let names: Vec<&str> = registry().iter().map(|plan| plan.name).collect();
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len());
    for plan in registry() {
        assert!(!plan.steps.is_empty(), "{} has no steps", plan.name);
    }
}
