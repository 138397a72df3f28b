//! Asking an actor: always with a deadline, always a typed error. `call!` without a deadline waits for ever on a stuck actor.

use std::time::Duration;

use bosun_types::{Error, Result};
use ractor::rpc::CallResult;
use ractor::{ActorRef, Message, RpcReplyPort};

/// Sends a message that carries a reply port and waits for the answer.
///
/// Unavailable: the actor ended before it answered; whether it acted must be looked up, never assumed. DeadlineExceeded: it goes on working.
pub async fn ask<M: Message, R: Send + 'static>(
    actor: &ActorRef<M>,
    message: impl FnOnce(RpcReplyPort<R>) -> M,
    deadline: Duration,
) -> Result<R> {
    match actor.call(message, Some(deadline)).await {
        Ok(CallResult::Success(answer)) => Ok(answer),
        Ok(CallResult::Timeout) => Err(Error::deadline_exceeded(format!("no answer within {deadline:?}"))
            .with_hint("it may still be working; ask again")),
        Ok(CallResult::SenderError) | Err(_) => {
            Err(Error::unavailable("the actor restarted before it answered").with_hint("ask again"))
        }
    }
}
