//! The directory: successors replace, wrong types are not found, places are counted for each daemon and name.

use bosun_types::ErrorClass;
use ractor::{Actor, ActorProcessingErr, SupervisionEvent};

use super::*;

struct Mute<M>(std::marker::PhantomData<fn(M)>);

impl<M: Message> Actor for Mute<M> {
    type Msg = M;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<M>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<M>,
        _: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

async fn mute<M: Message>() -> ActorCell {
    Actor::spawn(None, Mute::<M>(std::marker::PhantomData), ()).await.expect("starts").0.get_cell()
}

enum One {}
enum Other {}

const NAME: Name = Name::Service("x");

#[tokio::test]
async fn a_successor_replaces_and_a_wrong_type_is_not_found() {
    let directory = Directory::default();
    assert!(directory.find::<One>(&NAME).is_none());
    assert_eq!(directory.require::<One>(&NAME).expect_err("none").class, ErrorClass::Unavailable);
    let (first, second) = (mute::<One>().await, mute::<One>().await);
    directory.set(NAME, first);
    directory.set(NAME, second.clone());
    assert_eq!(directory.find::<One>(&NAME).expect("is there").get_id(), second.get_id());
    assert!(directory.find::<Other>(&NAME).is_none());
    directory.remove(&NAME);
    assert!(directory.is_empty());
}

#[test]
fn places_are_limited_counted_and_given_back() {
    let (directory, other) = (Directory::default(), Directory::default());
    let waiting = directory.waiting(&NAME);
    let places: Vec<Permit> = (0..2).map(|_| directory.admit(&NAME, 2).expect("has room")).collect();
    assert_eq!(waiting(), 2);
    assert_eq!(directory.admit(&NAME, 2).err().expect("is full").class, ErrorClass::ResourceExhausted);
    assert!(directory.admit(&Name::Service("y"), 2).is_ok(), "another name has its own");
    assert!(other.admit(&NAME, 1).is_ok(), "another daemon has its own");
    drop(places);
    assert_eq!(waiting(), 0);
}
