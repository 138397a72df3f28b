//! The RPC server: one capability per noun. A method reads its request, calls an actor's handle, writes the answer, and does
//! nothing else: no state, no files, no policy. What a peer may hold is limited in [`options`].
//!
//! Cap'n Proto objects are not `Send`: each connection lives on one thread's `LocalSet` and holds `Send` handles.
//! Domain errors go into the `error` field of the answer (`docs/adr/0006-errors-in-band-and-pipelining.md`).

mod confined;
mod connection;
mod container;
mod content;
mod cursor;
mod daemon;
mod doors;
mod error;
mod event;
mod frame;
mod group;
mod image;
mod lease;
mod namespace;
mod options;
mod page;
mod policy;
mod server;
mod sink;
mod snapshot;
mod socket;
mod task;
mod transfer;

pub use error::EdgeError;
pub use options::{EdgeLimits, EdgeOptions};
pub use server::{Edge, EdgeHandle};

/// Writes a call's outcome into its results: the value by `$fill`, or the domain error.
macro_rules! reply {
    ($results:ident, $outcome:expr) => {{
        if let Err(error) = $outcome {
            bosun_protocol::Wire::write(&error, $results.get().init_error());
        }
        Ok(())
    }};
    ($results:ident, $outcome:expr, |$value:pat_param, $out:ident| $fill:expr) => {{
        match $outcome {
            Ok($value) => {
                #[allow(unused_mut, reason = "a fill of one field consumes it")]
                let mut $out = $results.get();
                $fill;
            }
            Err(error) => bosun_protocol::Wire::write(&error, $results.get().init_error()),
        }
        Ok(())
    }};
    // A capability that is refused breaks with the refusal, so that what was pipelined on it meets the same error.
    ($results:ident, $outcome:expr, |$value:pat_param, $out:ident| $fill:expr, else $set:ident) => {{
        match $outcome {
            Ok($value) => {
                let mut $out = $results.get();
                $fill;
            }
            Err(error) => {
                let mut out = $results.get();
                let exception = bosun_protocol::convert::as_exception(&error);
                out.$set(capnp_rpc::new_future_client(async move { Err(exception) }));
                bosun_protocol::Wire::write(&error, out.init_error());
            }
        }
        Ok(())
    }};
}
pub(crate) use reply;
