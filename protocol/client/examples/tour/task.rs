//! A task: a container that runs. Held, waited for, started, frozen, limited, measured, ended.

use bosun_client::types::spec::{ContainerRequest, SpecOptions};
use bosun_client::types::stdio::LogRequest;
use bosun_client::types::task::{ExitCause, ProcessStatus, TaskRequest};
use bosun_client::{Client, ImageName, Result};

/// `image`: one that is here, with a shell.
pub async fn example(client: &Client, image: &ImageName) -> Result<()> {
    let namespace = client.default_namespace();
    let spec = SpecOptions::default().args(["/bin/sh", "-c", "echo hello; exec sleep 1000"]);
    let request = ContainerRequest::of_image("example-task".parse()?, image.clone()).spec(spec);
    namespace.containers().create(request).await?;
    let container = namespace.container("example-task".parse()?);

    // Held before its first instruction: whoever waits now misses nothing.
    let task = container.create_task(TaskRequest::logged()).await?;
    assert_eq!(task.status().await?, ProcessStatus::Created);
    let waiting = tokio::spawn({
        let task = task.clone();
        async move { task.wait().await }
    });
    assert_eq!(task.start().await?, task.pid().await?);

    let mut log = task.logs(LogRequest { follow: true, ..LogRequest::default() }).await?;
    let first = log.next().await.expect("it says something")?;
    assert_eq!(first.bytes, b"hello\n");

    task.pause().await?;
    assert_eq!(container.load_task().await?.status().await?, ProcessStatus::Paused);
    task.resume().await?;
    task.update(br#"{"pids":{"limit":20}}"#.to_vec()).await?;
    assert_eq!(task.metrics().await?.usage.pids.limit, 20);
    assert!(task.pids().await?.iter().any(|process| process.exec.is_none()));

    // SIGKILL, wait, delete; the others who wait see the same end.
    let exit = task.kill_and_delete().await?.expect("it ran");
    assert_eq!((&exit.cause, exit.code()), (&ExitCause::Signal(9), 137));
    assert_eq!(waiting.await.expect("it is not cancelled")?, exit);
    container.delete(true).await
}
