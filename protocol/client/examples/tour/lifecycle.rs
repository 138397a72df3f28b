//! A container's life as people see it: started, stopped, restarted, kept up by a policy.

use bosun_client::types::relaunch::{RestartPolicy, StopRequest};
use bosun_client::types::spec::{ContainerRequest, SpecOptions};
use bosun_client::types::task::TaskRequest;
use bosun_client::{Client, ImageName, Result};

/// `image`: one that is here, with a shell.
pub async fn example(client: &Client, image: &ImageName) -> Result<()> {
    let namespace = client.default_namespace();
    let spec = SpecOptions::default().args(["sleep", "1000"]);
    let request = ContainerRequest::of_image("example-life".parse()?, image.clone()).spec(spec);
    namespace.containers().create(request).await?;
    let container = namespace.container("example-life".parse()?);
    container.create_task(TaskRequest::logged()).await?;

    let first = container.start().await?;
    let at_once = || StopRequest { signal: None, timeout_ms: Some(0) };
    let second = container.restart(at_once()).await?;
    assert_ne!(first, second);
    container.set_restart_policy(RestartPolicy::new("on-failure:3".parse()?)).await?;
    assert!(container.relaunch().await?.is_some());
    assert_eq!(namespace.relaunches().await?.len(), 1);

    let exit = container.stop(at_once()).await?.expect("it ran");
    assert_eq!(exit.code(), 137);
    container.task().delete().await?;
    container.delete(true).await
}
