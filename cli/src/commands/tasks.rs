//! `bosun tasks`: what runs of containers, noun first. Most of its words are the everyday ones.

use anyhow::{Context as _, bail};
use bosun_client::Container;
use bosun_types::stdio::Stdio;
use bosun_types::task::{ProcessInfo, ProcessStatus, TaskRequest};
use bosun_types::{ErrorClass, ExecId, signal};
use serde_json::Value;

use super::foreground::Foreground;
use super::run::{keeps_log, left_alone, log, on_terminal, task_of, write_pid_file};
use super::{attach, checkpoint, containers, exec, live};
use crate::arguments::{Filter, Names, StartTask, Tasks, TasksCommand};
use crate::context::Context;
use crate::output;

/// Does what the words say; gives the exit code.
pub async fn tasks(context: &Context, options: Tasks) -> anyhow::Result<u8> {
    match options.command {
        None => list(context, options.quiet, &options.filter).await,
        Some(TasksCommand::Ls { quiet, filter }) => list(context, quiet, &filter).await,
        Some(TasksCommand::Start(options)) => return start(context, &options).await,
        Some(TasksCommand::Attach(options)) => return attach::attach(context, &options).await,
        Some(TasksCommand::Exec(options)) => return exec::exec(context, options).await,
        Some(TasksCommand::Rm { containers, force, exec_id }) => {
            return remove(context, &containers, force, exec_id.as_deref()).await;
        }
        Some(TasksCommand::Kill(options)) => containers::kill(context, &options).await,
        Some(TasksCommand::Pause(options)) => live::pause(context, &options).await,
        Some(TasksCommand::Resume(options)) => live::resume(context, &options).await,
        Some(TasksCommand::Ps(options)) => live::top(context, &options).await,
        Some(TasksCommand::Metrics(options)) => metrics(context, &options).await,
        Some(TasksCommand::Checkpoint(options)) => checkpoint::checkpoint(context, options).await,
    }
    .map(|()| 0)
}

async fn list(context: &Context, quiet: bool, filter: &Filter) -> anyhow::Result<()> {
    let mut tasks = context.namespace().tasks_where(filter).await?;
    tasks.retain(|task| task.exec.is_none());
    if quiet && !context.json {
        tasks.iter().for_each(|task| output::line(task.container.as_str()));
        return Ok(());
    }
    context.list(&tasks, &["TASK", "PID", "STATUS", "AGE"], |task| {
        let age = task.started_at.map_or_else(|| "-".to_owned(), output::age);
        vec![task.container.to_string(), pid_cell(task), containers::status_words(Some(task)), age]
    })
}

/// One that has ended has none any more.
pub fn pid_cell(task: &ProcessInfo) -> String {
    let lives = task.pid != 0 && task.status != ProcessStatus::Stopped;
    if lives { task.pid.to_string() } else { "-".to_owned() }
}

/// Makes a task of a container that has none that runs, and starts it; with our streams unless detached.
pub async fn start(context: &Context, options: &StartTask) -> anyhow::Result<u8> {
    let name = &options.container;
    let container = context.container(name)?;
    let about = || format!("container {name}");
    make_room(&container).await.with_context(about)?;
    let spec: Value =
        serde_json::from_slice(&container.record().await?.spec).context("the stored spec is JSON")?;
    let tty = spec["process"]["terminal"].as_bool().unwrap_or(false);
    let streams = &options.streams;
    let request = TaskRequest { log_to_file: keeps_log(streams), ..task_of(streams) };
    if options.detach {
        let (stdio, log_to_file) = left_alone(streams, tty)?;
        let request = TaskRequest { stdio, log_to_file, ..request };
        let pid =
            container.create_task(request).await.with_context(about)?.start().await.with_context(about)?;
        write_pid_file(streams, pid)?;
        match context.json {
            true => output::json(&serde_json::json!({"container": name, "pid": pid}))?,
            false => output::line(name),
        }
        return Ok(0);
    }
    if tty && streams.interactive {
        let stdio = Stdio { log: log::target(&streams.log_opt)?, ..attach::stdio(true) };
        let (task, reader, pid) =
            on_terminal(&container, TaskRequest { stdio, ..request }).await.with_context(about)?;
        write_pid_file(streams, pid)?;
        let keys = Some(streams.detach_keys.clone());
        let session = attach::Session { keys, terminal: true, close_stdin: true, follow: true };
        return session.attend(task.init(), reader).await;
    }
    let mut foreground = Foreground::prepare(context, streams, tty)?;
    let request = TaskRequest { stdio: foreground.stdio.clone(), ..request };
    let task = container.create_task(request).await.with_context(about)?;
    let pid = task.start().await.with_context(about)?;
    write_pid_file(streams, pid)?;
    let init = task.init().clone();
    foreground.attend(&init, init.wait()).await
}

