//! Standard streams over FIFOs that the client makes: no byte passes the daemon.

use bosun_client::io::{Ends, Fifos, Pump};
use bosun_client::types::spec::{ContainerRequest, SpecOptions};
use bosun_client::types::task::TaskRequest;
use bosun_client::{Client, ImageName, Result};

/// `image`: one that is here, with a shell. `directory`: where the FIFOs are made.
pub async fn example(client: &Client, image: &ImageName, directory: &std::path::Path) -> Result<()> {
    let namespace = client.default_namespace();
    let spec = SpecOptions::default().args(["cat"]);
    let request = ContainerRequest::of_image("example-io".parse()?, image.clone()).spec(spec);
    namespace.containers().create(request).await?;
    let container = namespace.container("example-io".parse()?);

    let fifos = Fifos::create(directory, Ends::streams())?;
    let request = TaskRequest::with_stdio(fifos.stdio());
    let (mut theirs, ours) = tokio::io::duplex(1024);
    let mut pump = Pump::attach(fifos, Some(&b"hello\n"[..]), Some(ours), None::<tokio::io::Sink>)?;
    let task = container.create_task(request).await?;
    task.start().await?;
    pump.started();
    pump.input_ended().await;
    task.close_stdin().await?;
    assert_eq!(task.wait().await?.code(), 0);
    pump.drained().await?;
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut theirs, &mut text).await.expect("it was written");
    assert_eq!(text, "hello\n");

    task.delete().await?;
    container.delete(true).await
}
