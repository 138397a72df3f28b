//! `bosun run`.

pub mod log;

use anyhow::Context as _;
use bosun_client::{Container, Incoming, RunRequest, Task};
use bosun_types::checkpoint::TaskCheckpoint;
use bosun_types::spec::ContainerRequest;
use bosun_types::stdio::{AttachFrom, AttachRecord, AttachRequest, Overflow, Stdio};
use bosun_types::task::{ProcessStatus, TaskRequest};
use bosun_types::{ContainerId, Error, ErrorClass, ImageName};

use super::foreground::Foreground;
use super::{attach, create, lifecycle};
use crate::arguments::{Run, Streams};
use crate::context::{self, Context};
use crate::output;

/// What a shell says of a command that cannot be started.
const CODE_CANNOT_START: u8 = 126;
/// What a shell says of a command that does not exist.
const CODE_NO_COMMAND: u8 = 127;

/// Makes a container and runs it; gives its exit code.
pub async fn run(context: &Context, options: Run) -> anyhow::Result<u8> {
    let id = create::id_of(&options.container)?;
    let container = container_request(&options, id.clone())?;
    if options.detach {
        return detached(context, &options, container).await;
    }
    if options.container.tty && options.streams.interactive {
        return interactive(context, options, container).await;
    }
    let mut foreground = Foreground::prepare(context, &options.streams, options.container.tty)?;
    // What is removed at its end needs no log; the reader is here.
    let task = TaskRequest {
        stdio: foreground.stdio.clone(),
        log_to_file: logs_to_file(&options),
        ..task_request(&options)?
    };
    let running = match context.namespace().run(RunRequest { container, task }).await {
        Ok(running) => running,
        Err(error) => return refused(context, &options, &id, error).await,
    };
    write_pid_file(&options.streams, running.pid())?;
    let process = running.process().clone();
    let code = foreground.attend(&process, running.wait()).await?;
    if options.rm {
        remove(context, &id).await?;
    }
    Ok(code)
}

/// What a task is made with, streams and log apart.
fn task_request(options: &Run) -> anyhow::Result<TaskRequest> {
    let name = options.checkpoint.then(|| ImageName::new(options.container.image.as_str())).transpose()?;
    let checkpoint = name.map(TaskCheckpoint::Image);
    Ok(TaskRequest { checkpoint, ..task_of(&options.streams) })
}

/// The same for a container that is there.
pub fn task_of(streams: &Streams) -> TaskRequest {
    TaskRequest {
        on_shim_death: streams.on_shim_death.into(),
        no_pivot_root: streams.no_pivot,
        ..TaskRequest::default()
    }
}

/// Whether what a task writes is kept, as far as its streams say.
pub const fn keeps_log(streams: &Streams) -> bool {
    !streams.no_log && !streams.null_io
}

/// What is removed at its end needs no log: somebody reads it here.
const fn logs_to_file(options: &Run) -> bool {
    keeps_log(&options.streams) && !options.rm
}

/// Streams of a task that we leave, and whether what it writes goes into its log file.
pub fn left_alone(streams: &Streams, tty: bool) -> anyhow::Result<(Stdio, bool)> {
    let mut stdio = match streams.interactive {
        true => attach::stdio(tty),
        false => Stdio { terminal: tty, ..Stdio::default() },
    };
    stdio.log = log::target(&streams.log_opt)?;
    let log_to_file = match &streams.log_uri {
        Some(uri) => log::to_uri(uri, &mut stdio)?,
        None => keeps_log(streams),
    };
    Ok((stdio, log_to_file))
}

/// On our terminal, until it ends or we detach. Attached before it starts, we miss nothing.
async fn interactive(context: &Context, options: Run, container: ContainerRequest) -> anyhow::Result<u8> {
    let id = container.id.clone();
    let stdio = Stdio { log: log::target(&options.streams.log_opt)?, ..attach::stdio(true) };
    let request = TaskRequest { stdio, log_to_file: logs_to_file(&options), ..task_request(&options)? };
    let started = async {
        context.namespace().containers().create(container).await?;
        on_terminal(&context.namespace().container(id.clone()), request).await
    };
    let (task, reader, pid) = match started.await {
        Ok(started) => started,
        Err(error) => return refused(context, &options, &id, error).await,
    };
    write_pid_file(&options.streams, pid)?;
    let keys = options.streams.detach_keys.clone();
    let session = attach::Session { keys: Some(keys), terminal: true, close_stdin: true, follow: true };
    let code = session.attend(task.init(), reader).await?;
    // Detached from, it goes on and is not removed.
    if options.rm && task.info().await.is_ok_and(|info| info.status == ProcessStatus::Stopped) {
        remove(context, &id).await?;
    }
    Ok(code)
}