/// An ended task gives way to the new one.
async fn make_room(container: &Container) -> anyhow::Result<()> {
    let task = container.task();
    match task.info().await {
        Err(error) if error.class == ErrorClass::NotFound => Ok(()),
        Err(error) => Err(error.into()),
        Ok(info) if info.status == ProcessStatus::Stopped => Ok(task.delete().await.map(drop)?),
        Ok(info) => {
            bail!("it is {} already: `bosun attach {}` takes part in it", info.status, container.id())
        }
    }
}

async fn remove(context: &Context, names: &[String], force: bool, exec: Option<&str>) -> anyhow::Result<u8> {
    let exec = exec.map(ExecId::new).transpose()?;
    let mut code = 0;
    for name in names {
        let task = context.container(name)?.task();
        let process = match &exec {
            Some(id) => task.process(id.clone()),
            None => task.init().clone(),
        };
        if force {
            match process.kill(signal::KILL, exec.is_none()).await {
                Ok(()) => drop(process.wait().await),
                Err(error)
                    if matches!(error.class, ErrorClass::NotFound | ErrorClass::FailedPrecondition) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let exit = match process.delete().await {
            Err(error) if error.class == ErrorClass::FailedPrecondition && !force => {
                Err(error.with_hint("use --force to kill it first"))
            }
            deleted => deleted,
        };
        let exit = exit.with_context(|| format!("container {name}"))?;
        code = exit.map_or(0, |exit| u8::try_from(exit.code()).unwrap_or(u8::MAX));
        output::line(name);
    }
    Ok(code)
}

/// Every number of the cgroups, a line for each.
async fn metrics(context: &Context, options: &Names) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for name in &options.containers {
        let metrics = context.container(name)?.task().metrics().await;
        all.push(serde_json::to_value(metrics.with_context(|| format!("container {name}"))?)?);
    }
    if context.json {
        return output::json(&all);
    }
    let mut rows = Vec::new();
    for metrics in &all {
        let mut numbers = Vec::new();
        flatten(metrics, "", &mut numbers);
        let container = metrics["container"].as_str().unwrap_or_default();
        rows.extend(numbers.into_iter().map(|(name, value)| vec![container.to_owned(), name, value]));
    }
    output::table(&["CONTAINER", "METRIC", "VALUE"], &rows);
    Ok(())
}

/// Numbers with the path to them; a pair of a word and a number is one.
fn flatten(value: &Value, path: &str, into: &mut Vec<(String, String)>) {
    let below = |word: &str| if path.is_empty() { word.to_owned() } else { format!("{path}.{word}") };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| flatten(value, &below(key), into)),
        Value::Array(items) => match items.as_slice() {
            [Value::String(word), number @ Value::Number(_)] => into.push((below(word), number.to_string())),
            items => items.iter().enumerate().for_each(|(at, value)| {
                let is_pair = value.as_array().is_some_and(|pair| pair.len() == 2 && pair[0].is_string());
                let path = if is_pair { path.to_owned() } else { below(&at.to_string()) };
                flatten(value, &path, into);
            }),
        },
        Value::Number(number) => into.push((path.to_owned(), number.to_string())),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metrics_are_numbers_with_their_paths() {
        let mut rows = Vec::new();
        let value = json!({"container": "web", "cpu": {"total": 7}, "memory": {"stat": [["anon", 1], ["file", 2]]}, "blkio": [{"reads": 3}]});
        flatten(&value, "", &mut rows);
        let shown: Vec<String> = rows.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown, ["blkio.0.reads=3", "cpu.total=7", "memory.stat.anon=1", "memory.stat.file=2"]);
    }
}
