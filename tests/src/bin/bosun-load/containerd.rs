//! containerd's side: its gRPC services of images and of containers, with those fields of their messages that are used here
//! (`containerd/services/images/v1/images.proto`, `containerd/services/containers/v1/containers.proto`).

use std::collections::HashMap;
use std::path::Path;

use futures::future::BoxFuture;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

use super::{LABEL, Labeller};

#[derive(Clone, PartialEq, prost::Message)]
struct Descriptor {
    #[prost(string, tag = "1")]
    media_type: String,
    #[prost(string, tag = "2")]
    digest: String,
    #[prost(int64, tag = "3")]
    size: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(map = "string, string", tag = "2")]
    labels: HashMap<String, String>,
    #[prost(message, optional, tag = "3")]
    target: Option<Descriptor>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Runtime {
    #[prost(string, tag = "1")]
    name: String,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerMessage {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(map = "string, string", tag = "2")]
    labels: HashMap<String, String>,
    #[prost(message, optional, tag = "4")]
    runtime: Option<Runtime>,
    #[prost(message, optional, tag = "5")]
    spec: Option<Any>,
}

/// `google.protobuf.FieldMask`.
#[derive(Clone, PartialEq, prost::Message)]
struct FieldMask {
    #[prost(string, repeated, tag = "1")]
    paths: Vec<String>,
}

/// Requests to create and to update have their record first and, to update, the mask second, in both services.
#[derive(Clone, PartialEq, prost::Message)]
struct ImageRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageMessage>,
    #[prost(message, optional, tag = "2")]
    mask: Option<FieldMask>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerRequest {
    #[prost(message, optional, tag = "1")]
    container: Option<ContainerMessage>,
    #[prost(message, optional, tag = "2")]
    mask: Option<FieldMask>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DeleteRequest {
    #[prost(string, tag = "1")]
    id: String,
}

/// An answer of which nothing is wanted: unknown fields are skipped.
#[derive(Clone, PartialEq, prost::Message)]
struct Answer {}

struct Connection(Grpc<Channel>);

impl Connection {
    async fn open(address: &Path) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", address.display()))?;
        Ok(Self(Grpc::new(endpoint.connect().await?)))
    }

    async fn call<M: prost::Message + 'static>(
        &mut self,
        method: &'static str,
        message: M,
    ) -> anyhow::Result<()> {
        self.0.ready().await?;
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static("default"));
        let codec = tonic_prost::ProstCodec::<M, Answer>::default();
        self.0.unary(request, PathAndQuery::from_static(method), codec).await?;
        Ok(())
    }
}

fn labels(value: String) -> HashMap<String, String> {
    HashMap::from([(LABEL.to_owned(), value)])
}

fn labels_only() -> Option<FieldMask> {
    Some(FieldMask { paths: vec!["labels".to_owned()] })
}

/// A client with an image's record.
pub struct Image {
    connection: Connection,
    record: ImageMessage,
}

impl Image {
    /// Connects.
    pub async fn connect(address: &Path, id: &str) -> anyhow::Result<Self> {
        let target = Descriptor {
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            digest: format!("sha256:{}", "07".repeat(32)),
            size: 7,
        };
        let record = ImageMessage {
            name: format!("bench.local/{id}:latest"),
            labels: HashMap::new(),
            target: Some(target),
        };
        Ok(Self { connection: Connection::open(address).await?, record })
    }
}

impl Labeller for Image {
    fn prepare(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        let request = ImageRequest { image: Some(self.record.clone()), mask: None };
        Box::pin(self.connection.call("/containerd.services.images.v1.Images/Create", request))
    }

    fn label(&mut self, value: String) -> BoxFuture<'_, anyhow::Result<()>> {
        let image = ImageMessage { labels: labels(value), ..self.record.clone() };
        let request = ImageRequest { image: Some(image), mask: labels_only() };
        Box::pin(self.connection.call("/containerd.services.images.v1.Images/Update", request))
    }

    fn clear(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        let request = DeleteRequest { id: self.record.name.clone() };
        Box::pin(self.connection.call("/containerd.services.images.v1.Images/Delete", request))
    }
}

/// A client with a container's record.
pub struct Container {
    connection: Connection,
    record: ContainerMessage,
}

impl Container {
    /// Connects.
    pub async fn connect(address: &Path, id: &str) -> anyhow::Result<Self> {
        let type_url = "types.containerd.io/opencontainers/runtime-spec/1/Spec".to_owned();
        let record = ContainerMessage {
            id: id.to_owned(),
            labels: HashMap::new(),
            runtime: Some(Runtime { name: "io.containerd.runc.v2".to_owned() }),
            spec: Some(Any { type_url, value: b"{}".to_vec() }),
        };
        Ok(Self { connection: Connection::open(address).await?, record })
    }
}

impl Labeller for Container {
    fn prepare(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        let request = ContainerRequest { container: Some(self.record.clone()), mask: None };
        Box::pin(self.connection.call("/containerd.services.containers.v1.Containers/Create", request))
    }

    fn label(&mut self, value: String) -> BoxFuture<'_, anyhow::Result<()>> {
        let container = ContainerMessage { labels: labels(value), ..self.record.clone() };
        let request = ContainerRequest { container: Some(container), mask: labels_only() };
        Box::pin(self.connection.call("/containerd.services.containers.v1.Containers/Update", request))
    }

    fn clear(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        let request = DeleteRequest { id: self.record.id.clone() };
        Box::pin(self.connection.call("/containerd.services.containers.v1.Containers/Delete", request))
    }
}
