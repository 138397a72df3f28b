//! The private thread: it holds the connection and runs calls as local futures; everybody else sends it jobs. A program that has one thread and nothing
//! that blocks it can lend it instead.

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

/// Digits of a key that are the call's number in logs.
const CALL_DIGITS: usize = 16;
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

    /// The same without a thread of its own: what it does runs in the caller's `LocalSet`.
    pub(crate) fn start_here(options: ConnectOptions) -> Self {
        let (jobs, receiver) = mpsc::unbounded_channel();
        let driver = Self::sending(jobs, &options);
        tokio::task::spawn_local(attend(receiver, Source::Address, options));
        driver
    }

    fn start_with(source: Source, options: ConnectOptions) -> Result<Self> {
        let (jobs, receiver) = mpsc::unbounded_channel();
        let driver = Self::sending(jobs, &options);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::resource_exhausted(format!("cannot start a client: {error}")))?;
        std::thread::Builder::new()
            .name("bosun-client".to_owned())
            .spawn(move || serve(&runtime, receiver, source, options))
            .map_err(|error| Error::resource_exhausted(format!("cannot start a client's thread: {error}")))?;
        Ok(driver)
    }

    fn sending(jobs: mpsc::UnboundedSender<Job>, options: &ConnectOptions) -> Self {
        let in_flight = Arc::new(Semaphore::new(CALLS_IN_FLIGHT_MAX));
        let (call_deadline, reconnect_deadline) = (options.call_deadline, options.reconnect_deadline);
        Self { shared: Arc::new(Shared { jobs, in_flight, call_deadline, reconnect_deadline }) }
    }

    /// Runs one call that looks, or that is the same when repeated, under the deadline, at most so many at once: again when the connection is lost, until the
    /// daemon is there again or patience is over. Dropping the future cancels it.
    pub(crate) async fn call<T, F, W>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Session>) -> W + Send + Clone + 'static,
        W: Future<Output = std::result::Result<T, Failure>> + 'static,
    {
        let _permit = self.permit().await;
        self.repeat(Manner { key: None, deadline: Some(self.shared.call_deadline), patient: false }, work)
            .await
    }

    /// As [`Self::call`] for what changes something: with an idempotency key of its own, so that it is done once however often it is repeated. `work` makes
    /// each kind of change once for each thing.
    pub(crate) async fn change<T, F, W>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Session>) -> W + Send + Clone + 'static,
        W: Future<Output = std::result::Result<T, Failure>> + 'static,
    {
        let _permit = self.permit().await;
        let manner =
            Manner { key: Some(new_key()?), deadline: Some(self.shared.call_deadline), patient: false };
        self.repeat(manner, work).await
    }

    /// As [`Self::change`] for what takes as long as it takes: no deadline, not counted; and a thing that the daemon has not found again yet is waited for.
    pub(crate) async fn change_and_wait<T, F, W>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Session>) -> W + Send + Clone + 'static,
        W: Future<Output = std::result::Result<T, Failure>> + 'static,
    {
        self.repeat(Manner { key: Some(new_key()?), deadline: None, patient: true }, work).await
    }

    /// As [`Self::call`] for what has no deadline.
    pub(crate) async fn wait<T, F, W>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Session>) -> W + Send + Clone + 'static,
        W: Future<Output = std::result::Result<T, Failure>> + 'static,
    {
        self.repeat(Manner { key: None, deadline: None, patient: false }, work).await
    }

    /// As [`Self::wait`], for things of the daemon that it finds again after a restart: until it has, it answers Unavailable,
    /// and to who waits that is like a daemon that is not there yet.
    pub(crate) async fn wait_through_recovery<T, F, W>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Session>) -> W + Send + Clone + 'static,
        W: Future<Output = std::result::Result<T, Failure>> + 'static,
    {
        self.repeat(Manner { key: None, deadline: None, patient: true }, work).await
    }

    /// Begins what lives as long as its connection, a stream: under the deadline, and a lost connection is told.
    pub(crate) async fn open<T, F, W>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Session>) -> W + Send + 'static,
        W: Future<Output = std::result::Result<T, Failure>> + 'static,
    {
        let _permit = self.permit().await;
        self.run(Some(self.shared.call_deadline), work).await.map_err(Failure::into_error)
    }

    async fn repeat<T, F, W>(&self, manner: Manner, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Session>) -> W + Send + Clone + 'static,
        W: Future<Output = std::result::Result<T, Failure>> + 'static,
    {
        let number = manner.key.as_ref().and_then(|key| key.get(..CALL_DIGITS)).map(str::to_owned);
        let begun = Instant::now();
        if let Some(call) = &number {
            // The daemon has this number in its log too.
            tracing::debug!(call, "asking for a change");
        }
        let outcome = self.repeat_until_told(manner, begun, work).await;
        match (&number, &outcome) {
            (None, _) => {}
            (Some(call), Ok(_)) => tracing::debug!(call, elapsed = ?begun.elapsed(), "done"),
            (Some(call), Err(error)) => tracing::debug!(call, elapsed = ?begun.elapsed(), %error, "refused"),
        }
        outcome
    }

    async fn repeat_until_told<T, F, W>(&self, manner: Manner, begun: Instant, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Session>) -> W + Send + Clone + 'static,
        W: Future<Output = std::result::Result<T, Failure>> + 'static,
    {
        let mut lost = None::<Instant>;
        loop {
            let left = manner.deadline.map(|deadline| deadline.saturating_sub(begun.elapsed()));
            let (work, key, again) = (work.clone(), manner.key.clone(), lost.is_some());
            let outcome = self.run(left, move |session: Rc<Session>| {
                work(match key {
                    Some(key) => session.keyed(&key, again),
                    None => session,
                })
            });
            let outcome = outcome.await;
            let since = lost.or(manner.patient.then_some(begun));
            let is_patient = || since.is_some_and(|at| at.elapsed() < self.shared.reconnect_deadline);
            match outcome {
                Err(Failure::Lost(_)) if left.is_none_or(|left| !left.is_zero()) => {
                    lost = Some(Instant::now())
                }
                // It is starting, and has not yet found again what this is about.
                Err(Failure::Answer(error)) if error.class == ErrorClass::Unavailable && is_patient() => {
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

/// How a call is repeated.
struct Manner {
    /// Of a change.
    key: Option<String>,
    /// In all, repetitions included.
    deadline: Option<Duration>,
    /// Whether Unavailable is waited out from the beginning; else only behind a lost connection.
    patient: bool,
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

/// The thread's body.
fn serve(
    runtime: &tokio::runtime::Runtime,
    receiver: mpsc::UnboundedReceiver<Job>,
    source: Source,
    options: ConnectOptions,
) {
    tokio::task::LocalSet::new().block_on(runtime, attend(receiver, source, options));
}

/// Takes jobs until the last [`Driver`] is gone.
async fn attend(mut receiver: mpsc::UnboundedReceiver<Job>, source: Source, options: ConnectOptions) {
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
