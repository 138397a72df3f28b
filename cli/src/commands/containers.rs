//! `bosun ps`, `kill`, `wait`, `rm`, `inspect`, and `bosun containers`.

use std::collections::BTreeMap;

use anyhow::Context as _;
use bosun_client::Container;
use bosun_types::container::ContainerRecord;
use bosun_types::gc::LABEL_ROOT;
use bosun_types::relaunch::{RelaunchInfo, RelaunchStatus, StopRequest};
use bosun_types::task::{ExitCause, ProcessInfo};
use bosun_types::{ErrorClass, ExecId, Labels, signal};
use serde::Serialize;

use crate::arguments::{Containers, ContainersCommand, Filter, Kill, Names, Ps, Rm};
use crate::context::{self, Context};
use crate::output;

use super::{checkpoint, create, lifecycle, run};

/// A row of `ps --json`: the record, and the task when there is one.
#[derive(Serialize)]
struct Row<'a> {
    container: &'a str,
    image: Option<&'a str>,
    pid: Option<u32>,
    status: String,
    exit: Option<&'a bosun_types::task::ExitStatus>,
    restart: Option<&'a RelaunchInfo>,
    runtime: &'a str,
    created_at: bosun_types::Timestamp,
    started_at: Option<bosun_types::Timestamp>,
    confirmed_at: Option<bosun_types::Timestamp>,
}

/// Lists containers with their tasks.
pub async fn ps(context: &Context, options: &Ps) -> anyhow::Result<()> {
    let namespace = context.namespace();
    let containers = namespace.containers();
    let (records, tasks, policies) =
        tokio::try_join!(containers.list_where(&options.filter), namespace.tasks(), namespace.relaunches())?;
    let policies: BTreeMap<&str, &RelaunchInfo> =
        policies.iter().map(|policy| (policy.container.as_str(), policy)).collect();
    let tasks: BTreeMap<&str, &ProcessInfo> =
        tasks.iter().filter(|task| task.exec.is_none()).map(|task| (task.container.as_str(), task)).collect();
    let rows: Vec<Row<'_>> = records
        .iter()
        .map(|record| {
            let id = record.id.as_str();
            row(record, tasks.get(id).copied(), policies.get(id).copied())
        })
        .filter(|row| options.all || is_up(row))
        .collect();
    if context.json {
        return output::json(&rows);
    }
    if options.quiet {
        rows.iter().for_each(|row| output::line(row.container));
        return Ok(());
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.container.to_owned(),
                row.image.unwrap_or("-").to_owned(),
                row.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
                status_words(tasks.get(row.container).copied()),
                lifecycle::cell(row.restart),
                output::age(row.created_at),
            ]
        })
        .collect();
    output::table(&["CONTAINER", "IMAGE", "PID", "STATUS", "RESTART", "AGE"], &cells);
    Ok(())
}

/// Not ended for good: it lives, or its policy is about to start it again.
fn is_up(row: &Row<'_>) -> bool {
    let comes = |policy: &RelaunchInfo| {
        matches!(policy.status, RelaunchStatus::Waiting | RelaunchStatus::Relaunching)
    };
    !matches!(row.status.as_str(), "stopped" | "-") || row.restart.is_some_and(comes)
}

fn row<'a>(
    record: &'a ContainerRecord,
    task: Option<&'a ProcessInfo>,
    restart: Option<&'a RelaunchInfo>,
) -> Row<'a> {
    Row {
        container: record.id.as_str(),
        image: record.image.as_ref().map(bosun_types::ImageName::as_str),
        pid: task.map(|task| task.pid),
        status: task.map_or_else(|| "-".to_owned(), |task| task.status.to_string()),
        exit: task.and_then(|task| task.exit.as_ref()),
        restart,
        runtime: &record.runtime.name,
        created_at: record.created_at,
        started_at: task.and_then(|task| task.started_at),
        confirmed_at: task.and_then(|task| task.confirmed_at),
    }
}

/// Its status, and how it ended.
pub fn status_words(task: Option<&ProcessInfo>) -> String {
    let Some(task) = task else { return "-".to_owned() };
    match &task.exit {
        None => task.status.to_string(),
        Some(exit) => match &exit.cause {
            ExitCause::Code(code) => format!("stopped ({code})"),
            ExitCause::Signal(signal) => format!("stopped (signal {signal})"),
            ExitCause::Unknown(why) => format!("stopped (unknown: {why})"),
        },
    }
}

/// Sends a signal to each.
pub async fn kill(context: &Context, options: &Kill) -> anyhow::Result<()> {
    let signal = signal::parse(&options.signal)?;
    let exec = options.exec_id.as_deref().map(ExecId::new).transpose()?;
    for name in &options.containers {
        let task = context.container(name)?.task();
        let killed = match &exec {
            Some(exec) => task.process(exec.clone()).kill(signal, false).await,
            None => task.kill(signal, options.all).await,
        };
        killed.with_context(|| format!("container {name}"))?;
        output::line(name);
    }
    Ok(())
}

