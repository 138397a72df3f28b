//! What is done to a container that runs: `bosun pause`, `resume`, `update`, `top`, `stats`.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bosun_types::metrics::Metrics;
use bosun_types::task::ProcessStatus;
use bosun_types::{ErrorClass, Result};
use serde::Serialize;
use serde_json::{Value, json};

use super::create::cpu_millis;
use super::lifecycle;
use crate::arguments::{Names, Stats, Update};
use crate::context::{self, Context};
use crate::output;

/// Between two samples of `stats`.
const INTERVAL: Duration = Duration::from_secs(1);
/// One processor's time in one period of the kernel's scheduler, in microseconds.
const CPU_PERIOD: u64 = 100_000;

/// Freezes each.
pub async fn pause(context: &Context, options: &Names) -> anyhow::Result<()> {
    for name in &options.containers {
        context.container(name)?.task().pause().await.with_context(|| format!("container {name}"))?;
        output::line(name);
    }
    Ok(())
}

/// Thaws each.
pub async fn resume(context: &Context, options: &Names) -> anyhow::Result<()> {
    for name in &options.containers {
        context.container(name)?.task().resume().await.with_context(|| format!("container {name}"))?;
        output::line(name);
    }
    Ok(())
}

/// Changes limits: of the live task if there is one, and of the spec, so that the container's next task has them too.
pub async fn update(context: &Context, options: &Update) -> anyhow::Result<()> {
    let policy = lifecycle::policy(&options.restart)?;
    let resources = resources(options)?;
    if resources == json!({}) && policy.is_none() {
        bail!("nothing to change: give --memory, --cpus, --pids-limit or --restart");
    }
    for name in &options.containers {
        let container = context.container(name)?;
        if let Some(policy) = policy {
            container.set_restart_policy(policy).await.with_context(|| format!("container {name}"))?;
        }
        if resources == json!({}) {
            output::line(name);
            continue;
        }
        match container.task().update(serde_json::to_vec(&resources)?).await {
            Ok(()) => {}
            // Without a live task there is only the spec to change.
            Err(error) if matches!(error.class, ErrorClass::NotFound | ErrorClass::FailedPrecondition) => {}
            Err(error) => return Err(anyhow::Error::new(error).context(format!("container {name}"))),
        }
        let mut record = container.record().await?;
        let mut spec: Value = serde_json::from_slice(&record.spec).context("the stored spec is JSON")?;
        merge(&mut spec["linux"]["resources"], &resources);
        record.spec = serde_json::to_vec(&spec)?;
        container.update(record, &["spec"]).await.with_context(|| format!("container {name}"))?;
        output::line(name);
    }
    Ok(())
}

/// OCI `LinuxResources` of what was given.
fn resources(options: &Update) -> anyhow::Result<Value> {
    let mut resources = json!({});
    if let Some(memory) = &options.memory {
        resources["memory"] = json!({"limit": context::bytes(memory)?});
    }
    if let Some(cpus) = options.cpus {
        let quota = cpu_millis(cpus)?.saturating_mul(CPU_PERIOD / 1000);
        resources["cpu"] = json!({"quota": quota, "period": CPU_PERIOD});
    }
    if let Some(pids) = options.pids_limit {
        resources["pids"] = json!({"limit": pids});
    }
    Ok(resources)
}

/// Objects key by key, everything else replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// Processes of each container, with the exec they are.
pub async fn top(context: &Context, options: &Names) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Row {
        container: String,
        pid: u32,
        exec: Option<bosun_types::ExecId>,
        command: String,
    }
    let mut rows = Vec::new();
    for name in &options.containers {
        let task = context.container(name)?.task();
        let init = task.info().await?.pid;
        for process in task.pids().await.with_context(|| format!("container {name}"))? {
            // The daemon and we see the same host; a process that ended meanwhile has no command any more.
            let line = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
            let words: Vec<_> = line
                .split(|byte| *byte == 0)
                .map(String::from_utf8_lossy)
                .filter(|word| !word.is_empty())
                .collect();
            let mark = if process.pid == init { " (init)" } else { "" };
            let command = format!("{}{mark}", words.join(" "));
            rows.push(Row { container: name.clone(), pid: process.pid, exec: process.exec, command });
        }
    }
    if context.json {
        return output::json(&rows);
    }
    let cells: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| {
            let exec = row.exec.map_or_else(|| "-".to_owned(), |exec| exec.to_string());
            vec![row.container, row.pid.to_string(), exec, row.command]
        })
        .collect();
    output::table(&["CONTAINER", "PID", "EXEC", "COMMAND"], &cells);
    Ok(())
}