/// Makes a task, attaches to it, starts it.
pub async fn on_terminal(
    container: &Container,
    request: TaskRequest,
) -> Result<(Task, Incoming<AttachRecord>, u32), Error> {
    let task = container.create_task(request).await?;
    let from = AttachRequest { from: AttachFrom::Position(0), overflow: Overflow::Block };
    let reader = task.init().attach(from).await?;
    let pid = task.start().await?;
    Ok((task, reader, pid))
}

async fn detached(context: &Context, options: &Run, container: ContainerRequest) -> anyhow::Result<u8> {
    let id = container.id.clone();
    let streams = &options.streams;
    let (stdio, log_to_file) = left_alone(streams, options.container.tty)?;
    let task = TaskRequest { stdio, log_to_file, ..task_request(options)? };
    match context.namespace().run(RunRequest { container, task }).await {
        Ok(running) => {
            write_pid_file(streams, running.pid())?;
            if context.json {
                output::json(&serde_json::json!({"container": id, "pid": running.pid()}))?;
            } else {
                output::line(id.as_str());
            }
            Ok(0)
        }
        Err(error) => refused(context, options, &id, error).await,
    }
}

/// It did not start: what was made for `--rm` goes again, and the code says what a shell would.
async fn refused(context: &Context, options: &Run, id: &ContainerId, error: Error) -> anyhow::Result<u8> {
    if options.rm && error.class != ErrorClass::AlreadyExists {
        // Whatever is left of it is named by `bosun ps --all`; the first failure is the one to tell.
        let _ = remove(context, id).await;
    }
    let code = start_code(&error);
    let failure = anyhow::Error::new(error).context(format!("container {id}"));
    match code {
        Some(code) => {
            output::report(&failure);
            Ok(code)
        }
        None => Err(failure),
    }
}

/// 126 or 127 when it is the command in the container that cannot be started.
fn start_code(error: &Error) -> Option<u8> {
    let text = error.message.to_ascii_lowercase();
    if !(text.contains("exec") || text.contains("command")) {
        return None;
    }
    if error.class == ErrorClass::NotFound || text.contains("no such file") || text.contains("not found") {
        return Some(CODE_NO_COMMAND);
    }
    let denied = error.class == ErrorClass::PermissionDenied || text.contains("permission");
    (denied || text.contains("exec format")).then_some(CODE_CANNOT_START)
}

async fn remove(context: &Context, id: &ContainerId) -> anyhow::Result<()> {
    let container = context.namespace().container(id.clone());
    match container.task().delete().await {
        Ok(_) => {}
        Err(error) if error.class == ErrorClass::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    match container.delete(true).await {
        Ok(()) => Ok(()),
        Err(error) if error.class == ErrorClass::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes `--pid-file`.
pub fn write_pid_file(streams: &Streams, pid: u32) -> anyhow::Result<()> {
    let Some(path) = &streams.pid_file else { return Ok(()) };
    std::fs::write(path, format!("{pid}\n")).with_context(|| format!("cannot write {}", path.display()))
}

fn container_request(options: &Run, id: ContainerId) -> anyhow::Result<ContainerRequest> {
    let words = &options.container;
    if !options.checkpoint {
        return create::request(words, id);
    }
    let checkpoint = ImageName::new(words.image.as_str())?;
    Ok(ContainerRequest {
        labels: context::labels(&words.label)?,
        snapshotter: words.snapshotter.clone(),
        restart: lifecycle::policy(&words.restart)?,
        ..ContainerRequest::of_checkpoint(id, checkpoint).runtime(&words.runtime)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_commands_that_do_not_start() {
        let missing = Error::not_found("container x: executable \"/nope\" not found");
        assert_eq!(start_code(&missing), Some(127));
        assert_eq!(start_code(&Error::permission_denied("cannot exec /etc/passwd")), Some(126));
        assert_eq!(start_code(&Error::not_found("image r.io/a:1")), None);
    }
}
