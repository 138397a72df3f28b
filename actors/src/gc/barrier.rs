//! What stands between the collector and everybody else, so that neither waits for the other.
//!
//! ```text
//!   held       what work in flight relies on, and what a commit under way refers to; counted
//!   shaded     while a collection goes on: everything that was held since it began     ─▶ alive for this collection
//!   condemned  what the collector is removing in this very commit                      ─▶ whoever wants to hold it waits, some milliseconds
//! ```
//!
//! The law, that of a garbage collector with a write barrier: a reference is made only while its target is held. So whatever became
//! referenced after the collector looked is shaded; whatever was not held when it was condemned can only be wanted after it is gone,
//! and who wants it then looks again and does not find it. Every commit of rows passes here ([`crate::core::Core::commit`]), whoever makes it.
//!
//! No actor: a lock held for moments. Nothing survives a restart, and nothing needs to: what an unfinished transfer had in its hands has no
//! rows yet, and only things with rows are garbage (ADR 0021).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bosun_types::gc::Object;
use bosun_types::{Digest, NamespaceName};
use tokio::sync::Notify;

/// Something of a namespace.
pub(crate) type Thing = (NamespaceName, Object);

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub struct Barrier {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    /// Something is no longer condemned.
    freed: Notify,
}

#[derive(Default)]
struct State {
    held: HashMap<Thing, usize>,
    /// `None`: nobody collects.
    shaded: Option<HashSet<Thing>>,
    condemned: HashSet<Thing>,
    /// Blob files that are being removed.
    condemned_files: HashSet<Digest>,
    /// Imports under way: they write blobs whose digests are known only afterwards.
    imports: usize,
    /// Blob files that may be garbage, once no import runs.
    deferred: BTreeSet<Digest>,
}

impl State {
    fn is_condemned(&self, thing: &Thing) -> bool {
        let file =
            |object: &Object| matches!(object, Object::Blob(digest) if self.condemned_files.contains(digest));
        self.condemned.contains(thing) || file(&thing.1)
    }
}

impl Barrier {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps things until the guard is dropped, whether they are there or not: look after this, not before. Waits while one of them is being
    /// removed.
    pub(crate) async fn hold(&self, things: Vec<Thing>) -> Hold {
        let mut freed = std::pin::pin!(self.inner.freed.notified());
        loop {
            // Before the look, so that what is freed after it is heard.
            freed.as_mut().enable();
            {
                let mut state = self.lock();
                if !things.iter().any(|thing| state.is_condemned(thing)) {
                    for thing in &things {
                        *state.held.entry(thing.clone()).or_default() += 1;
                        if let Some(shaded) = &mut state.shaded {
                            shaded.insert(thing.clone());
                        }
                    }
                    return Hold { barrier: self.clone(), things };
                }
            }
            freed.as_mut().await;
            freed.set(self.inner.freed.notified());
        }
    }

    /// Keeps every blob file on disk until the guard is dropped.
    pub(crate) fn importing(&self) -> Importing {
        self.lock().imports += 1;
        Importing { barrier: self.clone() }
    }

    /// What is held of a namespace now.
    pub(crate) fn held_in(&self, namespace: &NamespaceName) -> Vec<Object> {
        let state = self.lock();
        state.held.keys().filter(|(of, _)| of == namespace).map(|(_, object)| object.clone()).collect()
    }

    /// Begins a collection: from now on what is held is remembered. To be called before the store is looked at.
    pub(crate) fn begin(&self) -> Collecting {
        let mut state = self.lock();
        state.shaded = Some(state.held.keys().cloned().collect());
        Collecting { barrier: self.clone() }
    }

    /// Chooses what is removed next: `choose` is told what was shaded since the last call and gives things; those that are held now are left.
    pub(crate) fn condemn(&self, choose: impl FnOnce(HashSet<Thing>) -> Vec<Thing>) -> Condemned {
        let mut state = self.lock();
        let shaded = state.shaded.as_mut().map(std::mem::take).unwrap_or_default();
        let mut things = choose(shaded);
        things.retain(|thing| !state.held.contains_key(thing));
        state.condemned.extend(things.iter().cloned());
        Condemned { barrier: self.clone(), things, files: Vec::new() }
    }

    /// The same for blob files, whatever namespace wants them. Left are those that are held, and while an import runs all of them, for later.
    pub(crate) fn condemn_files(&self, digests: &[Digest]) -> Condemned {
        let mut state = self.lock();
        let files;
        if state.imports > 0 {
            state.deferred.extend(digests);
            files = Vec::new();
        } else {
            let held: HashSet<Digest> =
                state.held.keys().filter_map(|(_, object)| digest_of(object)).collect();
            let (wanted, free): (Vec<Digest>, Vec<Digest>) =
                digests.iter().partition(|digest| held.contains(digest));
            // Who holds one may fail: then nobody else would remove its file.
            state.deferred.extend(wanted);
            files = free;
            state.condemned_files.extend(&files);
        }
        Condemned { barrier: self.clone(), things: Vec::new(), files }
    }

