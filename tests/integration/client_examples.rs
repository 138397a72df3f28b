//! The examples of the client's documentation, run as they are written there (`protocol/client/examples/tour`), each against a daemon of its own.

use bosun_client::{Client, ConnectOptions, ImageName};
use bosun_tests::client::{import, namespace};
use bosun_tests::registry::Registry;
use bosun_tests::world::{Daemon, World};

use crate::distribution::push;

#[path = "../../protocol/client/examples/tour/access.rs"]
mod access;
#[path = "../../protocol/client/examples/tour/client.rs"]
mod client;
#[path = "../../protocol/client/examples/tour/container.rs"]
mod container;
#[path = "../../protocol/client/examples/tour/content.rs"]
mod content;
#[path = "../../protocol/client/examples/tour/copies.rs"]
mod copies;
#[path = "../../protocol/client/examples/tour/events.rs"]
mod events;
#[path = "../../protocol/client/examples/tour/groups.rs"]
mod groups;
#[path = "../../protocol/client/examples/tour/image.rs"]
mod image;
#[path = "../../protocol/client/examples/tour/io.rs"]
mod io;
#[path = "../../protocol/client/examples/tour/leases.rs"]
mod leases;
#[path = "../../protocol/client/examples/tour/lifecycle.rs"]
mod lifecycle;
#[path = "../../protocol/client/examples/tour/namespace.rs"]
mod namespaces;
#[path = "../../protocol/client/examples/tour/process.rs"]
mod process;
#[path = "../../protocol/client/examples/tour/snapshots.rs"]
mod snapshots;
#[path = "../../protocol/client/examples/tour/task.rs"]
mod task;
#[path = "../../protocol/client/examples/tour/transfers.rs"]
mod transfers;

async fn started() -> (World, Daemon, Client, ImageName) {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    let image = import(&client).await;
    (world, daemon, client, image)
}

/// Runs one, and nothing of it is left behind.
macro_rules! examples {
    ($($test:ident: |$world:ident, $client:ident, $image:ident| $run:expr;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let ($world, _daemon, $client, $image) = started().await;
                $run.await.expect("the example works");
                $world.check(&$client).await;
                let _ = &$image;
            }
        )*
    };
}

examples! {
    example_of_access: |world, client, image| access::example(&client);
    example_of_a_client: |world, client, image| client::example(ConnectOptions::address(&world.address().to_string_lossy()));
    example_of_a_container: |world, client, image| container::example(&client, &image);
    example_of_content: |world, client, image| content::example(&client);
    example_of_copies: |world, client, image| copies::example(&client, &image);
    example_of_events: |world, client, image| events::example(&client);
    example_of_groups: |world, client, image| groups::example(&client, &image);
    example_of_an_image: |world, client, image| image::example(&client, &image);
    example_of_io: |world, client, image| io::example(&client, &image, &world.path("fifos"));
    example_of_leases: |world, client, image| leases::example(&client);
    example_of_a_lifecycle: |world, client, image| lifecycle::example(&client, &image);
    example_of_a_namespace: |world, client, image| namespaces::example(&client);
    example_of_processes: |world, client, image| process::example(&client, &image);
    example_of_snapshots: |world, client, image| snapshots::example(&client);
    example_of_a_task: |world, client, image| task::example(&client, &image);
}

#[tokio::test(flavor = "multi_thread")]
async fn example_of_transfers() {
    let (world, _daemon, client, image) = started().await;
    let registry = Registry::start(&world.path("r"));
    let reference = registry.reference("team/app:1");
    let pushed = namespace(&client).transfers().push(push(reference.clone(), &image)).await.expect("begins");
    pushed.wait().await.expect("pushes");
    transfers::example(&client, &reference).await.expect("the example works");
    world.check(&client).await;
}
