//! Processes: a container run in one round trip, and execs with their streams.

use bosun_client::types::spec::{ContainerRequest, SpecOptions};
use bosun_client::types::stdio::{AttachFrom, AttachRecord, AttachRequest, STDIN_ATTACH, Stdio};
use bosun_client::types::task::{ExecRequest, ProcessStatus, TaskRequest};
use bosun_client::{Client, ImageName, Result, RunRequest};

/// `image`: one that is here, with a shell.
pub async fn example(client: &Client, image: &ImageName) -> Result<()> {
    let namespace = client.default_namespace();
    let spec = SpecOptions::default().args(["sleep", "1000"]);
    let container = ContainerRequest::of_image("example-exec".parse()?, image.clone()).spec(spec);
    let task = TaskRequest::logged();
    let running = namespace.run(RunRequest { container, task }).await?;
    assert!(running.pid() > 0);

    // An exec that reads what clients write, and is read by as many as like.
    let task = namespace.container("example-exec".parse()?).task();
    let stdio = Stdio { stdin: Some(STDIN_ATTACH.to_owned()), ..Stdio::default() };
    let cat = task.exec(ExecRequest::new("cat".parse()?, ["cat"]).stdio(stdio)).await?;
    assert_eq!(task.load_process("cat".parse()?).await?.status().await?, ProcessStatus::Created);
    cat.start().await?;
    let all_kept = AttachRequest { from: AttachFrom::Replay(u32::MAX), ..AttachRequest::default() };
    let mut output = cat.attach(all_kept).await?;
    cat.write_stdin(b"hello\n".to_vec()).await?;
    cat.close_stdin().await?;
    let echoed = output.next().await.expect("it answers")?;
    assert!(matches!(echoed, AttachRecord::Output { bytes, .. } if bytes == b"hello\n"));
    assert_eq!(cat.wait().await?.code(), 0);
    assert_eq!(task.execs().await?.len(), 1);
    cat.delete().await?;

    // Registered, started and waited for at once.
    let exit = task.run_exec(ExecRequest::new("code".parse()?, ["/bin/sh", "-c", "exit 3"])).await?;
    assert_eq!(exit.wait().await?.code(), 3);

    task.kill_and_delete().await?;
    namespace.container("example-exec".parse()?).delete(true).await
}
