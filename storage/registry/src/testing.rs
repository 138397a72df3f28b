//! A registry of this process's own, on loopback, that does what a script says: for tests of what real registries do only now and then.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bosun_types::Digest;
use bosun_types::content::Descriptor;
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::client::digest_of;

/// Largest head of a request in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status, with `Retry-After` in seconds if given.
    Status(u16, Option<u64>),
    /// These header lines and this status, and no body.
    Headers(u16, Vec<String>),
    /// The connection ends after so many bytes of the body.
    CutAt(usize),
    /// As long as promised, but other bytes.
    OtherBytes,
    /// More bytes than promised, without a length that would tell.
    TooLong,
    /// The whole, with 200, whatever range was asked for.
    IgnoreRange,
    /// The whole, called a part.
    WrongRange,
    /// So many bytes of the body, then silence.
    Silence(usize),
    /// A byte at a time, with this pause between: never silent for long, never done.
    Drip(Duration),
    /// So many bytes of the request's body are taken, then the connection ends.
    CutBody(u64),
    /// No answer at all.
    Mute,
    /// This status with this body.
    Refusal(u16, String),
}

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Method and path.
    pub line: String,
    /// Header lines by lower-case name.
    pub headers: HashMap<String, String>,
}

#[derive(Default)]
struct State {
    blobs: HashMap<String, Bytes>,
    manifests: HashMap<String, (String, Bytes)>,
    faults: Vec<(String, usize, Fault)>,
    seen: Vec<Seen>,
    /// Tags and digests under which manifests were put.
    put: Vec<String>,
    /// Bytes of unfinished uploads by number.
    uploads: HashMap<u64, Vec<u8>>,
    /// The Authorization header that everything needs.
    needs: Option<(String, String)>,
}

/// See the module. Ends with its last value.
pub struct FaultyRegistry {
    host: String,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FaultyRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FaultyRegistry {
    /// Listens on a free port of loopback.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let host = listener.local_addr()?.to_string();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                // A peer that goes away is no failure of ours.
                tokio::spawn(async move { drop(serve(socket, &shared).await) });
            }
        });
        Ok(Self { host, state, task })
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> &str {
        &self.host
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a blob to every repository.
    pub fn add_blob(&self, media_type: &str, bytes: impl Into<Bytes>) -> Descriptor {
        let bytes = bytes.into();
        let descriptor = describe(media_type, &bytes);
        self.with(|state| state.blobs.insert(descriptor.digest.to_string(), bytes));
        descriptor
    }

    /// Adds a manifest or index to every repository, under a tag and its digest.
    pub fn add_manifest(&self, tag: &str, media_type: &str, bytes: impl Into<Bytes>) -> Descriptor {
        let bytes = bytes.into();
        let descriptor = describe(media_type, &bytes);
        self.with(|state| {
            let entry = (media_type.to_owned(), bytes);
            state.manifests.insert(tag.to_owned(), entry.clone());
            state.manifests.insert(descriptor.digest.to_string(), entry);
        });
        descriptor
    }

    /// The next `times` requests whose "METHOD path" contains `part` go wrong; earlier faults come first.
    pub fn fault(&self, part: &str, times: usize, fault: Fault) {
        self.with(|state| state.faults.push((part.to_owned(), times, fault)));
    }

    /// From now on a request without this Authorization header gets 401 with this challenge.
    pub fn need(&self, authorization: &str, challenge: &str) {
        self.with(|state| state.needs = Some((authorization.to_owned(), challenge.to_owned())));
    }

    /// Whether it has a blob with this digest.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.with(|state| state.blobs.contains_key(&digest.to_string()))
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.with(|state| state.faults.clear());
    }

    /// Whether a manifest was put under this tag or digest.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.with(|state| state.put.iter().any(|put| put == tag))
    }

    /// Forgets every unfinished upload.
    pub fn forget_uploads(&self) {
        self.with(|state| state.uploads.clear());
    }

    /// What came so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.with(|state| state.seen.clone())
    }
}

fn describe(media_type: &str, bytes: &Bytes) -> Descriptor {
    Descriptor { media_type: media_type.to_owned(), digest: digest_of(bytes), size: bytes.len() as u64 }
}

async fn serve(mut socket: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let Some(seen) = read_head(&mut socket).await? else { return Ok(()) };
    let fault = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.seen.push(seen.clone());
        let found = state.faults.iter_mut().find(|(part, times, _)| *times > 0 && seen.line.contains(part));
        found.map(|(_, times, fault)| {
            *times -= 1;
            fault.clone()
        })
    };
    if fault == Some(Fault::Mute) {
        return std::future::pending().await;
    }
    let length = seen.headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let cut = if let Some(Fault::CutBody(at)) = fault { Some(at) } else { None };
    let mut body = Vec::new();
    (&mut socket).take(cut.unwrap_or(length)).read_to_end(&mut body).await?;
    let answer = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        answer(&mut state, &seen, &body, fault.as_ref())
    };
    match cut {
        Some(_) => Ok(()),
        None => answer.send(&mut socket, fault.as_ref(), seen.line.starts_with("HEAD ")).await,
    }
}

async fn read_head(socket: &mut TcpStream) -> io::Result<Option<Seen>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || socket.read_buf(&mut (&mut head).limit_one()).await? == 0 {
            return Ok(None);
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.lines();
    let line = lines.next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Ok(Some(Seen { line, headers }))
}

/// One byte at a time: the body belongs to someone else.
trait LimitOne<'a> {
    fn limit_one(self) -> bytes::buf::Limit<&'a mut Vec<u8>>;
}

