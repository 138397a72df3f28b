//! The checklist of OTP's own suite, grouped by law: restart types × exits, each strategy, each escalation, a start that fails inside
//! a restart, a restart loop that can still be shut down; and our departure, parking.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bosun_types::tree::NodeState;
use proptest::strategy::Strategy as _;
use ractor::{Actor, ActorProcessingErr, SupervisionEvent};

use super::decide::counts;
use super::*;

/// What happened, in order: `+a` started, `-a` stopped in order.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    fn add(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

enum Order {
    Panic,
    Fail,
    EndNormally,
    /// Holds the handler for ever: an orderly stop cannot end it.
    Hang,
}

struct Probe;

struct ProbeData {
    name: String,
    journal: Journal,
}

impl Actor for Probe {
    type Msg = Order;
    type State = ProbeData;
    type Arguments = ProbeData;

    async fn pre_start(
        &self,
        _: ActorRef<Order>,
        arguments: ProbeData,
    ) -> Result<ProbeData, ActorProcessingErr> {
        arguments.journal.add(format!("+{}", arguments.name));
        Ok(arguments)
    }

    async fn handle(
        &self,
        myself: ActorRef<Order>,
        order: Order,
        _: &mut ProbeData,
    ) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Panic => panic!("asked to"),
            Order::Fail => Err("asked to".into()),
            Order::Hang => std::future::pending().await,
            Order::EndNormally => {
                myself.stop(None);
                Ok(())
            }
        }
    }

    async fn post_stop(&self, _: ActorRef<Order>, data: &mut ProbeData) -> Result<(), ActorProcessingErr> {
        data.journal.add(format!("-{}", data.name));
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Order>,
        _: SupervisionEvent,
        _: &mut ProbeData,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

struct Bench {
    supervisor: Supervisor,
    journal: Journal,
}

fn probe(name: &str, restart: RestartType, journal: &Journal, broken: Arc<AtomicBool>) -> ChildSpec {
    let (journal, id) = (journal.clone(), name.to_owned());
    let name = id.clone();
    let start: Start = Arc::new(move |parent| {
        let (journal, name, broken) = (journal.clone(), name.clone(), Arc::clone(&broken));
        Box::pin(async move {
            if broken.load(Ordering::SeqCst) {
                return Err(Error::internal("does not start"));
            }
            let spawned = Actor::spawn_linked(None, Probe, ProbeData { name, journal }, parent).await;
            Ok(spawned.map_err(|error| Error::internal(error.to_string()))?.0.get_cell())
        })
    });
    ChildSpec {
        id,
        start,
        restart,
        shutdown: WORKER_SHUTDOWN,
        supervisor: false,
        detail: String::new(),
        waiting: None,
    }
}

fn flags(strategy: Strategy, restarts: usize, dynamic: bool) -> Flags {
    Flags { strategy, intensity: Intensity::new(restarts, 5), dynamic, name: "bench".to_owned() }
}

async fn bench(
    strategy: Strategy,
    restarts: usize,
    dynamic: bool,
    children: &[(&str, RestartType)],
) -> Bench {
    let journal = Journal::default();
    let fine = Arc::new(AtomicBool::new(false));
    let specs =
        children.iter().map(|(name, restart)| probe(name, *restart, &journal, Arc::clone(&fine))).collect();
    let supervisor = spawn(flags(strategy, restarts, dynamic), specs, None).await.expect("starts");
    Bench { supervisor, journal }
}

impl Bench {
    async fn order(&self, child: &str, order: Order) {
        let cell = self.supervisor.find(child).await.expect("answers").expect("runs");
        cell.send_message(order).expect("is sent");
    }

    async fn states(&self) -> BTreeMap<String, NodeState> {
        let tree = self.supervisor.tree().await.expect("draws");
        tree.children.into_iter().map(|child| (child.name, child.state)).collect()
    }

    /// Waits until the journal's lines are these.
    async fn expect(&self, wanted: &[&str]) {
        let mut seen = Vec::new();
        for _ in 0..2000 {
            seen.extend(self.journal.take());
            if seen.len() >= wanted.len() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(seen, wanted);
    }

    async fn expect_state(&self, child: &str, wanted: impl Fn(Option<&NodeState>) -> bool) {
        for _ in 0..2000 {
            if wanted(self.states().await.get(child)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{child} is {:?}", self.states().await.get(child));
    }

    async fn expect_gone(&self) {
        for _ in 0..2000 {
            if self.supervisor.cell().get_status() == ractor::ActorStatus::Stopped {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("the supervisor lives on");
    }
}

use RestartType::{Permanent, Temporary, Transient};

#[test]
fn restart_types_by_exit() {
    let one = |restart, exit, allowed| decide(Strategy::OneForOne, false, restart, exit, 0, 1, allowed);
    assert_eq!(one(Permanent, Exit::Normal, true), Decision::Restart(vec![0]));
    assert_eq!(one(Permanent, Exit::Abnormal, true), Decision::Restart(vec![0]));
    assert_eq!(one(Transient, Exit::Normal, true), Decision::Let { forget: false });
    assert_eq!(one(Transient, Exit::Abnormal, true), Decision::Restart(vec![0]));
    assert_eq!(one(Temporary, Exit::Normal, true), Decision::Let { forget: true });
    assert_eq!(one(Temporary, Exit::Abnormal, true), Decision::Let { forget: true });
    assert_eq!(one(Permanent, Exit::Abnormal, false), Decision::Escalate);
    assert_eq!(decide(Strategy::OneForOne, true, Permanent, Exit::Abnormal, 0, 1, false), Decision::Park);
}

#[test]
fn strategies_name_the_affected() {
    let of = |strategy, child| match decide(strategy, false, Permanent, Exit::Abnormal, child, 4, true) {
        Decision::Restart(affected) => affected,
        other => panic!("{other:?}"),
    };
    assert_eq!(of(Strategy::OneForOne, 1), [1]);
    assert_eq!(of(Strategy::OneForAll, 1), [0, 1, 2, 3]);
    assert_eq!(of(Strategy::RestForOne, 1), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn intensity_forgets_what_is_older_than_the_period() {
    let intensity = Intensity::new(2, 5);
    let mut history = std::collections::VecDeque::new();
    let now = tokio::time::Instant::now();
    assert!(intensity.count(&mut history, now));
    assert!(intensity.count(&mut history, now));
    assert!(!intensity.count(&mut history, now));
    assert!(intensity.count(&mut history, now + Duration::from_secs(6)));
}

#[tokio::test(start_paused = true)]
async fn one_for_one_restarts_the_failed_alone() {
    let bench = bench(Strategy::OneForOne, 3, false, &[("a", Permanent), ("b", Permanent)]).await;
    bench.expect(&["+a", "+b"]).await;
    bench.order("a", Order::Panic).await;
    bench.expect(&["+a"]).await;
    bench.order("b", Order::EndNormally).await;
    bench.expect(&["-b", "+b"]).await;
}

#[tokio::test(start_paused = true)]
async fn one_for_all_stops_the_others_in_reverse_and_starts_all_in_order() {
    let bench =
        bench(Strategy::OneForAll, 3, false, &[("a", Permanent), ("b", Permanent), ("c", Permanent)]).await;
    bench.expect(&["+a", "+b", "+c"]).await;
    bench.order("b", Order::Fail).await;
    bench.expect(&["-c", "-a", "+a", "+b", "+c"]).await;
}

#[tokio::test(start_paused = true)]
async fn rest_for_one_leaves_those_before_it_alone() {
    let bench =
        bench(Strategy::RestForOne, 3, false, &[("a", Permanent), ("b", Permanent), ("c", Permanent)]).await;
    bench.expect(&["+a", "+b", "+c"]).await;
    bench.order("b", Order::Panic).await;
    bench.expect(&["-c", "+b", "+c"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_transient_child_that_ends_normally_stays_ended_and_a_temporary_one_is_forgotten() {
    let bench = bench(Strategy::OneForOne, 3, false, &[("t", Transient), ("u", Temporary)]).await;
    bench.order("t", Order::EndNormally).await;
    bench.expect_state("t", |state| state == Some(&NodeState::Stopped)).await;
    bench.order("u", Order::Panic).await;
    bench.expect_state("u", |state| state.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn escalation_stops_the_others_and_ends_the_supervisor() {
    let bench = bench(Strategy::OneForOne, 1, false, &[("a", Permanent), ("b", Permanent)]).await;
    bench.expect(&["+a", "+b"]).await;
    bench.order("a", Order::Panic).await;
    bench.expect(&["+a"]).await;
    bench.order("a", Order::Panic).await;
    bench.expect(&["-b"]).await;
    bench.expect_gone().await;
}

#[tokio::test(start_paused = true)]
async fn children_start_in_order_and_stop_in_reverse() {
    let bench =
        bench(Strategy::OneForOne, 1, false, &[("a", Permanent), ("b", Transient), ("c", Temporary)]).await;
    bench.supervisor.shutdown().await.expect("shuts down");
    bench.expect(&["+a", "+b", "+c", "-c", "-b", "-a"]).await;
    bench.expect_gone().await;
}

#[tokio::test(start_paused = true)]
async fn a_first_start_that_fails_stops_those_before_it_and_gives_the_error() {
    let journal = Journal::default();
    let fine = Arc::new(AtomicBool::new(false));
    let broken = Arc::new(AtomicBool::new(true));
    let specs = vec![probe("a", Permanent, &journal, fine), probe("b", Permanent, &journal, broken)];
    let error = spawn(flags(Strategy::OneForOne, 1, false), specs, None).await.err().expect("does not start");
    assert!(error.message.contains("child b"), "{error}");
    assert_eq!(journal.take(), ["+a", "-a"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_inside_a_restart_is_tried_again_and_counts() {
    let journal = Journal::default();
    let broken = Arc::new(AtomicBool::new(false));
    let specs = vec![probe("a", Permanent, &journal, Arc::clone(&broken))];
    let supervisor = spawn(flags(Strategy::OneForOne, 5, false), specs, None).await.expect("starts");
    let bench = Bench { supervisor, journal };
    broken.store(true, Ordering::SeqCst);
    bench.order("a", Order::Panic).await;
    bench.expect_state("a", |state| state == Some(&NodeState::Restarting)).await;
    broken.store(false, Ordering::SeqCst);
    bench.expect_state("a", |state| state == Some(&NodeState::Running)).await;
    broken.store(true, Ordering::SeqCst);
    bench.order("a", Order::Panic).await;
    bench.expect_gone().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_loop_can_still_be_shut_down() {
    let journal = Journal::default();
    let broken = Arc::new(AtomicBool::new(false));
    let specs = vec![probe("a", Permanent, &journal, Arc::clone(&broken))];
    let supervisor = spawn(flags(Strategy::OneForOne, 1_000_000, false), specs, None).await.expect("starts");
    let bench = Bench { supervisor, journal };
    broken.store(true, Ordering::SeqCst);
    bench.order("a", Order::Panic).await;
    bench.expect_state("a", |state| state == Some(&NodeState::Restarting)).await;
    bench.supervisor.shutdown().await.expect("shuts down");
    bench.expect_gone().await;
}

#[tokio::test(start_paused = true)]
async fn i_11_a_dynamic_supervisor_parks_one_child_and_leaves_its_siblings_alone() {
    let bench = bench(Strategy::OneForOne, 1, true, &[("poison", Permanent), ("fine", Permanent)]).await;
    bench.expect(&["+poison", "+fine"]).await;
    bench.order("poison", Order::Panic).await;
    bench.expect(&["+poison"]).await;
    bench.order("poison", Order::Panic).await;
    bench
        .expect_state(
            "poison",
            |state| matches!(state, Some(NodeState::Parked(cause)) if cause.contains("asked to")),
        )
        .await;
    assert_eq!(bench.states().await["fine"], NodeState::Running);
    bench.supervisor.retry("poison").await.expect("starts again");
    bench.expect(&["+poison"]).await;
    bench.expect_state("poison", |state| state == Some(&NodeState::Running)).await;
}

#[tokio::test(start_paused = true)]
async fn children_are_added_removed_and_found() {
    let bench = bench(Strategy::OneForOne, 1, true, &[]).await;
    let fine = Arc::new(AtomicBool::new(false));
    let spec = probe("a", Permanent, &bench.journal, fine);
    bench.supervisor.start_child(spec.clone()).await.expect("starts");
    let error = bench.supervisor.start_child(spec).await.expect_err("is taken");
    assert_eq!(error.class, bosun_types::ErrorClass::AlreadyExists);
    bench.supervisor.remove_child("a").await.expect("stops");
    bench.expect(&["+a", "-a"]).await;
    assert!(bench.supervisor.find("a").await.expect("answers").is_none());
}

proptest::proptest! {
    /// OTP's table, stated as laws instead of cases.
    #[test]
    fn decisions_keep_the_laws(
        strategy in proptest::sample::select(vec![Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne]),
        restart in proptest::sample::select(vec![Permanent, Transient, Temporary]),
        exit in proptest::sample::select(vec![Exit::Normal, Exit::Abnormal]),
        (children, child) in (1_usize..9).prop_flat_map(|children| (proptest::strategy::Just(children), 0..children)),
        dynamic: bool,
        allowed: bool,
    ) {
        let decision = decide(strategy, dynamic, restart, exit, child, children, allowed);
        match &decision {
            Decision::Restart(affected) => {
                proptest::prop_assert!(allowed && counts(restart, exit));
                proptest::prop_assert!(affected.contains(&child));
                proptest::prop_assert!(affected.windows(2).all(|pair| pair[0] + 1 == pair[1]));
                proptest::prop_assert!(affected.iter().all(|position| *position < children));
            }
            Decision::Park => proptest::prop_assert!(dynamic && !allowed && counts(restart, exit)),
            Decision::Escalate => proptest::prop_assert!(!dynamic && !allowed && counts(restart, exit)),
            Decision::Let { .. } => proptest::prop_assert!(!counts(restart, exit)),
        }
    }

    /// However restarts fall in time, one is refused exactly when more than the allowed number lie within the period.
    #[test]
    fn intensity_is_a_sliding_window(restarts in 0_usize..5, gaps in proptest::collection::vec(0_u64..8, 1..40)) {
        let intensity = Intensity::new(restarts, 5);
        let (begin, mut at) = (tokio::time::Instant::now(), 0);
        let (mut history, mut all) = (std::collections::VecDeque::new(), Vec::new());
        for gap in gaps {
            at += gap;
            all.push(at);
            let within = all.iter().filter(|other| at - **other <= 5).count();
            proptest::prop_assert_eq!(intensity.count(&mut history, begin + Duration::from_secs(at)), within <= restarts);
            proptest::prop_assert!(history.len() <= all.len());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_child_ended_abnormally() {
    let bench = bench(Strategy::OneForOne, 3, false, &[("t", Transient)]).await;
    bench.expect(&["+t"]).await;
    bench.supervisor.find("t").await.expect("answers").expect("runs").kill();
    bench.expect(&["+t"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_stop_is_killed_when_its_time_is_over() {
    let bench = bench(Strategy::OneForOne, 3, false, &[("a", Permanent), ("hung", Permanent)]).await;
    bench.order("hung", Order::Hang).await;
    let begin = tokio::time::Instant::now();
    bench.supervisor.shutdown().await.expect("shuts down");
    assert!(begin.elapsed() >= WORKER_SHUTDOWN, "it got its time");
    bench.expect(&["+a", "+hung", "-a"]).await;
    bench.expect_gone().await;
}

#[tokio::test(start_paused = true)]
async fn a_temporary_sibling_is_stopped_for_good_when_all_restart() {
    let children = [("a", Permanent), ("u", Temporary), ("c", Permanent)];
    let bench = bench(Strategy::OneForAll, 3, false, &children).await;
    bench.expect(&["+a", "+u", "+c"]).await;
    bench.order("a", Order::Panic).await;
    bench.expect(&["-c", "-u", "+a", "+c"]).await;
    assert_eq!(bench.states().await.keys().collect::<Vec<_>>(), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn an_ended_transient_sibling_comes_back_when_all_restart() {
    let bench = bench(Strategy::OneForAll, 3, false, &[("t", Transient), ("b", Permanent)]).await;
    bench.order("t", Order::EndNormally).await;
    bench.expect_state("t", |state| state == Some(&NodeState::Stopped)).await;
    bench.order("b", Order::Panic).await;
    bench.expect(&["+t", "+b", "-t", "+t", "+b"]).await;
}

/// Children with a switch each that makes their starts fail.
async fn breakable(strategy: Strategy, restarts: usize, names: &[&str]) -> (Bench, Vec<Arc<AtomicBool>>) {
    let journal = Journal::default();
    let broken: Vec<Arc<AtomicBool>> = names.iter().map(|_| Arc::default()).collect();
    let specs = names
        .iter()
        .zip(&broken)
        .map(|(name, broken)| probe(name, Permanent, &journal, Arc::clone(broken)))
        .collect();
    let supervisor = spawn(flags(strategy, restarts, false), specs, None).await.expect("starts");
    (Bench { supervisor, journal }, broken)
}

#[tokio::test(start_paused = true)]
async fn those_after_a_child_that_does_not_start_wait_for_it() {
    let (bench, broken) = breakable(Strategy::RestForOne, 1000, &["a", "b", "c"]).await;
    bench.expect(&["+a", "+b", "+c"]).await;
    broken[1].store(true, Ordering::SeqCst);
    bench.order("b", Order::Panic).await;
    bench.expect_state("c", |state| state == Some(&NodeState::Restarting)).await;
    assert_eq!(bench.states().await["a"], NodeState::Running);
    broken[1].store(false, Ordering::SeqCst);
    bench.expect(&["-c", "+b", "+c"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_waits_for_another_try_does_not_hold_up_its_siblings() {
    let (bench, broken) = breakable(Strategy::OneForOne, 1000, &["a", "b"]).await;
    bench.expect(&["+a", "+b"]).await;
    broken[0].store(true, Ordering::SeqCst);
    bench.order("a", Order::Panic).await;
    bench.expect_state("a", |state| state == Some(&NodeState::Restarting)).await;
    bench.order("b", Order::Panic).await;
    bench.expect(&["+b"]).await;
    assert_eq!(bench.states().await["a"], NodeState::Restarting);
}

#[tokio::test(start_paused = true)]
async fn an_escalation_restarts_the_subtree_and_a_second_one_goes_further_up() {
    let (journal, fine) = (Journal::default(), Arc::new(AtomicBool::new(false)));
    let (inner, switch) = (journal.clone(), Arc::clone(&fine));
    let children = Arc::new(move || vec![probe("leaf", Permanent, &inner, Arc::clone(&switch))]);
    let subtree = supervisor_spec(
        Flags { name: "subtree".to_owned(), ..flags(Strategy::OneForOne, 0, false) },
        children,
    );
    let specs = vec![probe("a", Permanent, &journal, fine), subtree];
    let supervisor = spawn(flags(Strategy::OneForOne, 1, false), specs, None).await.expect("starts");
    let bench = Bench { supervisor, journal };
    bench.expect(&["+a", "+leaf"]).await;
    for lines in [&["+leaf"][..], &["-a"][..]] {
        let subtree = bench.supervisor.find("subtree").await.expect("answers").expect("runs");
        let leaf = Supervisor::of(ActorRef::from(subtree)).find("leaf").await.expect("answers");
        leaf.expect("runs").send_message(Order::Panic).expect("is sent");
        bench.expect(lines).await;
    }
    bench.expect_gone().await;
}

#[tokio::test(start_paused = true)]
async fn a_dynamic_child_whose_first_start_fails_is_parked_and_can_be_retried() {
    let (journal, broken) = (Journal::default(), Arc::new(AtomicBool::new(true)));
    let fine = Arc::new(AtomicBool::new(false));
    let specs = vec![
        probe("poison", Permanent, &journal, Arc::clone(&broken)),
        probe("fine", Permanent, &journal, fine),
    ];
    let supervisor = spawn(flags(Strategy::OneForOne, 3, true), specs, None).await.expect("starts");
    let bench = Bench { supervisor, journal };
    bench.expect(&["+fine"]).await;
    let is_parked = |state: Option<&NodeState>| matches!(state, Some(NodeState::Parked(cause)) if cause.contains("does not start"));
    bench.expect_state("poison", is_parked).await;
    bench.supervisor.retry("poison").await.expect_err("still fails");
    bench.expect_state("poison", is_parked).await;
    broken.store(false, Ordering::SeqCst);
    bench.supervisor.retry("poison").await.expect("starts");
    bench.expect_state("poison", |state| state == Some(&NodeState::Running)).await;
    bench.supervisor.retry("poison").await.expect_err("is not parked");
}

#[tokio::test(start_paused = true)]
async fn a_dynamic_child_that_keeps_failing_to_restart_is_parked() {
    let (journal, broken) = (Journal::default(), Arc::new(AtomicBool::new(false)));
    let specs = vec![probe("a", Permanent, &journal, Arc::clone(&broken))];
    let supervisor = spawn(flags(Strategy::OneForOne, 3, true), specs, None).await.expect("starts");
    let bench = Bench { supervisor, journal };
    broken.store(true, Ordering::SeqCst);
    bench.order("a", Order::Panic).await;
    bench.expect_state("a", |state| matches!(state, Some(NodeState::Parked(_)))).await;
    bench.supervisor.remove_child("a").await.expect("a parked child can be removed");
    bench.expect_state("a", |state| state.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_dynamic_transient_child_that_ends_normally_is_forgotten() {
    let bench = bench(Strategy::OneForOne, 3, true, &[("t", Transient)]).await;
    bench.order("t", Order::EndNormally).await;
    bench.expect_state("t", |state| state.is_none()).await;
}