/// What containers use. On a terminal it goes on until interrupted.
pub async fn stats(context: &Context, options: &Stats) -> anyhow::Result<()> {
    let once = options.no_stream || !std::io::stdout().is_terminal();
    let mut before = sample(context, &options.containers).await?;
    if context.json {
        return output::json(&before);
    }
    loop {
        // Processor use is a difference: the first table comes after the first interval.
        tokio::time::sleep(INTERVAL).await;
        let now = sample(context, &options.containers).await?;
        let cells: Vec<Vec<String>> = now.iter().map(|metrics| cells(metrics, &before)).collect();
        if !once {
            output::clear();
        }
        output::table(&["CONTAINER", "CPU %", "MEMORY", "LIMIT", "READ", "WRITTEN", "PIDS"], &cells);
        if once {
            return Ok(());
        }
        before = now;
    }
}

/// Those named, or all that run. One that ends between the list and its sample is left out, as long as nobody asked for it by name.
async fn sample(context: &Context, names: &[String]) -> anyhow::Result<Vec<Metrics>> {
    let namespace = context.namespace();
    let mut all = Vec::new();
    if names.is_empty() {
        for task in namespace.tasks().await? {
            let live = matches!(task.status, ProcessStatus::Running | ProcessStatus::Paused);
            let metrics: Result<Metrics> = match live {
                true => namespace.container(task.container).task().metrics().await,
                false => continue,
            };
            match metrics {
                Ok(metrics) => all.push(metrics),
                Err(error) if error.class == ErrorClass::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    for name in names {
        all.push(context.container(name)?.task().metrics().await?);
    }
    Ok(all)
}

fn cells(now: &Metrics, before: &[Metrics]) -> Vec<String> {
    let usage = &now.usage;
    let cpu = before.iter().find(|it| it.container == now.container).map(|before| percent(before, now));
    let limit = match usage.memory.limit {
        0 => "-".to_owned(),
        limit => output::size(limit),
    };
    vec![
        now.container.to_string(),
        cpu.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}")),
        output::size(usage.memory.usage),
        limit,
        output::size(usage.blkio.iter().map(|device| device.read_bytes).sum()),
        output::size(usage.blkio.iter().map(|device| device.written_bytes).sum()),
        usage.pids.current.to_string(),
    ]
}

/// Processor use between two samples; 100 is one processor.
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn percent(before: &Metrics, now: &Metrics) -> f64 {
    let used = now.usage.cpu.total.saturating_sub(before.usage.cpu.total);
    let passed = (now.sampled_at.0 - before.sampled_at.0).max(1);
    used as f64 * 100.0 / passed as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Restart;

    #[test]
    fn limits_are_merged_key_by_key() {
        let mut spec = json!({"memory": {"limit": 1, "swap": 2}, "devices": []});
        merge(&mut spec, &json!({"memory": {"limit": 3}, "pids": {"limit": 4}}));
        assert_eq!(spec, json!({"memory": {"limit": 3, "swap": 2}, "devices": [], "pids": {"limit": 4}}));
        let mut absent = Value::Null;
        merge(&mut absent, &json!({"pids": {"limit": 4}}));
        assert_eq!(absent, json!({"pids": {"limit": 4}}));
    }

    #[test]
    fn what_is_not_given_is_not_changed() {
        let restart = Restart::default();
        let containers = vec!["c".to_owned()];
        let none = Update { containers, memory: None, cpus: None, pids_limit: None, restart };
        assert_eq!(resources(&none).expect("good"), json!({}));
        let some = Update { cpus: Some(0.5), pids_limit: Some(9), ..none };
        let wanted = json!({"cpu": {"quota": 50_000, "period": 100_000}, "pids": {"limit": 9}});
        assert_eq!(resources(&some).expect("good"), wanted);
    }
}
