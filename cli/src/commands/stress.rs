//! `bosun stress`: containers per second, and what an idle one costs.
//!
//! STR-1, STR-2. Counted is what happened: a container that failed is a failure, with its reason told once; densities are divided by as many as
//! were started.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bosun_client::{Namespace, RunRequest};
use bosun_types::container::RuntimeChoice;
use bosun_types::spec::{ContainerRequest, RootRequest, SpecOptions, SpecRequest};
use bosun_types::task::{ExecProcess, ExecRequest, TaskRequest};
use bosun_types::{ContainerId, ErrorClass, ImageName, NamespaceName, signal};
use serde::Serialize;

use crate::arguments::{Stress, StressCommand};
use crate::context::{self, Context};
use crate::output;

/// Where containers are made unless `--namespace` says.
const NAMESPACE: &str = "stress";

/// What was counted.
#[derive(Debug, Default, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Totals {
    total: u64,
    failures: u64,
    seconds: f64,
    containers_per_second: f64,
    seconds_per_container: f64,
    exec_total: u64,
    exec_failures: u64,
}

/// Counters of all workers.
#[derive(Default)]
struct Counters {
    begun: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    execs: AtomicU64,
    execs_failed: AtomicU64,
    stop: AtomicBool,
}

/// When there is enough.
#[derive(Clone, Copy)]
enum Until {
    Time(Instant),
    Count(u64),
}

/// Does what the words say.
pub async fn stress(context: &Context, options: &Stress) -> anyhow::Result<()> {
    let namespace = match context.namespace_name == NamespaceName::default_name() {
        true => context.client.namespace(NAMESPACE.parse()?),
        false => context.namespace(),
    };
    let image = match (&options.command, &options.image) {
        (Some(StressCommand::Density { image, .. }), _) | (None, Some(image)) => {
            ImageName::new(image.as_str())?
        }
        (None, None) => bail!("an image is missing"),
    };
    borrow_image(context, &namespace, &image).await?;
    match &options.command {
        Some(StressCommand::Density { count, .. }) => density(context, &namespace, &image, *count).await,
        None => load(context, &namespace, &image, options).await,
    }
}

