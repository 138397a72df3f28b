//! The private thread: it holds the connection and runs calls as local futures; everybody else sends it jobs.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bosun_types::{Error, ErrorClass, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::failure::Failure;
use crate::options::ConnectOptions;
use crate::session::Session;

/// Calls of one client that may be under way at once; more wait their turn here rather than be refused by the daemon.
const CALLS_IN_FLIGHT_MAX: usize = 48;

/// Pause before a wait that was answered "not yet" is asked again.
pub(crate) const WAIT_PAUSE: Duration = Duration::from_millis(50);

type Local = Pin<Box<dyn Future<Output = ()>>>;
type Job = Box<dyn FnOnce(Rc<Connector>) -> Local + Send>;

/// The way to the private thread. When the last clone is dropped the thread ends, and the connection with it.
#[derive(Clone)]
pub(crate) struct Driver {
    shared: Arc<Shared>,
}

struct Shared {
    jobs: mpsc::UnboundedSender<Job>,
    in_flight: Arc<Semaphore>,
    call_deadline: Duration,
    reconnect_deadline: Duration,
}

impl Driver {
    /// Starts the thread. Nothing is connected yet.
    pub(crate) fn start(options: ConnectOptions) -> Result<Self> {
        Self::start_with(Source::Address, options)
    }

    /// The same, over a connection that is there already and the only one.
    pub(crate) fn start_over(stream: Box<dyn Stream>, options: ConnectOptions) -> Result<Self> {
        Self::start_with(Source::Given(RefCell::new(Some(stream))), options)
    }

