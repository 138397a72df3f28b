//! Calls with idempotency keys: what the shim did for them, so that a daemon that was killed before it heard of it does not have it done twice.
//!
//! ```text
//!   Once ──▶ under way ──done──▶ remembered, the newest 64
//!               ▲   │ failed
//!      again: waits └──▶ forgotten: it may be tried again
//! ```

use std::collections::VecDeque;

use bosun_types::Error;
use bosun_types::call::CallId;
use bosun_types::shim::Response;

use crate::process::Waiter;

/// Calls remembered: a daemon repeats one within seconds of its restart.
const KEPT_MAX: usize = 64;
/// Calls under way at once; what waits beside them was asked by daemons that are gone.
const UNDER_WAY_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Calls {
    done: VecDeque<CallId>,
    under_way: VecDeque<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    call: CallId,
    first: Waiter,
    others: Vec<Waiter>,
}

/// What a call meets.
#[derive(Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is to be done.
    New,
    /// It is being done: who asked again is answered with the first.
    UnderWay,
    /// It was done.
    Done,
}

impl Calls {
    /// Somebody asks for it.
    pub fn begin(&mut self, call: CallId, waiter: Waiter) -> Begun {
        if self.done.contains(&call) {
            return Begun::Done;
        }
        if let Some(known) = self.under_way.iter_mut().find(|it| it.call == call) {
            known.others.push(waiter);
            return Begun::UnderWay;
        }
        if self.under_way.len() >= UNDER_WAY_MAX {
            self.under_way.pop_front();
        }
        self.under_way.push_back(UnderWay { call, first: waiter, others: Vec::new() });
        Begun::New
    }

    /// That waiter is answered: who else waits for the same call.
    pub fn end(&mut self, waiter: Waiter, is_done: bool) -> Vec<Waiter> {
        let Some(place) = self.under_way.iter().position(|it| it.first == waiter) else { return Vec::new() };
        let Some(ended) = self.under_way.remove(place) else { return Vec::new() };
        if is_done {
            self.remember(ended.call);
        }
        ended.others
    }

    /// It was done.
    pub fn remember(&mut self, call: CallId) {
        if self.done.len() >= KEPT_MAX {
            self.done.pop_front();
        }
        self.done.push_back(call);
    }

    /// Whether it was.
    pub fn recall(&self, call: &CallId) -> Result<Response, Error> {
        if self.done.contains(call) {
            return Ok(Response::Done);
        }
        Err(Error::not_found(format!("call {}", call.key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(key: &str) -> CallId {
        CallId {
            key: key.parse().unwrap(),
            method: "process.write_stdin".to_owned(),
            subject: "c".to_owned(),
        }
    }

    fn waiter(request: u64) -> Waiter {
        Waiter { connection: 1, request, call: None }
    }

    #[test]
    fn a_call_is_done_once_and_who_asks_meanwhile_is_answered_with_it() {
        let mut calls = Calls::default();
        assert_eq!(calls.begin(call("a"), waiter(1)), Begun::New);
        assert_eq!(calls.begin(call("a"), waiter(2)), Begun::UnderWay);
        assert!(calls.recall(&call("a")).is_err(), "not yet");
        assert_eq!(calls.end(waiter(1), true), [waiter(2)]);
        assert_eq!(calls.begin(call("a"), waiter(3)), Begun::Done);
        assert!(calls.recall(&call("a")).is_ok());
        assert!(calls.end(waiter(3), true).is_empty(), "nobody waits");
    }

    #[test]
    fn a_failure_is_not_remembered_and_the_oldest_are_forgotten() {
        let mut calls = Calls::default();
        assert_eq!(calls.begin(call("a"), waiter(1)), Begun::New);
        assert!(calls.end(waiter(1), false).is_empty());
        assert_eq!(calls.begin(call("a"), waiter(2)), Begun::New);
        calls.end(waiter(2), true);
        for number in 0..KEPT_MAX {
            calls.remember(call(&format!("b{number}")));
        }
        assert!(calls.recall(&call("a")).is_err());
        assert!(calls.recall(&call("b0")).is_ok());
        for number in 0..2 * UNDER_WAY_MAX as u64 {
            assert_eq!(calls.begin(call(&format!("c{number}")), waiter(number)), Begun::New);
        }
        assert!(calls.under_way.len() <= UNDER_WAY_MAX);
    }
}