/// The image under the same name, if it is in our own namespace only.
async fn borrow_image(context: &Context, namespace: &Namespace, image: &ImageName) -> anyhow::Result<()> {
    match namespace.images().get(image.clone()).await {
        Ok(_) => return Ok(()),
        Err(error) if error.class == ErrorClass::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let ours = context.client.namespace(NamespaceName::default_name());
    let request = bosun_types::transfer::ExportRequest {
        images: vec![image.clone()],
        platforms: bosun_types::transfer::Platforms::Host,
        docker: false,
        skip_non_distributable: false,
    };
    let mut export = ours.transfers().export(request).await.context("the image is not here")?;
    let request = bosun_types::transfer::ImportRequest {
        unpack: Some(bosun_types::snapshot::SNAPSHOTTER_DEFAULT.to_owned()),
        ..Default::default()
    };
    let mut import = namespace.transfers().import(request).await?;
    while let Some(chunk) = export.next().await? {
        import.write(chunk).await?;
    }
    import.finish().await?.wait().await?;
    Ok(())
}

async fn load(
    context: &Context,
    namespace: &Namespace,
    image: &ImageName,
    options: &Stress,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    let until = match options.count {
        Some(count) => Until::Count(count),
        None => Until::Time(begin + context::duration(&options.duration)?),
    };
    let counters = Arc::new(Counters::default());
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..options.concurrent {
        let (namespace, image, counters) = (namespace.clone(), image.clone(), Arc::clone(&counters));
        let (exec, runtime) = (options.exec, options.runtime.clone());
        workers.spawn(async move {
            let mut first_failure = None;
            let mut number = 0_u64;
            while counters.take(until) {
                number += 1;
                let id = format!("stress-{}-{worker}-{number}", std::process::id());
                match one(&namespace, &image, &id, &runtime, exec, &counters).await {
                    Ok(()) => drop(counters.done.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => {
                        counters.failed.fetch_add(1, Ordering::Relaxed);
                        first_failure.get_or_insert(error);
                    }
                }
            }
            first_failure
        });
    }
    let mut reasons = BTreeSet::new();
    loop {
        tokio::select! {
            ended = workers.join_next() => match ended {
                None => break,
                Some(failure) => if let Some(error) = failure? {
                    reasons.insert(format!("{error:#}"));
                },
            },
            // What is under way ends, and is removed.
            _ = tokio::signal::ctrl_c() => counters.stop.store(true, Ordering::Relaxed),
        }
    }
    let totals = counters.totals(begin.elapsed());
    for reason in reasons {
        output::note(format!("failure: {reason}"));
    }
    told(context, &totals)?;
    if totals.failures + totals.exec_failures > 0 {
        bail!("{} containers and {} execs failed", totals.failures, totals.exec_failures);
    }
    Ok(())
}

impl Counters {
    /// Whether one more is wanted; it is counted as begun then.
    fn take(&self, until: Until) -> bool {
        if self.stop.load(Ordering::Relaxed) {
            return false;
        }
        match until {
            Until::Time(end) => Instant::now() < end,
            Until::Count(count) => self.begun.fetch_add(1, Ordering::Relaxed) < count,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "rates for people")]
    fn totals(&self, elapsed: Duration) -> Totals {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (done, seconds) = (get(&self.done), elapsed.as_secs_f64());
        Totals {
            total: done,
            failures: get(&self.failed),
            seconds,
            containers_per_second: done as f64 / seconds.max(f64::MIN_POSITIVE),
            seconds_per_container: if done == 0 { 0.0 } else { seconds / done as f64 },
            exec_total: get(&self.execs),
            exec_failures: get(&self.execs_failed),
        }
    }
}

fn told(context: &Context, totals: &Totals) -> anyhow::Result<()> {
    if context.json {
        return output::json(totals);
    }
    let Totals { total, failures, seconds, containers_per_second, seconds_per_container, .. } = totals;
    output::line(format!("{total} containers in {seconds:.1} s, {failures} failures"));
    output::line(format!("{containers_per_second:.1} containers/s, {seconds_per_container:.3} s each"));
    if totals.exec_total > 0 {
        output::line(format!("{} execs, {} failures", totals.exec_total, totals.exec_failures));
    }
    Ok(())
}

fn container(image: &ImageName, id: &str, runtime: &str, args: &[&str]) -> anyhow::Result<ContainerRequest> {
    Ok(ContainerRequest {
        id: ContainerId::new(id)?,
        labels: BTreeMap::new(),
        image: Some(image.clone()),
        snapshotter: None,
        root: RootRequest::Image { key: None },
        runtime: RuntimeChoice { name: runtime.to_owned(), options: None },
        spec: SpecRequest::Build(Box::new(SpecOptions {
            args: args.iter().map(|word| (*word).to_owned()).collect(),
            entrypoint: Some(Vec::new()),
            ..SpecOptions::default()
        })),
        extensions: BTreeMap::new(),
        restart: None,
        checkpoint: None,
    })
}

/// One container's whole life. What it leaves is removed, whatever failed.
async fn one(
    namespace: &Namespace,
    image: &ImageName,
    id: &str,
    runtime: &str,
    exec: bool,
    counters: &Counters,
) -> anyhow::Result<()> {
    // With an exec it must live until that has ended.
    let args: &[&str] = if exec { &["sleep", "1000"] } else { &["true"] };
    let request =
        RunRequest { container: container(image, id, runtime, args)?, task: TaskRequest::default() };
    let lived = async {
        let running = namespace.run(request).await?;
        if exec {
            counters.execs.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = run_exec(namespace, id).await {
                counters.execs_failed.fetch_add(1, Ordering::Relaxed);
                output::note(format!("failure: {error:#}"));
            }
            running.process().kill(signal::KILL, false).await?;
            running.wait().await?;
            return anyhow::Ok(());
        }
        match running.wait().await?.code() {
            0 => Ok(()),
            code => bail!("`true` ended with {code}"),
        }
    }
    .await;
    let removed = remove(namespace, id).await;
    lived?;
    removed
}

async fn run_exec(namespace: &Namespace, id: &str) -> anyhow::Result<()> {
    let process =
        ExecProcess::Inherit { args: vec!["true".to_owned()], env: Vec::new(), cwd: None, user: None };
    let request = ExecRequest {
        id: bosun_types::ExecId::new("stress")?,
        process,
        stdio: bosun_types::stdio::Stdio::default(),
    };
    let running = namespace.container(ContainerId::new(id)?).task().run_exec(request).await?;
    match running.wait().await?.code() {
        0 => Ok(()),
        code => bail!("exec of `true` ended with {code}"),
    }
}

async fn remove(namespace: &Namespace, id: &str) -> anyhow::Result<()> {
    let container = namespace.container(ContainerId::new(id)?);
    let absent = |error: bosun_types::Error| match error.class {
        ErrorClass::NotFound => Ok(()),
        _ => Err(error),
    };
    match container.task().kill(signal::KILL, true).await {
        Ok(()) => drop(container.task().wait().await),
        Err(error) if matches!(error.class, ErrorClass::NotFound | ErrorClass::FailedPrecondition) => {}
        Err(error) => return Err(error.into()),
    }
    container.task().delete().await.map(drop).or_else(absent)?;
    Ok(container.delete(true).await.or_else(absent)?)
}

/// Memory of the monitors, in KiB.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Density {
    containers: u64,
    pss: u64,
    rss: u64,
    pss_per_container: u64,
    rss_per_container: u64,
}

impl Density {
    /// Of these monitors.
    fn of(measured: &[(u64, u64)]) -> Self {
        let containers = measured.len() as u64;
        let (pss, rss) = measured.iter().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        let each = |sum: u64| sum.checked_div(containers).unwrap_or(0);
        Self { containers, pss, rss, pss_per_container: each(pss), rss_per_container: each(rss) }
    }
}

async fn density(
    context: &Context,
    namespace: &Namespace,
    image: &ImageName,
    count: u32,
) -> anyhow::Result<()> {
    let ids: Vec<String> =
        (0..count).map(|number| format!("density-{}-{number}", std::process::id())).collect();
    let measured = async {
        let mut measured = Vec::new();
        let mut pids = Vec::new();
        for id in &ids {
            let container =
                container(image, id, bosun_types::container::RUNTIME_EMBEDDED, &["sleep", "100000"])?;
            let running = namespace.run(RunRequest { container, task: TaskRequest::default() }).await;
            pids.push(running.with_context(|| format!("container {id}"))?.pid());
        }
        // After the last has started: what they share is shared by all.
        for pid in pids {
            let monitor = parent_of(pid).with_context(|| format!("process {pid} has no monitor"))?;
            measured.push(memory_of(monitor)?);
        }
        anyhow::Ok(measured)
    };
    let measured = tokio::select! {
        measured = measured => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    let mut removed = Ok(());
    for id in &ids {
        let outcome = remove(namespace, id).await;
        removed = removed.and(outcome);
    }
    let density = Density::of(&measured?);
    removed?;
    if context.json {
        return output::json(&density);
    }
    output::line(format!("{} containers", density.containers));
    output::line(format!("pss {} KiB, {} KiB per container", density.pss, density.pss_per_container));
    output::line(format!("rss {} KiB, {} KiB per container", density.rss, density.rss_per_container));
    Ok(())
}

/// The daemon and we see the same host.
fn parent_of(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    field(&status, "PPid:").and_then(|parent| u32::try_from(parent).ok()).filter(|parent| *parent > 1)
}

/// Proportional and resident memory in KiB.
fn memory_of(pid: u32) -> anyhow::Result<(u64, u64)> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let missing = || format!("{path} does not tell");
    Ok((field(&text, "Pss:").with_context(missing)?, field(&text, "Rss:").with_context(missing)?))
}

fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn str_1_failures_are_counted_and_no_rate_is_made_of_them() {
        let counters = Counters::default();
        counters.done.store(10, Ordering::Relaxed);
        counters.failed.store(3, Ordering::Relaxed);
        let totals = counters.totals(Duration::from_secs(5));
        assert_eq!((totals.total, totals.failures), (10, 3));
        assert_eq!((totals.containers_per_second, totals.seconds_per_container), (2.0, 0.5));
        assert_eq!(Counters::default().totals(Duration::ZERO).seconds_per_container, 0.0);
    }

    #[test]
    fn str_1_so_many_are_begun_as_were_asked_for() {
        let counters = Counters::default();
        let taken = (0..100).filter(|_| counters.take(Until::Count(7))).count();
        assert_eq!(taken, 7);
        assert!(!counters.take(Until::Time(Instant::now())));
        counters.stop.store(true, Ordering::Relaxed);
        assert!(!counters.take(Until::Count(u64::MAX)));
    }

    #[test]
    fn str_2_densities_are_divided_by_as_many_as_were_measured() {
        let density = Density::of(&[(100, 200), (50, 100), (30, 60)]);
        assert_eq!((density.containers, density.pss, density.pss_per_container), (3, 180, 60));
        assert_eq!((density.rss, density.rss_per_container), (360, 120));
        assert_eq!(Density::of(&[]), Density::default());
        assert_eq!(field("Name:\tx\nPPid:\t42\n", "PPid:"), Some(42));
        assert_eq!(field("Rss:                1234 kB\nPss: 9 kB\n", "Rss:"), Some(1234));
    }
}
