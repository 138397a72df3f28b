//! `bosun run`.

mod log;
mod security;
mod users;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use bosun_client::RunRequest;
use bosun_client::io::{Ends, Fifos};
use bosun_types::checkpoint::TaskCheckpoint;
use bosun_types::container::RuntimeChoice;
use bosun_types::mount::Mount;
use bosun_types::spec::{ContainerRequest, RootRequest, SpecOptions, SpecRequest};
use bosun_types::stdio::{AttachFrom, AttachRequest, Overflow, Stdio};
use bosun_types::task::{ProcessStatus, TaskRequest};
use bosun_types::{ContainerId, Error, ErrorClass, ImageName};

use super::{attach, foreground, lifecycle};
use crate::arguments::{Network, Run};
use crate::context::{self, Context};
use crate::output;

/// What a shell says of a command that cannot be started.
const CODE_CANNOT_START: u8 = 126;
/// What a shell says of a command that does not exist.
const CODE_NO_COMMAND: u8 = 127;

/// Makes a container and runs it; gives its exit code.
pub async fn run(context: &Context, options: Run) -> anyhow::Result<u8> {
    let id = match &options.name {
        Some(name) => ContainerId::new(name.as_str())?,
        None => ContainerId::new(foreground::random_name())?,
    };
    let container = container_request(&options, id.clone())?;
    if options.detach {
        return detached(context, &options, container).await;
    }
    if options.tty && options.interactive {
        return interactive(context, options, container).await;
    }
    let ends = if options.tty {
        Ends { stdin: options.interactive, ..Ends::terminal() }
    } else {
        Ends { stdin: options.interactive, ..Ends::output() }
    };
    let fifos = Fifos::create(&context.fifo_directory, ends)?;
    // What is removed at its end needs no log; the reader is here.
    let log_to_file = !options.no_log && !options.rm;
    let stdio = Stdio { log: log::target(&options.log_opt)?, ..fifos.stdio() };
    let task = TaskRequest {
        stdio,
        log_to_file,
        on_shim_death: options.on_shim_death.into(),
        checkpoint: checkpoint(&options)?,
        ..TaskRequest::default()
    };
    let mut session = foreground::Session::prepare(fifos)?;
    let running = match context.namespace().run(RunRequest { container, task }).await {
        Ok(running) => running,
        Err(error) => return refused(context, &options, &id, error).await,
    };
    write_pid_file(&options, running.pid())?;
    let code = session.attend(running).await?;
    if options.rm {
        remove(context, &id).await?;
    }
    Ok(code)
}

/// On our terminal, until it ends or we detach. Attached before it starts, we miss nothing.
async fn interactive(context: &Context, options: Run, container: ContainerRequest) -> anyhow::Result<u8> {
    let id = container.id.clone();
    let log_to_file = !options.no_log && !options.rm;
    let stdio = Stdio { log: log::target(&options.log_opt)?, ..attach::stdio(true) };
    let request = TaskRequest {
        stdio,
        log_to_file,
        on_shim_death: options.on_shim_death.into(),
        checkpoint: checkpoint(&options)?,
        ..TaskRequest::default()
    };
    let started = async {
        context.namespace().containers().create(container).await?;
        let task = context.namespace().container(id.clone()).create_task(request).await?;
        let from = AttachRequest { from: AttachFrom::Position(0), overflow: Overflow::Block };
        let reader = task.init().attach(from).await?;
        let pid = task.start().await?;
        Ok((task, reader, pid))
    };
    let (task, reader, pid) = match started.await {
        Ok(started) => started,
        Err(error) => return refused(context, &options, &id, error).await,
    };
    write_pid_file(&options, pid)?;
    let session =
        attach::Session { keys: Some(options.detach_keys), terminal: true, close_stdin: true, follow: true };
    let code = session.attend(task.init(), reader).await?;
    // Detached from, it goes on and is not removed.
    if options.rm && task.info().await.is_ok_and(|info| info.status == ProcessStatus::Stopped) {
        remove(context, &id).await?;
    }
    Ok(code)
}

