//! Everything that may be done to a container that runs; of what was acknowledged the kernel says that it was done.

use bosun_client::{Process, Task};
use bosun_tests::cgroup::{is_frozen, value_of};
use bosun_types::Result;
use bosun_types::stdio::{AttachFrom, AttachRequest, Overflow, STDIN_ATTACH, Stdio};
use bosun_types::task::ExecRequest;

use super::script::exec;

/// Once each; ends with the first call that fails.
pub async fn all(task: &Task) -> Result<()> {
    let from = AttachRequest { from: AttachFrom::Position(0), overflow: Overflow::DropOldest };
    let mut reader = task.init().attach(from).await?;
    // Its trap stands when it has said so.
    if let Some(record) = reader.next().await {
        record?;
    }
    limited(task).await?;
    let helper = started(task, exec("helper", "exit 4")).await?;
    ends_with(&helper, 4).await?;
    typed_to(task).await?;
    resized(task).await?;
    killed(task).await?;
    frozen(task).await?;
    drop(reader);
    Ok(())
}

async fn started(task: &Task, request: ExecRequest) -> Result<Process> {
    let process = task.exec(request).await?;
    process.start().await?;
    Ok(process)
}

async fn ends_with(process: &Process, code: u32) -> Result<()> {
    assert_eq!(process.wait().await?.code(), code, "the true exit code");
    process.delete().await.map(drop)
}

async fn limited(task: &Task) -> Result<()> {
    task.update(br#"{"pids":{"limit":99}}"#.to_vec()).await?;
    let pid = task.info().await?.pid;
    assert_eq!(value_of(pid, "pids", "pids.max").as_deref(), Some("99"), "an acknowledged limit");
    Ok(())
}

/// It ends when its input does.
async fn typed_to(task: &Task) -> Result<()> {
    let stdio = Stdio { stdin: Some(STDIN_ATTACH.to_owned()), ..Stdio::default() };
    let typist = started(task, ExecRequest { stdio, ..exec("typist", "cat; exit 6") }).await?;
    typist.close_stdin().await?;
    ends_with(&typist, 6).await
}

/// It ends when its terminal has the size.
async fn resized(task: &Task) -> Result<()> {
    let command = "until [ \"$(stty size)\" = '33 99' ]; do sleep 0.01; done; exit 7";
    let stdio = Stdio { terminal: true, ..Stdio::default() };
    let screen = started(task, ExecRequest { stdio, ..exec("screen", command) }).await?;
    screen.resize(99, 33).await?;
    ends_with(&screen, 7).await
}

async fn killed(task: &Task) -> Result<()> {
    let victim = started(task, exec("victim", "sleep 1000")).await?;
    victim.kill(9, false).await?;
    ends_with(&victim, 128 + 9).await
}

async fn frozen(task: &Task) -> Result<()> {
    let pid = task.info().await?.pid;
    task.pause().await?;
    assert_eq!(is_frozen(pid), Some(true), "an acknowledged pause");
    task.resume().await?;
    assert_eq!(is_frozen(pid), Some(false), "an acknowledged resume");
    Ok(())
}
