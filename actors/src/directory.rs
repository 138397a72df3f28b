//! Key → current actor: OTP's `via`. Filled by an actor as it starts, so that a handle finds it again after a restart. One per daemon; ractor's own
//! registry is one per process, where two daemons in a test would collide (ADR 0008).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bosun_types::{ContainerId, Error, GroupName, NamespaceName, Result};
use ractor::{ActorCell, ActorRef, Message};

use crate::supervisor::Waiting;

/// Who can be looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Name {
    /// A service, by its name in the tree.
    Service(&'static str),
    /// The writer of a namespace's containers.
    Namespace(NamespaceName),
    /// The worker of a container.
    Container(NamespaceName, ContainerId),
    /// A container's task.
    Task(NamespaceName, ContainerId),
    /// A container's restart policy.
    Relaunch(NamespaceName, ContainerId),
    /// A group of containers.
    Group(NamespaceName, GroupName),
    /// A supervisor, by the path of its names.
    Supervisor(String),
}

/// The map.
#[derive(Default)]
pub struct Directory {
    actors: RwLock<HashMap<Name, ActorCell>>,
    places: Places,
}

/// Requests under way at each name.
type Places = Arc<Mutex<HashMap<Name, usize>>>;

impl Directory {
    /// Says that this actor now is `name`.
    pub fn set(&self, name: Name, actor: ActorCell) {
        self.actors.write().unwrap_or_else(PoisonError::into_inner).insert(name, actor);
    }

    /// Forgets it.
    pub fn remove(&self, name: &Name) {
        self.actors.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// The actor that now is `name`.
    pub fn find<M: Message>(&self, name: &Name) -> Option<ActorRef<M>> {
        let actors = self.actors.read().unwrap_or_else(PoisonError::into_inner);
        let cell = actors.get(name)?;
        // A wrong type here would be a bug that a message would only show as a lost one.
        (cell.is_message_type_of::<M>() == Some(true)).then(|| ActorRef::from(cell.clone()))
    }

    /// The same for what is always there: while it restarts, callers are told to ask again.
    pub fn require<M: Message>(&self, name: &Name) -> Result<ActorRef<M>> {
        self.find(name)
            .ok_or_else(|| Error::unavailable(format!("{name:?} is starting")).with_hint("ask again"))
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.actors.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One place in an actor's queue; given back when dropped.
pub struct Permit {
    places: Places,
    name: Name,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.name);
            }
        }
    }
}

impl Directory {
    /// Admission control: ractor's mailboxes have no limit, so a place is taken before a message is sent. ResourceExhausted: ask later.
    pub fn admit(&self, name: &Name, most: usize) -> Result<Permit> {
        let mut taken = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(name.clone()).or_insert(0);
        if *count >= most {
            return Err(Error::resource_exhausted(format!("{most} requests are waiting already"))
                .with_hint("ask again later"));
        }
        *count += 1;
        Ok(Permit { places: Arc::clone(&self.places), name: name.clone() })
    }

    /// Counts the places taken at `name`, for the tree.
    pub fn waiting(&self, name: &Name) -> Waiting {
        let (places, name) = (Arc::clone(&self.places), name.clone());
        Arc::new(move || {
            let taken = places.lock().unwrap_or_else(PoisonError::into_inner);
            taken.get(&name).map_or(0, |count| u32::try_from(*count).unwrap_or(u32::MAX))
        })
    }
}

#[cfg(test)]
mod tests;
