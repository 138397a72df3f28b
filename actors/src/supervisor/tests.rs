//! The checklist of OTP's own suite, grouped by law: restart types × exits, each strategy, each escalation, a start that fails inside
//! a restart, a restart loop that can still be shut down; and our departure, parking.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bosun_types::tree::NodeState;
use ractor::{Actor, ActorProcessingErr, SupervisionEvent};

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
    ChildSpec { id, start, restart, shutdown: WORKER_SHUTDOWN, supervisor: false, detail: String::new() }
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
