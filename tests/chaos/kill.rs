//! Random `kill -9` under load. The seed is printed; `BOSUN_SEED` runs it again, `BOSUN_CHAOS_SECONDS` makes it long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bosun_client::Client;
use bosun_tests::client::{events, import, logged, namespace, shell};
use bosun_tests::world::{World, eventually};
use bosun_types::event::Event;
use bosun_types::{ContainerId, ErrorClass};

const WORKERS: usize = 3;

/// xorshift64: the order of waits is all that it decides.
pub struct Random(pub u64);

impl Random {
    /// A number below `below`.
    pub fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Of this run; printed.
#[expect(clippy::print_stdout, reason = "whoever sees it fail runs it again with this")]
pub fn seed() -> u64 {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    let seed = setting("BOSUN_SEED", u64::try_from(now % u128::from(u32::MAX)).expect("small") + 1);
    println!("BOSUN_SEED={seed}");
    seed
}

/// A number of the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f_3_random_kill_9_under_load_loses_nothing_and_leaves_nothing() {
    let mut random = Random(seed());
    let world = World::new();
    let mut daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut seen = Vec::new();
                for round in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    if let Some(code) = life(&client, &format!("w{worker}-{round}")).await {
                        seen.push((format!("w{worker}-{round}"), code));
                    }
                }
                seen
            })
        })
        .collect();
    let begin = Instant::now();
    let mut kills = 0;
    while begin.elapsed() < Duration::from_secs(setting("BOSUN_CHAOS_SECONDS", 8)) {
        tokio::time::sleep(Duration::from_millis(20 + random.next(400))).await;
        daemon.kill();
        daemon = world.start();
        kills += 1;
    }
    stop.store(true, Ordering::SeqCst);
    let mut seen = Vec::new();
    for worker in workers {
        seen.extend(worker.await.expect("a worker"));
    }
    println!("{kills} kills, {} lives seen to their end", seen.len());
    let client = world.client().await;
    world.recovered(&client).await;
    for record in namespace(&client).containers().list().await.expect("lists") {
        remove(&client, record.id.as_str()).await;
    }
    world.check(&client).await;
    assert!(client.operations().await.expect("lists").is_empty(), "operations are left open");
    let told = events(&client).await;
    assert!(told.iter().zip(1..).all(|(event, number)| event.sequence == number), "gaps in the event log");
    exactly_one_exit_each(&told, &seen);
}

/// I4: as many exits as starts, one each, and the codes that were seen are those of the log.
fn exactly_one_exit_each(told: &[bosun_types::event::EventRecord], seen: &[(String, u32)]) {
    let mut started = BTreeMap::new();
    let mut exits: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for record in told {
        match &record.event {
            Event::TaskStart { container_id, .. } => {
                *started.entry(container_id.to_string()).or_insert(0) += 1
            }
            Event::TaskExit { id, exit, .. } => exits.entry(id.clone()).or_default().push(exit.code()),
            _ => {}
        }
    }
    for (container, count) in &started {
        assert_eq!(*count, 1, "{container} started more than once");
        assert_eq!(
            exits.get(container).map(Vec::len),
            Some(1),
            "exits of {container}: {:?}",
            exits.get(container)
        );
    }
    for (container, code) in seen {
        assert_eq!(exits.get(container), Some(&vec![*code]), "{container}");
    }
}

/// One life; `Some`: its exit code was seen.
async fn life(client: &Client, name: &str) -> Option<u32> {
    let containers = namespace(client).containers();
    let id = ContainerId::new(name).expect("good");
    containers.create(shell(name, "echo alive; exit 9")).await.ok()?;
    let container = containers.get(id);
    let task = container.create_task(logged()).await.ok()?;
    task.start().await.ok()?;
    let exit = task.wait().await.ok()?;
    let _ = task.delete().await;
    let _ = container.delete(true).await;
    Some(exit.code())
}

async fn remove(client: &Client, name: &str) {
    let container = namespace(client).container(ContainerId::new(name).expect("good"));
    let gone = |result: bosun_types::Result<()>| {
        result.is_ok() || result.is_err_and(|error| error.class == ErrorClass::NotFound)
    };
    eventually("a container to be removable", || async {
        let task = container.task();
        let _ = task.kill(9, true).await;
        gone(task.delete().await.map(drop)) && gone(container.delete(true).await)
    })
    .await;
}
