//! Layers, all at once: each in one pass from the socket (or the blob) through hash, inflate and hash into its own directory.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bosun_storage::archive::{UnpackOptions, Whiteouts};
use bosun_storage::key;
use bosun_storage::layer::{LayerOutcome, fetch_and_unpack, fetch_as_is};
use bosun_types::content::Descriptor;
use bosun_types::gc::Object;
use bosun_types::snapshot::{SnapshotKind, SnapshotRecord, Usage};
use bosun_types::transfer::PartStatus;
use bosun_types::{Digest, Error, ErrorClass, LeaseId, NamespaceName, Result, SnapshotKey};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio_util::sync::CancellationToken;

use super::channel::ChannelReader;
use super::documents::Documents;
use super::progress::{Part, Progress};
use super::remote::Remote;
use crate::core::{Shared, SharedSnapshotter, blocking};
use crate::gc::barrier::Hold;
use crate::snapshots;

/// Layers of one transfer at a time.
const AT_ONCE: usize = 4;
/// Chunks between the socket and the unpacker. They are as large as the HTTP client likes, up to 400 KiB; what else is on its way waits in the socket.
const CHUNKS_WAITING: usize = 2;
/// Tries of one layer when the connection is cut.
const TRIES_MAX: u32 = 5;
const RETRY: Duration = Duration::from_millis(200);

/// What a transfer works with.
#[derive(Clone)]
pub(crate) struct Work {
    pub core: Shared,
    pub namespace: NamespaceName,
    /// `None`: blobs only.
    pub snapshotter: Option<SharedSnapshotter>,
    /// `None`: every blob must be here.
    pub remote: Option<Remote>,
    pub progress: Progress,
    pub cancel: CancellationToken,
    /// Directories made by this transfer, to be removed when it fails.
    pub made: Arc<Mutex<Vec<u64>>>,
    /// Holds what is recorded.
    pub lease: Option<LeaseId>,
    /// Keeps what this transfer relies on from the collector until it has ended.
    pub kept: Arc<Mutex<Vec<Hold>>>,
}

/// A layer that has become a snapshot's directory; its row comes with the commit.
#[derive(Debug, Clone)]
pub(crate) struct Unpacked {
    pub chain: Digest,
    pub parent: Option<Digest>,
    pub directory: u64,
    pub usage: Usage,
}

/// What came of all layers; the locks are held until the commit.
#[derive(Default)]
pub(crate) struct Layers {
    pub unpacked: Vec<Unpacked>,
    _locks: Vec<OwnedMutexGuard<()>>,
}

impl Work {
    /// For what is here already; nobody follows it.
    pub(crate) fn local(
        core: &Shared,
        namespace: &NamespaceName,
        snapshotter: Option<SharedSnapshotter>,
    ) -> Self {
        Self {
            core: core.clone(),
            namespace: namespace.clone(),
            snapshotter,
            remote: None,
            progress: Progress::unseen(),
            cancel: CancellationToken::new(),
            made: Arc::default(),
            lease: None,
            kept: Arc::default(),
        }
    }

