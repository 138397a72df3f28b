//! A tour of the client library: each noun's example, against the daemon of `BOSUN_ADDRESS` (or the default one).
//!
//!     cargo run -p bosun-client --example tour -- IMAGE [NAME…]
//!
//! The same files are the examples of the documentation, and the suite runs each (`tests/integration/client_examples.rs`).

mod access;
mod client;
mod container;
mod content;
mod copies;
mod events;
mod groups;
mod image;
mod io;
mod leases;
mod lifecycle;
mod namespace;
mod process;
mod snapshots;
mod task;
mod transfers;

use bosun_client::types::reference::Reference;
use bosun_client::{Client, ConnectOptions, Error, ImageName, Result};

const NAMES: [&str; 16] = [
    "access",
    "client",
    "container",
    "content",
    "copies",
    "events",
    "groups",
    "image",
    "io",
    "leases",
    "lifecycle",
    "namespace",
    "process",
    "snapshots",
    "task",
    "transfers",
];

#[tokio::main]
async fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let image = words.next().ok_or_else(|| Error::invalid_argument("name an image that is here"))?;
    let mut names: Vec<String> = words.collect();
    if names.is_empty() {
        names = NAMES.map(str::to_owned).to_vec();
    }
    let options = match std::env::var("BOSUN_ADDRESS") {
        Ok(address) => ConnectOptions::address(&address),
        Err(_) => ConnectOptions::default(),
    };
    let client = Client::connect(options.clone()).await?;
    for name in names {
        run(&name, &options, &client, &image).await.map_err(|error| error.context(&name))?;
    }
    Ok(())
}

async fn run(name: &str, options: &ConnectOptions, client: &Client, image: &str) -> Result<()> {
    let reference = || image.parse::<Reference>();
    let image = image.parse::<ImageName>()?;
    match name {
        "access" => access::example(client).await,
        "client" => client::example(options.clone()).await,
        "container" => container::example(client, &image).await,
        "content" => content::example(client).await,
        "copies" => copies::example(client, &image).await,
        "events" => events::example(client).await,
        "groups" => groups::example(client, &image).await,
        "image" => image::example(client, &image).await,
        "io" => io::example(client, &image, bosun_client::io::DEFAULT_DIRECTORY.as_ref()).await,
        "leases" => leases::example(client).await,
        "lifecycle" => lifecycle::example(client, &image).await,
        "namespace" => namespace::example(client).await,
        "process" => process::example(client, &image).await,
        "snapshots" => snapshots::example(client).await,
        "task" => task::example(client, &image).await,
        "transfers" => transfers::example(client, &reference()?).await,
        other => Err(Error::invalid_argument(format!("{other:?} is none of {NAMES:?}"))),
    }
}
