//! Our daemon's side: the client library.

use std::path::Path;

use anyhow::Context as _;
use bosun_client::{Client, ConnectOptions, Namespace};
use bosun_types::container::ContainerRecord;
use bosun_types::content::Descriptor;
use bosun_types::image::ImageRecord;
use bosun_types::spec::{ContainerRequest, RootRequest};
use bosun_types::{ContainerId, ImageName, Labels, NamespaceName, Timestamp};
use futures::future::BoxFuture;

use super::{LABEL, Labeller};

async fn namespace(address: &Path) -> anyhow::Result<Namespace> {
    let options = ConnectOptions { address: address.to_owned(), ..ConnectOptions::default() };
    Ok(Client::connect(options).await?.namespace(NamespaceName::default_name()))
}

fn labels(value: String) -> Labels {
    Labels::from([(LABEL.to_owned(), value)])
}

/// A client with an image's record.
pub struct Image {
    namespace: Namespace,
    record: ImageRecord,
}

impl Image {
    /// Connects.
    pub async fn connect(address: &Path, id: &str) -> anyhow::Result<Self> {
        let now = Timestamp::now();
        let record = ImageRecord {
            namespace: NamespaceName::default_name(),
            name: ImageName::new(format!("bench.local/{id}:latest"))?,
            labels: Labels::new(),
            target: Descriptor {
                media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
                digest: bosun_types::Digest::from_bytes([7; 32]),
                size: 7,
            },
            created_at: now,
            updated_at: now,
        };
        Ok(Self { namespace: namespace(address).await?, record })
    }
}

impl Labeller for Image {
    fn prepare(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async {
            self.namespace.images().create(self.record.clone()).await?;
            Ok(())
        })
    }

    fn label(&mut self, value: String) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async {
            let record = ImageRecord { labels: labels(value), ..self.record.clone() };
            self.namespace.images().update(record, &["labels"]).await?;
            Ok(())
        })
    }

    fn clear(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async { Ok(self.namespace.images().delete(self.record.name.clone()).await?) })
    }
}

/// A client with a container's record.
pub struct Container {
    namespace: Namespace,
    id: ContainerId,
    record: Option<ContainerRecord>,
}

impl Container {
    /// Connects.
    pub async fn connect(address: &Path, id: &str) -> anyhow::Result<Self> {
        Ok(Self { namespace: namespace(address).await?, id: ContainerId::new(id)?, record: None })
    }
}

impl Labeller for Container {
    fn prepare(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async {
            let mut request = bosun_tests::client::shell(self.id.as_str(), "true");
            request =
                ContainerRequest { image: None, root: RootRequest::Directory("/".to_owned()), ..request };
            self.record = Some(self.namespace.containers().create(request).await?);
            Ok(())
        })
    }

    fn label(&mut self, value: String) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async {
            let container = self.namespace.container(self.id.clone());
            let record = self.record.clone().context("the record is made first")?;
            let record = ContainerRecord { labels: labels(value), ..record };
            container.update(record, &["labels"]).await?;
            Ok(())
        })
    }

    fn clear(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async { Ok(self.namespace.container(self.id.clone()).delete(false).await?) })
    }
}
