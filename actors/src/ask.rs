//! Asking an actor: always with a deadline, always a typed error. `call!` without a deadline waits for ever on a stuck actor.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bosun_types::{Error, Result};
use ractor::rpc::CallResult;
use ractor::{ActorRef, Message, RpcReplyPort};

use crate::directory::Name;

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

/// One place in an actor's queue; given back when dropped.
pub struct Permit {
    name: Name,
}

fn waiting() -> &'static Mutex<HashMap<Name, usize>> {
    static WAITING: OnceLock<Mutex<HashMap<Name, usize>>> = OnceLock::new();
    WAITING.get_or_init(Mutex::default)
}

/// Admission control: ractor's mailboxes have no limit, so a place is taken before a message is sent. ResourceExhausted: ask later.
pub fn admit(name: &Name, most: usize) -> Result<Permit> {
    let mut waiting = waiting().lock().unwrap_or_else(PoisonError::into_inner);
    let count = waiting.entry(name.clone()).or_insert(0);
    if *count >= most {
        return Err(Error::resource_exhausted(format!("{most} requests are waiting already"))
            .with_hint("ask again later"));
    }
    *count += 1;
    Ok(Permit { name: name.clone() })
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut waiting = waiting().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.name);
            }
        }
    }
}
