//! How a call fails: the connection was lost, or there is an answer that says why. Maps RPC exceptions to domain errors.

use bosun_types::{Error, ErrorClass};

/// Why a call gave no value.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The connection ended; what is safe to repeat may be repeated on a new one.
    Lost(Error),
    /// The daemon, or this library, says why.
    Answer(Error),
}

impl Failure {
    /// The domain error, for callers.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Lost(error) | Self::Answer(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Answer(error)
    }
}

impl From<capnp::Error> for Failure {
    fn from(error: capnp::Error) -> Self {
        let text = error.extra.as_str();
        if let Some(refusal) = bosun_protocol::convert::from_exception(text) {
            return Self::Answer(refusal);
        }
        match error.kind {
            // The second: the daemon was killed in the middle of a message.
            capnp::ErrorKind::Disconnected | capnp::ErrorKind::PrematureEndOfFile => Self::Lost(
                Error::unavailable("the connection to the daemon was lost")
                    .with_hint("the daemon may be restarting; what it had begun, it finishes"),
            ),
            capnp::ErrorKind::Overloaded => {
                Self::Answer(Error::resource_exhausted(format!("the daemon refuses for now: {text}")))
            }
            capnp::ErrorKind::Unimplemented => Self::Answer(
                Error::not_implemented("the daemon does not know this call")
                    .with_hint("it is older than this client: compare `bosun version`"),
            ),
            _ => Self::Answer(Error::new(ErrorClass::Internal, format!("the daemon failed: {error}"))),
        }
    }
}

/// Waits for a promise's response and takes its results; a domain error in the `error` field becomes the failure.
/// The response must outlive the results, so the caller names it.
macro_rules! results {
    ($response:ident) => {{
        let results = $response.get()?;
        if results.has_error() {
            return Err($crate::failure::Failure::Answer(bosun_protocol::Wire::read(results.get_error()?)?));
        }
        results
    }};
}
pub(crate) use results;

/// Sends, waits, and takes the results.
macro_rules! answer {
    ($response:ident, $request:expr) => {
        let $response = $request.send().promise.await?;
        let $response = $crate::failure::results!($response);
    };
}
pub(crate) use answer;