/// Waits for each and prints its code.
pub async fn wait(context: &Context, options: &Names) -> anyhow::Result<()> {
    for name in &options.containers {
        let exit = context.container(name)?.task().wait().await?;
        if context.json {
            output::json(&exit)?;
        } else {
            output::line(exit.code().to_string());
        }
    }
    Ok(())
}

/// Removes each; `--force` kills first.
pub async fn rm(context: &Context, options: &Rm) -> anyhow::Result<()> {
    let mut failed = None;
    for name in &options.containers {
        match remove(context, name, options).await {
            Ok(()) => output::line(name),
            Err(error) if failed.is_none() => failed = Some(error),
            Err(error) => output::report(&error),
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn remove(context: &Context, name: &str, options: &Rm) -> anyhow::Result<()> {
    let container = context.container(name)?;
    let task = container.task();
    if options.force && container.relaunch().await?.is_some() {
        // Its policy must not start it again under our hands.
        container.stop(StopRequest { signal: Some(signal::KILL), timeout_ms: Some(0) }).await?;
    } else if options.force {
        match task.kill(signal::KILL, true).await {
            // Gone or ended already is what we want.
            Ok(()) => drop(task.wait().await),
            Err(error) if matches!(error.class, ErrorClass::NotFound | ErrorClass::FailedPrecondition) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match task.delete().await {
        Ok(_) => {}
        Err(error) if error.class == ErrorClass::NotFound => {}
        Err(error) => {
            let is_up = error.class == ErrorClass::FailedPrecondition && !options.force;
            let error = if is_up { error.with_hint("use --force to kill it first") } else { error };
            return Err(anyhow::Error::new(error).context(format!("container {name}")));
        }
    }
    if options.keep_snapshot {
        root_snapshot(context, &container).await?;
    }
    container.delete(!options.keep_snapshot).await?;
    Ok(())
}

/// Removes one that has ended, with its snapshot.
pub async fn remove_ended(context: &Context, name: &str) -> anyhow::Result<()> {
    let container = context.container(name)?;
    match container.task().delete().await {
        Ok(_) => {}
        Err(error) if error.class == ErrorClass::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    Ok(container.delete(true).await?)
}

/// A snapshot that is to outlive its container is kept by nothing else: without the label the next collection takes it.
async fn root_snapshot(context: &Context, container: &Container) -> anyhow::Result<()> {
    let record = container.record().await?;
    if let (Some(snapshotter), Some(key)) = (record.snapshotter, record.snapshot_key) {
        let label = Labels::from([(LABEL_ROOT.to_owned(), record.id.to_string())]);
        context.namespace().snapshots(&snapshotter).update_labels(key, label, false).await?;
    }
    Ok(())
}

/// Noun first; gives the exit code.
pub async fn containers(context: &Context, options: Containers) -> anyhow::Result<u8> {
    match options.command {
        None => ps(context, &every(options.quiet, options.filter)).await,
        Some(ContainersCommand::Ls { quiet, filter }) => ps(context, &every(quiet, filter)).await,
        Some(ContainersCommand::Create(options)) => create::create(context, &options).await,
        Some(ContainersCommand::Info { containers, spec: false }) => inspect(context, &containers).await,
        Some(ContainersCommand::Info { containers, spec: true }) => specs(context, &containers).await,
        Some(ContainersCommand::Label { container, labels }) => {
            let container = context.container(&container)?;
            context.labels(&container.set_labels(context::labels(&labels)?).await?)
        }
        Some(ContainersCommand::Checkpoint(options)) => checkpoint::checkpoint(context, options).await,
        Some(ContainersCommand::Restore(options)) => return run::run(context, (*options).into()).await,
        Some(ContainersCommand::Rm(options)) => rm(context, &options).await,
    }
    .map(|()| 0)
}

const fn every(quiet: bool, filter: Filter) -> Ps {
    Ps { all: true, quiet, filter }
}

async fn specs(context: &Context, names: &[String]) -> anyhow::Result<()> {
    for name in names {
        let record = context.container(name)?.record().await?;
        let spec: serde_json::Value =
            serde_json::from_slice(&record.spec).context("the stored spec is JSON")?;
        output::json(&spec)?;
    }
    Ok(())
}

/// Everything about each, as JSON.
pub async fn inspect(context: &Context, names: &[String]) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for name in names {
        let container = context.container(name)?;
        let record = container.record().await?;
        let task = match container.task().info().await {
            Ok(info) => Some(info),
            Err(error) if error.class == ErrorClass::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let spec: serde_json::Value =
            serde_json::from_slice(&record.spec).context("the stored spec is JSON")?;
        let mut value = serde_json::to_value(&record)?;
        value["spec"] = spec;
        value["task"] = serde_json::to_value(task)?;
        all.push(value);
    }
    output::json(&all)
}