    /// Whether the chain has its snapshot already.
    pub(crate) fn is_unpacked(&self, chain: &Digest) -> Result<bool> {
        let Some(snapshotter) = &self.snapshotter else { return Ok(true) };
        match snapshots::get(
            &self.core,
            &self.namespace,
            snapshotter.name(),
            &SnapshotKey::new(chain.to_string())?,
        ) {
            Ok(record) => Ok(record.kind == SnapshotKind::Committed),
            Err(error) if error.class == ErrorClass::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Keeps things from the collector, whether they are here or not; look after this, not before.
    pub(crate) async fn keep(&self, objects: Vec<Object>) {
        let things = objects.into_iter().map(|object| (self.namespace.clone(), object)).collect();
        let hold = self.core.gc.barrier.hold(things).await;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(hold);
    }

    /// Lets go of what was kept: it has its rows, or nobody wants it.
    pub(crate) fn let_go(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What the chains are as snapshots.
    pub(crate) fn snapshots(&self, chain: &[Digest]) -> Vec<Object> {
        let Some(snapshotter) = &self.snapshotter else { return Vec::new() };
        let keys = chain.iter().filter_map(|chain| SnapshotKey::new(chain.to_string()).ok());
        keys.map(|key| Object::Snapshot { snapshotter: snapshotter.name().to_owned(), key }).collect()
    }

    fn has_independent_layers(&self) -> bool {
        self.snapshotter.as_ref().is_none_or(|it| it.supports_independent_layers())
    }

    /// The directory of a layer that has its row.
    fn directory_of(&self, chain: &Digest) -> Result<u64> {
        let name = self.snapshotter.as_ref().map_or("", |it| it.name());
        let key = SnapshotKey::new(chain.to_string())?;
        Ok(snapshots::get(&self.core, &self.namespace, name, &key)?.directory)
    }

    /// Removes every directory that this transfer made and no row names: what one of its commits recorded is not its own any more.
    pub(crate) async fn remove_made(&self) -> Result<()> {
        let Some(snapshotter) = self.snapshotter.clone() else { return Ok(()) };
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if made.is_empty() {
            return Ok(());
        }
        let within = key::snapshots_of(&self.namespace, snapshotter.name());
        let rows = self.core.store.scan::<SnapshotRecord>(&within)?;
        let named: BTreeSet<u64> = rows.iter().map(|record| record.directory).collect();
        blocking(move || {
            let mut unnamed = made.into_iter().filter(|directory| !named.contains(directory));
            unnamed.try_for_each(|directory| Ok(snapshotter.ensure_no_directory(directory)?))
        })
        .await
    }

    /// Gives up waiting when the transfer is cancelled.
    pub(crate) async fn unless_cancelled<T>(&self, wait: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            result = wait => result,
            () = self.cancel.cancelled() => Err(Error::cancelled("the transfer was cancelled")),
        }
    }

    /// The registry; only what needs none is done without.
    pub(crate) fn remote(&self) -> Result<&Remote> {
        self.remote.as_ref().ok_or_else(|| Error::internal("this transfer has no registry"))
    }

    pub(crate) fn check_cancelled(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(Error::cancelled("the transfer was cancelled")) } else { Ok(()) }
    }
}

/// Makes every layer's blob and directory be there, for each of the images.
pub(crate) async fn all(work: &Work, images: &[Documents]) -> Result<Layers> {
    let mut layers = Layers::default();
    for documents in images {
        let mut wanted = work.snapshots(&documents.chain);
        wanted.extend(documents.manifest.layers.iter().map(|layer| Object::Blob(layer.digest)));
        work.keep(wanted).await;
    }
    if let Some(snapshotter) = &work.snapshotter {
        // In one order, by everyone: no two transfers can wait for each other.
        let chains: BTreeSet<&Digest> = images.iter().flat_map(|documents| &documents.chain).collect();
        for chain in chains {
            let name = format!("{}/{}/{chain}", work.namespace, snapshotter.name());
            layers._locks.push(work.core.transfers.lock(name).await);
        }
    }
    for documents in images {
        of_image(work, documents, &mut layers.unpacked).await?;
    }
    Ok(layers)
}

async fn of_image(work: &Work, documents: &Documents, unpacked: &mut Vec<Unpacked>) -> Result<()> {
    let parts: Vec<Part> =
        documents.manifest.layers.iter().map(|layer| work.progress.part("layer", layer)).collect();
    // Where a layer needs the one below it, the blobs come all at once and the directories in turn.
    let snapshotter = work.snapshotter.clone().filter(|_| work.has_independent_layers());
    let passes = Work { snapshotter, ..work.clone() };
    let jobs = documents.manifest.layers.iter().enumerate().map(|(index, layer)| {
        let (work, layer, part) = (passes.clone(), layer.clone(), parts[index].clone());
        let (diff_id, chain) = (documents.config.diff_ids[index], documents.chain[index]);
        let parent = index.checked_sub(1).map(|below| documents.chain[below]);
        let done = unpacked.iter().any(|unpacked| unpacked.chain == chain);
        async move {
            let chain = if done { None } else { Some(chain) };
            one(&work, &layer, diff_id, (chain, parent), &part).await
        }
    });
    let mut results = futures::stream::iter(jobs.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
    let mut failed = None;
    // All are awaited, also after a failure: nothing may write into a directory that is being removed.
    while let Some(result) = results.next().await {
        match result {
            Ok(done) => unpacked.extend(done),
            Err(error) => {
                work.cancel.cancel();
                failed.get_or_insert(error);
            }
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    if !work.has_independent_layers() {
        in_turn(work, documents, &parts, unpacked).await?;
    }
    Ok(())
}

/// Unpacks each layer onto a copy of the one below it; every blob is here.
async fn in_turn(
    work: &Work,
    documents: &Documents,
    parts: &[Part],
    unpacked: &mut Vec<Unpacked>,
) -> Result<()> {
    for (index, layer) in documents.manifest.layers.iter().enumerate() {
        let (diff_id, chain) = (documents.config.diff_ids[index], documents.chain[index]);
        let made = |chain: &Digest| unpacked.iter().find(|unpacked| unpacked.chain == *chain);
        if made(&chain).is_some() || work.is_unpacked(&chain)? {
            continue;
        }
        work.check_cancelled()?;
        let parent = index.checked_sub(1).map(|below| documents.chain[below]);
        let below = match &parent {
            None => None,
            Some(parent) => Some(match made(parent) {
                Some(below) => below.directory,
                None => work.directory_of(parent)?,
            }),
        };
        parts[index].set(PartStatus::Unpacking);
        let directory = make_directory(work, below).await?;
        let outcome = from_blob(work, layer, Some(directory), &parts[index]).await?;
        outcome.expect_diff_id(&diff_id)?;
        let usage = settle(work, directory, below).await?;
        unpacked.push(Unpacked { chain, parent, directory, usage });
        parts[index].set(PartStatus::Done);
    }
    Ok(())
}

/// Makes a blob be here that is not to be unpacked, whatever it is.
pub(crate) async fn ensure_blob(work: &Work, blob: &Descriptor, part: &Part) -> Result<()> {
    let _blob = work.core.transfers.lock(format!("blob/{}", blob.digest)).await;
    work.check_cancelled()?;
    if work.core.content.has_blob(&blob.digest) {
        part.set(PartStatus::Exists);
        return Ok(());
    }
    part.set(PartStatus::Downloading);
    from_registry(work, blob, Aim::Keep, part).await?;
    part.set(PartStatus::Done);
    Ok(())
}

/// Makes a layer's blob be here and gives its diff id, which nothing names yet.
pub(crate) async fn diff_id_of(work: &Work, layer: &Descriptor, part: &Part) -> Result<Digest> {
    let _blob = work.core.transfers.lock(format!("blob/{}", layer.digest)).await;
    work.check_cancelled()?;
    part.set(PartStatus::Downloading);
    let outcome = match work.core.content.has_blob(&layer.digest) {
        true => from_blob(work, layer, None, part).await?,
        false => from_registry(work, layer, Aim::Layer(None), part).await?,
    };
    Ok(outcome.diff_id)
}

/// Where a blob's bytes go besides into content.
#[derive(Clone, Copy)]
enum Aim {
    /// Nowhere.
    Keep,
    /// It is a layer: through the inflater, and into a directory if there is one.
    Layer(Option<u64>),
}

impl Aim {
    fn directory(self) -> Option<u64> {
        match self {
            Self::Keep => None,
            Self::Layer(directory) => directory,
        }
    }
}

async fn one(
    work: &Work,
    layer: &Descriptor,
    diff_id: Digest,
    (chain, parent): (Option<Digest>, Option<Digest>),
    part: &Part,
) -> Result<Option<Unpacked>> {
    let begin = Instant::now();
    let _blob = work.core.transfers.lock(format!("blob/{}", layer.digest)).await;
    work.check_cancelled()?;
    let have_blob = work.core.content.has_blob(&layer.digest);
    let missing = match chain {
        Some(chain) if !work.is_unpacked(&chain)? => Some(chain),
        _ => None,
    };
    if have_blob && missing.is_none() {
        part.set(PartStatus::Exists);
        return Ok(None);
    }
    let directory = if missing.is_some() { Some(make_directory(work, None).await?) } else { None };
    part.set(if have_blob { PartStatus::Unpacking } else { PartStatus::Downloading });
    let outcome = match have_blob {
        true => from_blob(work, layer, directory, part).await?,
        false => from_registry(work, layer, Aim::Layer(directory), part).await?,
    };
    outcome.expect_diff_id(&diff_id)?;
    let unpacked = match missing.zip(directory) {
        None => None,
        Some((chain, directory)) => {
            Some(Unpacked { chain, parent, directory, usage: settle(work, directory, None).await? })
        }
    };
    part.set(PartStatus::Done);
    let micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(target: "bosun::stage", stage = "layer", digest = %layer.digest, micros, "layer done");
    Ok(unpacked)
}

/// What a layer's directory is to be, once more, in one that no row names: the layer alone, or where directories are whole trees, with all below it.
/// [`Work::remove_made`] takes it away.
pub(crate) async fn unpack_again(work: &Work, documents: &Documents, index: usize) -> Result<u64> {
    let directory = make_directory(work, None).await?;
    let first = if work.has_independent_layers() { index } else { 0 };
    for at in first..=index {
        let layer = &documents.manifest.layers[at];
        let part = work.progress.part("layer", layer);
        from_blob(work, layer, Some(directory), &part)
            .await?
            .expect_diff_id(&documents.config.diff_ids[at])?;
    }
    Ok(directory)
}

/// A directory that undo knows before it is there.
async fn make_directory(work: &Work, below: Option<u64>) -> Result<u64> {
    let directory = work.core.store.next_directory();
    work.made.lock().unwrap_or_else(PoisonError::into_inner).push(directory);
    ensure_directory(work, directory, below).await?;
    Ok(directory)
}

async fn ensure_directory(work: &Work, directory: u64, below: Option<u64>) -> Result<()> {
    let Some(snapshotter) = work.snapshotter.clone() else { return Ok(()) };
    let ensure = move || snapshotter.ensure_directory(directory, below.as_slice(), SnapshotKind::Committed);
    blocking(move || Ok(ensure()?)).await
}

/// Durable before any row names it.
async fn settle(work: &Work, directory: u64, below: Option<u64>) -> Result<Usage> {
    let Some(snapshotter) = work.snapshotter.clone() else { return Ok(Usage::default()) };
    blocking(move || {
        snapshotter.sync(directory)?;
        Ok(snapshotter.usage(directory, below.as_slice())?)
    })
    .await
}

async fn from_blob(
    work: &Work,
    layer: &Descriptor,
    directory: Option<u64>,
    part: &Part,
) -> Result<LayerOutcome> {
    let (content, digest) = (work.core.content.clone(), layer.digest);
    let file = blocking(move || Ok(content.open_blob(&digest)?)).await?;
    pass(work, file, None, layer, Aim::Layer(directory), part).await
}

/// One pass, on a worker thread.
async fn pass(
    work: &Work,
    source: impl Read + Send + 'static,
    ingest: Option<bosun_storage::content::Ingest>,
    layer: &Descriptor,
    aim: Aim,
    part: &Part,
) -> Result<LayerOutcome> {
    let target = work
        .snapshotter
        .as_ref()
        .zip(aim.directory())
        .map(|(snapshotter, directory)| snapshotter.layer_root(directory));
    let (layer, part) = (layer.clone(), part.clone());
    let whiteouts = if work.has_independent_layers() { Whiteouts::Overlay } else { Whiteouts::Remove };
    blocking(move || {
        let options = UnpackOptions { whiteouts, ..UnpackOptions::default() };
        let target = target.as_deref().map(|path| (path, &options));
        let progress = |offset| part.moved(offset);
        Ok(match (aim, ingest) {
            (Aim::Keep, Some(ingest)) => fetch_as_is(source, ingest, &layer, &progress)?,
            (_, ingest) => fetch_and_unpack(source, ingest, &layer, target, &progress)?,
        })
    })
    .await
}

/// Fetches, resuming what is there; a cut connection is opened again where it was cut.
async fn from_registry(work: &Work, layer: &Descriptor, aim: Aim, part: &Part) -> Result<LayerOutcome> {
    let Some(remote) = &work.remote else {
        return Err(Error::not_found(format!("blob {} is not here", layer.digest)));
    };
    let mut tries = 0;
    loop {
        tries += 1;
        let network = Arc::new(Mutex::new(None));
        let error = match fetch_once(work, remote, layer, aim, part, &network).await {
            Ok(outcome) => return Ok(outcome),
            Err(error) => network.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(error),
        };
        work.check_cancelled()?;
        if error.class != ErrorClass::Unavailable || tries >= TRIES_MAX {
            return Err(error);
        }
        tracing::info!(digest = %layer.digest, tries, %error, "a layer was cut off; going on where it was");
        if let (Some(directory), Some(snapshotter)) = (aim.directory(), work.snapshotter.clone()) {
            blocking(move || Ok(snapshotter.ensure_no_directory(directory)?)).await?;
            ensure_directory(work, directory, None).await?;
        }
        let pause = async {
            tokio::time::sleep(RETRY * tries).await;
            Ok(())
        };
        work.unless_cancelled(pause).await?;
    }
}

async fn fetch_once(
    work: &Work,
    remote: &Remote,
    layer: &Descriptor,
    aim: Aim,
    part: &Part,
    network: &Arc<Mutex<Option<Error>>>,
) -> Result<LayerOutcome> {
    let (content, namespace, descriptor) = (work.core.content.clone(), work.namespace.clone(), layer.clone());
    let reference = format!("layer-{}", layer.digest);
    let mut ingest = blocking(move || {
        Ok(content.begin(&namespace, &reference, descriptor.size, Some(descriptor.digest))?)
    })
    .await?;
    let offset = ingest.offset();
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    if offset < layer.size {
        let fetch = remote.fetch(layer, offset);
        let fetch = work.unless_cancelled(fetch).await?;
        if fetch.offset != offset {
            // REM-9: it began at the beginning again.
            ingest = blocking(move || {
                ingest.restart()?;
                Ok(ingest)
            })
            .await?;
        }
        tokio::spawn(pump(fetch.stream, sender, work.cancel.clone(), Arc::clone(network)));
    } else {
        drop(sender);
    }
    pass(work, ChannelReader::new(receiver), Some(ingest), layer, aim, part).await
}

/// Socket to channel. The error is kept beside: through the reader it would lose its class.
async fn pump(
    mut stream: futures::stream::BoxStream<'static, Result<Bytes>>,
    sender: mpsc::Sender<io::Result<Bytes>>,
    cancel: CancellationToken,
    network: Arc<Mutex<Option<Error>>>,
) {
    let fail = |error: Error| {
        *network.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        Err(io::Error::other("the source failed"))
    };
    loop {
        let next = tokio::select! {
            next = stream.next() => next,
            () = cancel.cancelled() => Some(Err(Error::cancelled("the transfer was cancelled"))),
        };
        let (chunk, over) = match next {
            None => return,
            Some(Ok(chunk)) => (Ok(chunk), false),
            Some(Err(error)) => (fail(error), true),
        };
        if sender.send(chunk).await.is_err() || over {
            return;
        }
    }
}