    fn start_with(source: Source, options: ConnectOptions) -> Result<Self> {
        let (jobs, receiver) = mpsc::unbounded_channel();
        let (call_deadline, reconnect_deadline) = (options.call_deadline, options.reconnect_deadline);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::resource_exhausted(format!("cannot start a client: {error}")))?;
        std::thread::Builder::new()
            .name("bosun-client".to_owned())
            .spawn(move || serve(&runtime, receiver, source, options))
            .map_err(|error| Error::resource_exhausted(format!("cannot start a client's thread: {error}")))?;
        let in_flight = Arc::new(Semaphore::new(CALLS_IN_FLIGHT_MAX));
        Ok(Self { shared: Arc::new(Shared { jobs, in_flight, call_deadline, reconnect_deadline }) })
    }

    /// Runs one call on the private thread, under the deadline, at most so many at once. Dropping the future cancels it.
    pub(crate) async fn call<T, F, W>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Session>) -> W + Send + 'static,
        W: Future<Output = std::result::Result<T, Failure>> + 'static,
    {
        let permit = self.permit().await;
        let outcome = self.run(Some(self.shared.call_deadline), work).await;
        drop(permit);
        outcome.map_err(Failure::into_error)
    }

    /// As [`Self::call`] for what changes something: with an idempotency key of its own, so that it can be repeated when the connection is lost, until the
    /// daemon is there again, and is done once all the same. `work` makes each kind of change once for each thing.
    pub(crate) async fn change<T, F, W>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Session>) -> W + Send + Clone + 'static,
        W: Future<Output = std::result::Result<T, Failure>> + 'static,
    {
        let permit = self.permit().await;
        let (key, begun) = (new_key()?, Instant::now());
        let mut lost: Option<Instant> = None;
        let outcome = loop {
            let (work, key, again) = (work.clone(), key.clone(), lost.is_some());
            let left = self.shared.call_deadline.saturating_sub(begun.elapsed());
            let keyed = move |session: Rc<Session>| work(session.keyed(&key, again));
            let outcome = self.run(Some(left), keyed).await;
            let is_patient = || lost.is_some_and(|at| at.elapsed() < self.shared.reconnect_deadline);
            match outcome {
                Err(Failure::Lost(_)) if !left.is_zero() => lost = Some(Instant::now()),
                // It is starting, and has not yet found again what this is about.
                Err(Failure::Answer(error)) if error.class == ErrorClass::Unavailable && is_patient() => {
                    self.pause(WAIT_PAUSE).await?;
                }
                outcome => break outcome,
            }
        };
        drop(permit);
        outcome.map_err(Failure::into_error)
    }

    /// As [`Self::call`] for what waits for something to happen: no deadline, not counted, and repeated on a new connection
    /// when the old one is lost.
    pub(crate) async fn wait<T, F, W>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(Rc<Session>) -> W + Send + Clone + 'static,
        W: Future<Output = std::result::Result<T, Failure>> + 'static,
    {
        loop {
            match self.run(None, work.clone()).await {
                Err(Failure::Lost(_)) => {}
                outcome => return outcome.map_err(Failure::into_error),
            }
        }
    }

    /// As [`Self::wait`] for what must not be done twice: a lost connection is told.
    pub(crate) async fn once<T, F, W>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Session>) -> W + Send + 'static,
        W: Future<Output = std::result::Result<T, Failure>> + 'static,
    {
        self.run(None, work).await.map_err(Failure::into_error)
    }

    /// As [`Self::wait`], for things of the daemon that it finds again after a restart: until it has, it answers Unavailable,
    /// and to who waits that is like a daemon that is not there yet.
    pub(crate) async fn wait_through_recovery<T, F, W>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(Rc<Session>) -> W + Send + Clone + 'static,
        W: Future<Output = std::result::Result<T, Failure>> + 'static,
    {
        let patience = Instant::now() + self.shared.reconnect_deadline;
        let mut lost = None;
        loop {
            match self.run(None, work.clone()).await {
                Err(Failure::Lost(_)) => lost = Some(Instant::now() + self.shared.reconnect_deadline),
                Err(Failure::Answer(error))
                    if error.class == ErrorClass::Unavailable
                        && Instant::now() < lost.unwrap_or(patience) =>
                {
                    self.pause(WAIT_PAUSE).await?;
                }
                outcome => return outcome.map_err(Failure::into_error),
            }
        }
    }

    /// Another connection in the place of this one.
    pub(crate) async fn reconnect(&self) -> Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.spawn(move |connector| async move {
            // The caller may have left.
            let _ = sender.send(connector.reconnect().await);
        })?;
        receiver.await.map_err(|_| closed())?.map_err(Failure::into_error)
    }

    /// One of the calls that may be under way; `None` only when the client has ended.
    pub(crate) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.in_flight).acquire_owned().await.ok()
    }

    /// How long a call may take.
    pub(crate) fn call_deadline(&self) -> Duration {
        self.shared.call_deadline
    }

    /// A short sleep on the private thread's clock: the caller may have no tokio runtime.
    pub(crate) async fn pause(&self, length: Duration) -> Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.spawn(move |_| async move {
            tokio::time::sleep(length).await;
            // The caller may have left.
            let _ = sender.send(());
        })?;
        receiver.await.map_err(|_| closed())
    }

    /// Runs a local future that reports through channels of its own.
    pub(crate) fn spawn<F, W>(&self, work: F) -> Result<()>
    where
        F: FnOnce(Rc<Connector>) -> W + Send + 'static,
        W: Future<Output = ()> + 'static,
    {
        let job: Job = Box::new(move |connector| Box::pin(work(connector)));
        self.shared.jobs.send(job).map_err(|_| closed())
    }

    async fn run<T, F, W>(&self, deadline: Option<Duration>, work: F) -> std::result::Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Session>) -> W + Send + 'static,
        W: Future<Output = std::result::Result<T, Failure>> + 'static,
    {
        let (mut sender, receiver) = oneshot::channel();
        self.spawn(move |connector| async move {
            let outcome = tokio::select! {
                () = sender.closed() => return,
                outcome = within(deadline, connector.with_session(work)) => outcome,
            };
            // The caller may have left in this very moment.
            let _ = sender.send(outcome);
        })?;
        receiver.await.map_err(|_| Failure::Answer(closed()))?
    }
}

/// 128 random bits.
fn new_key() -> Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::internal(format!("the system gives no random bytes: {error}")))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

fn closed() -> Error {
    Error::unavailable("the client's thread has ended").with_hint("this is a bug of bosun-client: report it")
}

fn only_one() -> Error {
    Error::failed_precondition("this client was made over one connection, and that has ended or is in use")
        .with_hint("make another client, or connect by an address")
}

