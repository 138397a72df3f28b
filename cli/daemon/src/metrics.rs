//! Prometheus text over http, for who configures an address (MET-1): `GET /v1/metrics`, also `/metrics`.
//!
//! **Owns** its listener and connections. **Supervised** by the root of the actors' tree as an attached child: when it fails it is started again, and nothing
//! else notices. It keeps nothing: each request takes a fresh sample of rows and cgroup files, and waits for no actor and no shim.

mod text;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bosun_actors::attached::{Attached, StartAttached};
use bosun_actors::daemon::Daemon;
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Connections at a time; further ones wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 16;
/// How long a request's head may take.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// The text format that [`text::render`] writes.
const TEXT_FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Serves from now on. The address being taken is an error now, not later.
pub async fn attach(daemon: &Daemon, address: SocketAddr) -> anyhow::Result<()> {
    let served = daemon.clone();
    let start: StartAttached = Arc::new(move || {
        let daemon = served.clone();
        Box::pin(async move {
            let listener = TcpListener::bind(address).await.map_err(|error| {
                bosun_types::Error::unavailable(format!("cannot serve metrics on {address}: {error}"))
                    .with_hint("choose another --metrics-address")
            })?;
            Ok(Box::new(Exporter(tokio::spawn(accept(listener, daemon)))) as Box<dyn Attached>)
        })
    });
    daemon.attach("metrics", start).await.context("metrics")
}

struct Exporter(JoinHandle<()>);

impl Attached for Exporter {
    fn stop(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.0.abort();
        Box::pin(async {})
    }
}

async fn accept(listener: TcpListener, daemon: Daemon) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Dropped with this future: connections end with the exporter.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let daemon = daemon.clone();
                connections.spawn(async move {
                    serve(stream, daemon).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for metrics");
                // Out of descriptors, most likely: trying at once would only burn the processor.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, daemon: Daemon) {
    let service = service_fn(|request| {
        let daemon = daemon.clone();
        async move { Ok::<_, std::convert::Infallible>(answer(&request, &daemon).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    let served = http
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection for metrics ended early");
    }
}

async fn answer(request: &Request<Incoming>, daemon: &Daemon) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/v1/metrics" | "/metrics") => match collect(daemon).await {
            Ok(body) => (StatusCode::OK, body),
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        },
        (_, "/v1/metrics" | "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, "use GET\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "metrics are at /v1/metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT_FORMAT);
    response
}

async fn collect(daemon: &Daemon) -> bosun_types::Result<String> {
    Ok(text::render(&daemon.status().await?, &daemon.samples().await?))
}
