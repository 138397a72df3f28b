//! The part of the script that needs CRIU: a container is stored and goes on, its copy is restored and ended.

use bosun_client::Client;
use bosun_tests::client::{logged, namespace, shell};
use bosun_types::checkpoint::{CheckpointRequest, TaskCheckpoint};
use bosun_types::spec::{ContainerRequest, SpecRequest};
use bosun_types::task::{ProcessStatus, TaskRequest};
use bosun_types::{ContainerId, ImageName, Result};

/// Containers of this part.
pub const CONTAINERS: [&str; 2] = ["kept", "copy"];

/// Its image.
pub fn image() -> ImageName {
    ImageName::new("chaos.local/copy:1").expect("good")
}

fn id(name: &str) -> ContainerId {
    ContainerId::new(name).expect("good")
}

/// What was acknowledged.
#[derive(Debug, Default)]
pub struct Copies {
    /// The first one runs.
    pub runs: bool,
    /// Its image is recorded.
    pub stored: bool,
    /// The copy's end was seen.
    pub ended: bool,
}

/// Plays it; ends with the first call that fails.
pub async fn play(client: &Client, told: &mut Copies) -> Result<()> {
    let containers = namespace(client).containers();
    containers.create(shell("kept", "while true; do sleep 1000; done")).await?;
    let kept = containers.get(id("kept")).create_task(logged()).await?;
    kept.start().await?;
    told.runs = true;
    let request = CheckpointRequest { image: Some(image()), ..CheckpointRequest::default() };
    kept.checkpoint(request).await?;
    told.stored = true;
    let container = ContainerRequest {
        image: None,
        spec: SpecRequest::Checkpoint,
        checkpoint: Some(image()),
        ..shell("copy", "")
    };
    containers.create(container).await?;
    let from = TaskRequest { checkpoint: Some(TaskCheckpoint::Image(image())), ..logged() };
    let copy = containers.get(id("copy")).create_task(from).await?;
    copy.start().await?;
    copy.kill(9, false).await?;
    told.ended = copy.wait().await?.code() == 137;
    copy.delete().await?;
    containers.get(id("copy")).delete(true).await
}

/// Whatever happened: what ran runs, and is not frozen; what was stored is there.
pub async fn verify(client: &Client, told: &Copies) {
    if told.runs {
        let info = namespace(client).container(id("kept")).task().info().await.expect("it lives");
        assert_eq!(info.status, ProcessStatus::Running, "what was to be stored goes on");
    }
    if told.stored {
        namespace(client).images().get(image()).await.expect("an acknowledged checkpoint is there");
    }
}