    /// Blob files that were left because of an import, or because somebody held them, if no import runs any more.
    pub(crate) fn deferred(&self) -> Vec<Digest> {
        let mut state = self.lock();
        if state.imports > 0 { Vec::new() } else { std::mem::take(&mut state.deferred).into_iter().collect() }
    }
}

fn digest_of(object: &Object) -> Option<Digest> {
    match object {
        Object::Blob(digest) => Some(*digest),
        Object::Snapshot { .. } => None,
    }
}

/// Keeps what it holds.
pub(crate) struct Hold {
    barrier: Barrier,
    things: Vec<Thing>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.barrier.lock();
        for thing in &self.things {
            if let Some(count) = state.held.get_mut(thing) {
                *count -= 1;
                if *count == 0 {
                    state.held.remove(thing);
                }
            }
        }
    }
}

/// An import under way.
pub(crate) struct Importing {
    barrier: Barrier,
}

impl Drop for Importing {
    fn drop(&mut self) {
        self.barrier.lock().imports -= 1;
    }
}

/// A collection under way.
pub(crate) struct Collecting {
    barrier: Barrier,
}

impl Drop for Collecting {
    fn drop(&mut self) {
        self.barrier.lock().shaded = None;
    }
}

/// What is being removed; nobody can begin to rely on it until this is dropped.
pub(crate) struct Condemned {
    barrier: Barrier,
    /// Rows.
    pub things: Vec<Thing>,
    /// Blob files.
    pub files: Vec<Digest>,
}

impl Drop for Condemned {
    fn drop(&mut self) {
        {
            let mut state = self.barrier.lock();
            for thing in &self.things {
                state.condemned.remove(thing);
            }
            for digest in &self.files {
                state.condemned_files.remove(digest);
            }
        }
        self.barrier.inner.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn blob(number: u8) -> Thing {
        (NamespaceName::default_name(), Object::Blob(Digest::from_bytes([number; 32])))
    }

    #[tokio::test]
    async fn what_is_held_is_not_condemned_and_what_is_condemned_is_waited_for() {
        let barrier = Barrier::default();
        let held = barrier.hold(vec![blob(1)]).await;
        let condemned = barrier.condemn(|_| vec![blob(1), blob(2)]);
        assert_eq!(condemned.things, [blob(2)]);
        assert!(barrier.hold(vec![blob(2), blob(3)]).now_or_never().is_none(), "being removed");
        let waiting = tokio::spawn({
            let barrier = barrier.clone();
            async move { barrier.hold(vec![blob(2)]).await.things.len() }
        });
        tokio::task::yield_now().await;
        drop(condemned);
        assert_eq!(waiting.await.expect("ends"), 1);
        drop(held);
        assert_eq!(barrier.condemn(|_| vec![blob(1)]).things, [blob(1)], "nobody holds it any more");
    }

    #[tokio::test]
    async fn what_was_held_at_any_time_of_a_collection_is_told_once() {
        let barrier = Barrier::default();
        let before = barrier.hold(vec![blob(1)]).await;
        let collecting = barrier.begin();
        drop(before);
        drop(barrier.hold(vec![blob(2)]).await);
        let told = |wanted: &[Thing]| {
            let wanted: HashSet<Thing> = wanted.iter().cloned().collect();
            drop(barrier.condemn(|shaded| {
                assert_eq!(shaded, wanted);
                Vec::new()
            }));
        };
        told(&[blob(1), blob(2)]);
        told(&[]);
        drop(collecting);
        drop(barrier.hold(vec![blob(3)]).await);
        drop(barrier.begin());
    }

    #[tokio::test]
    async fn files_wait_for_imports_and_for_holders_in_any_namespace() {
        let barrier = Barrier::default();
        let (one, two) = (Digest::from_bytes([1; 32]), Digest::from_bytes([2; 32]));
        let importing = barrier.importing();
        assert!(barrier.condemn_files(&[one]).files.is_empty());
        assert!(barrier.deferred().is_empty());
        drop(importing);
        assert_eq!(barrier.deferred(), [one]);
        let other = (NamespaceName::new("other").expect("good"), Object::Blob(one));
        let held = barrier.hold(vec![other.clone()]).await;
        let condemned = barrier.condemn_files(&[one, two]);
        assert_eq!(condemned.files, [two]);
        assert!(barrier.hold(vec![blob(2)]).now_or_never().is_none(), "its file is being removed");
        drop((held, condemned));
        assert!(barrier.hold(vec![blob(2)]).now_or_never().is_some());
    }
}