async fn within<T>(
    deadline: Option<Duration>,
    work: impl Future<Output = std::result::Result<T, Failure>>,
) -> std::result::Result<T, Failure> {
    let Some(deadline) = deadline else { return work.await };
    tokio::time::timeout(deadline, work).await.unwrap_or_else(|_| {
        let error = Error::new(
            ErrorClass::DeadlineExceeded,
            format!("no answer from the daemon within {deadline:?}"),
        );
        Err(Failure::Answer(error.with_hint("what was asked for may still happen")))
    })
}

/// The thread's body: takes jobs until the last [`Driver`] is gone.
fn serve(
    runtime: &tokio::runtime::Runtime,
    mut receiver: mpsc::UnboundedReceiver<Job>,
    source: Source,
    options: ConnectOptions,
) {
    let local = tokio::task::LocalSet::new();
    local.block_on(runtime, async move {
        let connector = Rc::new(Connector {
            source,
            options,
            session: RefCell::new(None),
            was_connected: Cell::new(false),
            connecting: tokio::sync::Mutex::new(()),
        });
        while let Some(job) = receiver.recv().await {
            tokio::task::spawn_local(job(Rc::clone(&connector)));
        }
        let session = connector.session.borrow_mut().take();
        if let Some(session) = session {
            session.close().await;
        }
    });
}

/// Any connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Where connections come from.
enum Source {
    /// The options' address, as often as need be.
    Address,
    /// The caller: this one, and no other.
    Given(RefCell<Option<Box<dyn Stream>>>),
}

/// Holds the connection, makes it when there is none.
pub(crate) struct Connector {
    source: Source,
    options: ConnectOptions,
    session: RefCell<Option<Rc<Session>>>,
    was_connected: Cell<bool>,
    connecting: tokio::sync::Mutex<()>,
}

impl Connector {
    async fn with_session<T, F, W>(&self, work: F) -> std::result::Result<T, Failure>
    where
        F: FnOnce(Rc<Session>) -> W,
        W: Future<Output = std::result::Result<T, Failure>>,
    {
        let session = self.session().await?;
        let outcome = work(Rc::clone(&session)).await;
        if matches!(outcome, Err(Failure::Lost(_))) {
            self.forget(&session);
        }
        outcome
    }

    /// How long to wait for a daemon that is not there, or has just come back.
    pub(crate) fn patience(&self) -> Duration {
        self.options.reconnect_deadline
    }

    /// The connection as it is, if there is one.
    pub(crate) fn current(&self) -> Option<Rc<Session>> {
        self.session.borrow().clone()
    }

    /// The next call makes a new connection.
    pub(crate) fn forget(&self, lost: &Rc<Session>) {
        let mut session = self.session.borrow_mut();
        if session.as_ref().is_some_and(|current| Rc::ptr_eq(current, lost)) {
            *session = None;
        }
    }

    async fn reconnect(&self) -> std::result::Result<(), Failure> {
        if matches!(self.source, Source::Given(_)) {
            return Err(only_one().into());
        }
        let session = self.session.borrow_mut().take();
        if let Some(session) = session {
            session.close().await;
        }
        self.session().await.map(drop)
    }

    /// The live connection; made if need be, once for all who ask at the same time.
    pub(crate) async fn session(&self) -> std::result::Result<Rc<Session>, Failure> {
        let _guard = self.connecting.lock().await;
        if let Some(session) = self.session.borrow().as_ref().filter(|session| session.is_live()) {
            return Ok(Rc::clone(session));
        }
        let options = &self.options;
        let patience =
            if self.was_connected.get() { options.reconnect_deadline } else { options.connect_deadline };
        let session = match &self.source {
            Source::Address => Session::connect(options, patience).await?,
            Source::Given(stream) => {
                let stream = stream.borrow_mut().take().ok_or_else(only_one)?;
                Session::over(stream, options).await?
            }
        };
        let session = Rc::new(session);
        self.was_connected.set(true);
        *self.session.borrow_mut() = Some(Rc::clone(&session));
        Ok(session)
    }
}