impl<'a> LimitOne<'a> for &'a mut Vec<u8> {
    fn limit_one(self) -> bytes::buf::Limit<&'a mut Vec<u8>> {
        bytes::BufMut::limit(self, 1)
    }
}

struct Answer {
    status: u16,
    headers: Vec<String>,
    body: Bytes,
}

impl Answer {
    fn empty(status: u16, headers: Vec<String>) -> Self {
        Self { status, headers, body: Bytes::new() }
    }

    async fn send(self, socket: &mut TcpStream, fault: Option<&Fault>, head_only: bool) -> io::Result<()> {
        let mut text = format!("HTTP/1.1 {} scripted\r\nConnection: close\r\n", self.status);
        for line in &self.headers {
            text.push_str(&format!("{line}\r\n"));
        }
        let mut body = self.body.to_vec();
        match fault {
            Some(Fault::TooLong) => body.push(0),
            _ => text.push_str(&format!("Content-Length: {}\r\n", body.len())),
        }
        socket.write_all(format!("{text}\r\n").as_bytes()).await?;
        if head_only {
            return socket.shutdown().await;
        }
        match fault {
            Some(Fault::CutAt(at)) => body.truncate(*at),
            Some(Fault::OtherBytes) => body.iter_mut().for_each(|byte| *byte ^= 1),
            Some(Fault::Silence(after)) => {
                socket.write_all(&body[..(*after).min(body.len())]).await?;
                return std::future::pending().await;
            }
            Some(Fault::Drip(pause)) => {
                for byte in body {
                    socket.write_all(&[byte]).await?;
                    tokio::time::sleep(*pause).await;
                }
                return socket.shutdown().await;
            }
            _ => {}
        }
        socket.write_all(&body).await?;
        socket.shutdown().await
    }
}

fn answer(state: &mut State, seen: &Seen, body: &[u8], fault: Option<&Fault>) -> Answer {
    if let Some((authorization, challenge)) = &state.needs
        && seen.headers.get("authorization") != Some(authorization)
    {
        return Answer::empty(401, vec![format!("WWW-Authenticate: {challenge}")]);
    }
    match fault {
        Some(Fault::Status(status, after)) => {
            let after = after.map(|seconds| format!("Retry-After: {seconds}"));
            return Answer::empty(*status, after.into_iter().collect());
        }
        Some(Fault::Headers(status, headers)) => return Answer::empty(*status, headers.clone()),
        Some(Fault::Refusal(status, text)) => {
            return Answer { status: *status, headers: Vec::new(), body: text.clone().into() };
        }
        _ => {}
    }
    let (method, path) = seen.line.split_once(' ').unwrap_or_default();
    let object = path.rsplit('/').next().unwrap_or_default();
    match method {
        "POST" | "PATCH" => upload(state, method, object, body),
        "PUT" if !path.contains("/manifests/") => upload(state, method, object, body),
        "PUT" => {
            state.put.push(object.to_owned());
            Answer::empty(201, vec![format!("Docker-Content-Digest: {}", digest_of(body))])
        }
        _ if path.contains("/upload/") => upload(state, method, object, body),
        _ if path.contains("/manifests/") => {
            match state.manifests.get(object.split('?').next().unwrap_or_default()) {
                None => Answer::empty(404, Vec::new()),
                Some((media_type, bytes)) => {
                    let digest = format!("Docker-Content-Digest: {}", digest_of(bytes));
                    let headers = vec![format!("Content-Type: {media_type}"), digest];
                    Answer { status: 200, headers, body: bytes.clone() }
                }
            }
        }
        _ => match state.blobs.get(object) {
            None => Answer::empty(404, Vec::new()),
            Some(bytes) => blob(bytes, seen, fault),
        },
    }
}

/// An upload: opened, added to, asked about, completed.
fn upload(state: &mut State, method: &str, object: &str, body: &[u8]) -> Answer {
    let (number, query) = object.split_once('?').unwrap_or((object, ""));
    let number = if method == "POST" { state.seen.len() as u64 } else { number.parse().unwrap_or(0) };
    if method == "POST" {
        state.uploads.insert(number, Vec::new());
    }
    let Some(bytes) = state.uploads.get_mut(&number) else { return Answer::empty(404, Vec::new()) };
    bytes.extend_from_slice(body);
    let place = format!("Location: /v2/upload/{number}?state=x");
    let range = format!("Range: 0-{}", bytes.len().saturating_sub(1));
    match method {
        "POST" | "PATCH" => Answer::empty(202, vec![place, range]),
        "PUT" => {
            let digest = digest_of(bytes).to_string();
            if !query.replace("%3A", ":").contains(&digest) {
                return Answer::empty(400, Vec::new());
            }
            let bytes = state.uploads.remove(&number).unwrap_or_default();
            state.blobs.insert(digest, bytes.into());
            Answer::empty(201, Vec::new())
        }
        _ => Answer::empty(204, vec![place, range]),
    }
}

fn blob(bytes: &Bytes, seen: &Seen, fault: Option<&Fault>) -> Answer {
    let from = seen.headers.get("range").and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse::<usize>()
            .ok()
            .filter(|from| *from <= bytes.len())
    });
    let (total, last) = (bytes.len(), bytes.len().saturating_sub(1));
    let part = |from: usize| Answer {
        status: 206,
        headers: vec![format!("Content-Range: bytes {from}-{last}/{total}")],
        body: bytes.slice(from..),
    };
    match (from, fault) {
        (Some(_), Some(Fault::WrongRange)) => part(0),
        (Some(from), fault) if fault != Some(&Fault::IgnoreRange) => part(from),
        _ => Answer { status: 200, headers: Vec::new(), body: bytes.clone() },
    }
}