async fn detached(context: &Context, options: &Run, container: ContainerRequest) -> anyhow::Result<u8> {
    let id = container.id.clone();
    let mut stdio = match options.interactive {
        true => attach::stdio(options.tty),
        false => Stdio { terminal: options.tty, ..Stdio::default() },
    };
    stdio.log = log::target(&options.log_opt)?;
    let log_to_file = match &options.log_uri {
        Some(uri) => log::to_uri(uri, &mut stdio)?,
        None => !options.no_log,
    };
    let task = TaskRequest {
        stdio,
        log_to_file,
        on_shim_death: options.on_shim_death.into(),
        checkpoint: checkpoint(options)?,
        ..TaskRequest::default()
    };
    match context.namespace().run(RunRequest { container, task }).await {
        Ok(running) => {
            write_pid_file(options, running.pid())?;
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

fn write_pid_file(options: &Run, pid: u32) -> anyhow::Result<()> {
    let Some(path) = &options.pid_file else { return Ok(()) };
    std::fs::write(path, format!("{pid}\n")).with_context(|| format!("cannot write {}", path.display()))
}

/// What the task is restored from, if it is.
fn checkpoint(options: &Run) -> anyhow::Result<Option<TaskCheckpoint>> {
    let name = options.checkpoint.then(|| ImageName::new(options.image.as_str())).transpose()?;
    Ok(name.map(TaskCheckpoint::Image))
}

fn container_request(options: &Run, id: ContainerId) -> anyhow::Result<ContainerRequest> {
    if options.checkpoint {
        return Ok(ContainerRequest {
            id,
            labels: context::labels(&options.label)?,
            image: None,
            snapshotter: options.snapshotter.clone(),
            root: RootRequest::Image { key: None },
            runtime: RuntimeChoice { name: options.runtime.clone(), options: None },
            spec: SpecRequest::Checkpoint,
            extensions: BTreeMap::new(),
            restart: lifecycle::policy(&options.restart)?,
            checkpoint: Some(ImageName::new(options.image.as_str())?),
        });
    }
    let (image, root) = if options.rootfs {
        let directory = std::path::absolute(Path::new(&options.image))?;
        if !directory.is_dir() {
            bail!("--rootfs: {} is not a directory", directory.display());
        }
        (None, RootRequest::Directory(directory.to_string_lossy().into_owned()))
    } else {
        (Some(ImageName::new(options.image.as_str())?), RootRequest::Image { key: None })
    };
    Ok(ContainerRequest {
        id,
        labels: context::labels(&options.label)?,
        image,
        snapshotter: options.snapshotter.clone(),
        root,
        runtime: RuntimeChoice { name: options.runtime.clone(), options: None },
        spec: SpecRequest::Build(Box::new(spec_options(options)?)),
        extensions: BTreeMap::new(),
        restart: lifecycle::policy(&options.restart)?,
        checkpoint: None,
    })
}

fn spec_options(options: &Run) -> anyhow::Result<SpecOptions> {
    let mut env = Vec::new();
    for path in &options.env_file {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let words = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        env.extend(context::environment(words));
    }
    env.extend(context::environment(options.env.iter().map(String::as_str)));
    let mut mounts = options.mount.iter().map(|word| mount(word)).collect::<anyhow::Result<Vec<_>>>()?;
    for word in &options.volume {
        mounts.push(volume(word)?);
    }
    let mut spec = SpecOptions {
        args: options.command.clone(),
        entrypoint: options.entrypoint.clone().map(|program| vec![program]),
        env,
        cwd: options.cwd.clone(),
        user: options.user.clone(),
        terminal: options.tty,
        hostname: options.hostname.clone(),
        mounts,
        read_only_root: options.read_only,
        privileged: options.privileged,
        host_network: options.net_host || options.net == Network::Host,
        join_namespaces: join_namespaces(&options.with_ns)?,
        memory_bytes_max: options.memory.as_deref().map(context::bytes).transpose()?,
        cpu_millis: options.cpus.map(cpu_millis).transpose()?,
        pids_max: options.pids_limit,
        user_namespace: users::user_namespace(&options.users)?,
        ..SpecOptions::default()
    };
    security::apply(&mut spec, &options.security)?;
    Ok(spec)
}

/// Thousandths of a processor.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
pub fn cpu_millis(cpus: f64) -> anyhow::Result<u64> {
    if !(0.001..=1_000_000.0).contains(&cpus) {
        bail!("--cpus {cpus}: use a number such as 0.5 or 2");
    }
    Ok((cpus * 1000.0).round() as u64)
}

fn join_namespaces(words: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    words
        .iter()
        .map(|word| match word.split_once(':') {
            Some((kind, path)) if path.starts_with('/') || path == "host" => {
                Ok((kind.to_owned(), path.to_owned()))
            }
            _ => bail!("--with-ns {word:?}: use type:/path, such as network:/run/netns/web, or type:host"),
        })
        .collect()
}

/// CLI-5: `type=`, `source=` or `src=`, `destination=` or `dst=`, `options=a:b`.
fn mount(word: &str) -> anyhow::Result<Mount> {
    let mut mount =
        Mount { kind: String::new(), source: String::new(), target: String::new(), options: Vec::new() };
    for part in word.split(',') {
        let Some((key, value)) = part.split_once('=') else {
            bail!("--mount {word:?}: {part:?} is not KEY=VALUE");
        };
        match key {
            "type" => value.clone_into(&mut mount.kind),
            "source" | "src" => value.clone_into(&mut mount.source),
            "destination" | "dst" | "target" => value.clone_into(&mut mount.target),
            "options" => mount.options = value.split(':').map(str::to_owned).collect(),
            _ => bail!("--mount {word:?}: {key:?} is unknown: use type, src, dst or options"),
        }
    }
    if !mount.target.starts_with('/') {
        bail!("--mount {word:?}: dst must be an absolute path");
    }
    Ok(mount)
}

/// `/host:/container[:ro]`.
fn volume(word: &str) -> anyhow::Result<Mount> {
    let parts: Vec<&str> = word.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [source, target] => (*source, *target, "rw"),
        [source, target, mode @ ("ro" | "rw")] => (*source, *target, *mode),
        _ => bail!("--volume {word:?}: use /host/path:/path or /host/path:/path:ro"),
    };
    if !source.starts_with('/') || !target.starts_with('/') {
        bail!("--volume {word:?}: both paths must be absolute");
    }
    Ok(Mount {
        kind: "bind".to_owned(),
        source: source.to_owned(),
        target: target.to_owned(),
        options: vec!["rbind".to_owned(), mode.to_owned()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cli_5_mount_words() {
        let parsed = mount("type=bind,src=/a,dst=/b,options=rbind:ro").expect("parses");
        assert_eq!(
            (parsed.kind.as_str(), parsed.source.as_str(), parsed.target.as_str()),
            ("bind", "/a", "/b")
        );
        assert_eq!(parsed.options, ["rbind", "ro"]);
        for bad in ["", "type", "type=bind,sauce=/a,dst=/b", "type=bind,src=/a,dst=b"] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn volume_words() {
        assert_eq!(volume("/a:/b:ro").expect("parses").options, ["rbind", "ro"]);
        for bad in ["/a", "a:/b", "/a:b", "/a:/b:rx", "/a:/b:ro:z"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn codes_of_commands_that_do_not_start() {
        let missing = Error::not_found("container x: executable \"/nope\" not found");
        assert_eq!(start_code(&missing), Some(127));
        assert_eq!(start_code(&Error::permission_denied("cannot exec /etc/passwd")), Some(126));
        assert_eq!(start_code(&Error::not_found("image r.io/a:1")), None);
    }

    #[test]
    fn processors_in_thousandths() {
        assert_eq!(cpu_millis(0.5).expect("fine"), 500);
        assert!(cpu_millis(0.0).is_err() && cpu_millis(f64::NAN).is_err());
    }
}
