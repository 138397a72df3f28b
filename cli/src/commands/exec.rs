//! `bosun exec`.

use bosun_client::Task;
use bosun_client::io::{Ends, Fifos};
use bosun_types::ExecId;
use bosun_types::stdio::{AttachFrom, AttachRequest, Overflow, Stdio};
use bosun_types::task::{ExecProcess, ExecRequest};

use super::{attach, foreground};
use crate::arguments::Exec;
use crate::context::{self, Context};
use crate::detach_keys::DetachKeys;
use crate::output;

/// Runs a further command in a running container; gives its exit code.
pub async fn exec(context: &Context, options: Exec) -> anyhow::Result<u8> {
    let id = match &options.exec_id {
        Some(id) => ExecId::new(id.as_str())?,
        None => ExecId::new(format!("exec-{:08x}", foreground::random() as u32))?,
    };
    let mut env: Vec<String> = context::environment(options.env.iter().map(String::as_str)).collect();
    if options.tty && !env.iter().any(|word| word.starts_with("TERM=")) {
        env.push(format!("TERM={}", std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned())));
    }
    let process = ExecProcess::Inherit {
        args: options.command.clone(),
        env,
        cwd: options.cwd.clone(),
        user: options.user.clone(),
    };
    let task = context.container(&options.container)?.task();
    if options.detach {
        let stdio = match options.interactive {
            true => attach::stdio(options.tty),
            false => Stdio { terminal: options.tty, ..Stdio::default() },
        };
        let running = task.run_exec(ExecRequest { id: id.clone(), process, stdio }).await?;
        if context.json {
            output::json(&serde_json::json!({"exec": id, "pid": running.pid()}))?;
        } else {
            output::line(id.as_str());
        }
        return Ok(0);
    }
    if options.tty && options.interactive {
        let request = ExecRequest { id, process, stdio: attach::stdio(true) };
        return interactive(&task, request, options.detach_keys).await;
    }
    let ends = if options.tty {
        Ends { stdin: options.interactive, ..Ends::terminal() }
    } else {
        Ends { stdin: options.interactive, ..Ends::output() }
    };
    let fifos = Fifos::create(&context.fifo_directory, ends)?;
    let stdio = fifos.stdio();
    let mut session = foreground::Session::prepare(fifos)?;
    let outcome = match task.run_exec(ExecRequest { id: id.clone(), process, stdio }).await {
        Ok(running) => {
            let process = running.process().clone();
            session.attend(&process, running.wait()).await
        }
        Err(error) => Err(error.into()),
    };
    // It was for this one command: nothing of it stays. When it was never made, there is nothing to remove.
    let _ = task.process(id).delete().await;
    outcome
}

/// On our terminal, until it ends or we detach.
async fn interactive(task: &Task, request: ExecRequest, keys: DetachKeys) -> anyhow::Result<u8> {
    let running = task.run_exec(request).await?;
    let process = running.process().clone();
    // From its first byte: it may have written before we came.
    let from = AttachRequest { from: AttachFrom::Position(0), overflow: Overflow::Block };
    let session = attach::Session { keys: Some(keys), terminal: true, close_stdin: true, follow: true };
    let outcome = match process.attach(from).await {
        Ok(reader) => session.attend(&process, reader).await,
        Err(error) => Err(error.into()),
    };
    // After detaching it goes on, and this is refused.
    let _ = process.delete().await;
    outcome
}
