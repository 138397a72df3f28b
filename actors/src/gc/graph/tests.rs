//! The plan against a naive reference model, and its corners by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bosun_types::Digest;
use bosun_types::gc::{Object, Root};
use proptest::prelude::*;

use super::{Builder, Graph, Node, Reach, Remains};

fn blob(number: u8) -> Object {
    Object::Blob(Digest::from_bytes([number; 32]))
}

fn snapshot(number: u8) -> Object {
    Object::Snapshot { snapshotter: "overlayfs".to_owned(), key: format!("s{number}").parse().expect("good") }
}

fn root(kind: &str) -> Root {
    Root { kind: kind.to_owned(), id: "it".to_owned(), until: None }
}

fn node(object: Object) -> Node {
    Node { object, size: 1, directory: 0 }
}

/// An object, its parent, what its labels refer to.
type Row = (Object, Option<Object>, Vec<Object>);

/// A namespace as plain lists.
#[derive(Debug, Clone, Default)]
struct World {
    objects: Vec<Row>,
    roots: Vec<(Object, Reach)>,
}

impl World {
    fn graph(&self) -> Graph {
        let mut builder = Builder::default();
        for (object, parent, referred) in &self.objects {
            builder.object(node(object.clone()), parent.clone(), referred.iter().cloned());
        }
        for (object, reach) in &self.roots {
            builder.root(root("image"), object.clone(), *reach);
        }
        builder.build()
    }

    /// The rules said again, as slowly and as plainly as can be: until nothing changes, whatever something kept refers to is kept.
    fn kept(&self) -> BTreeSet<Object> {
        let rows: BTreeMap<_, _> = self.objects.iter().map(|row| (&row.0, row)).collect();
        let mut kept: BTreeSet<(Object, bool)> =
            self.roots.iter().map(|(object, reach)| (object.clone(), *reach == Reach::Whole)).collect();
        loop {
            let mut more = kept.clone();
            for (object, whole) in &kept {
                let Some((_, parent, referred)) = rows.get(object) else { continue };
                more.extend(parent.iter().map(|parent| (parent.clone(), *whole)));
                if *whole {
                    more.extend(referred.iter().map(|to| (to.clone(), true)));
                }
            }
            if more == kept {
                return kept
                    .into_iter()
                    .map(|(object, _)| object)
                    .filter(|object| rows.contains_key(object))
                    .collect();
            }
            kept = more;
        }
    }
}

fn garbage(graph: &Graph) -> Vec<Object> {
    graph.garbage(&graph.mark()).into_iter().map(|at| graph.node(at).object.clone()).collect()
}

fn any_object() -> impl Strategy<Value = Object> {
    (0..12_u8, any::<bool>())
        .prop_map(|(number, is_blob)| if is_blob { blob(number) } else { snapshot(number) })
}

fn any_world() -> impl Strategy<Value = World> {
    let referred = || proptest::collection::vec(any_object(), 0..3);
    // A parent is always older: its number is smaller.
    let snapshots = proptest::collection::btree_map(
        0..12_u8,
        (any::<proptest::sample::Index>(), any::<bool>(), referred()),
        0..12,
    );
    let blobs = proptest::collection::btree_map(0..12_u8, referred(), 0..12);
    let reach = prop_oneof![Just(Reach::Flat), Just(Reach::Whole)];
    let roots = proptest::collection::vec((any_object(), reach), 0..5);
    (snapshots, blobs, roots).prop_map(|(snapshots, blobs, roots)| {
        let mut objects: Vec<Row> = Vec::new();
        for (number, (older, has_parent, referred)) in snapshots {
            let parents: Vec<Object> = objects.iter().map(|(object, ..)| object.clone()).collect();
            let parent = (has_parent && !parents.is_empty()).then(|| older.get(&parents).clone());
            objects.push((snapshot(number), parent, referred));
        }
        objects.extend(blobs.into_iter().map(|(number, referred)| (blob(number), None, referred)));
        World { objects, roots }
    })
}

proptest! {
    #[test]
    fn gc_2_the_plan_is_the_reference_models(world in any_world()) {
        let graph = world.graph();
        let all: BTreeSet<Object> = world.objects.iter().map(|(object, ..)| object.clone()).collect();
        let planned: BTreeSet<Object> = garbage(&graph).into_iter().collect();
        let expected: BTreeSet<Object> = all.difference(&world.kept()).cloned().collect();
        prop_assert_eq!(&planned, &expected);
        // What keeps it is told of exactly what is kept.
        for object in &all {
            let chains = graph.why(object);
            prop_assert_eq!(chains.is_empty(), planned.contains(object), "{}", object);
            for chain in chains {
                prop_assert_eq!(chain.objects.last(), Some(object));
                let first = chain.objects.first();
                prop_assert!(world.roots.iter().any(|(root, _)| Some(root) == first));
            }
        }
    }

    #[test]
    fn gc_5_a_snapshot_goes_before_its_parent(world in any_world()) {
        let order = garbage(&world.graph());
        let place: BTreeMap<_, _> = order.iter().zip(0..).collect();
        for (object, parent, _) in &world.objects {
            if let (Some(own), Some(parents)) = (place.get(object), parent.as_ref().and_then(|parent| place.get(parent))) {
                prop_assert!(own < parents, "{object} before its parent");
            }
        }
    }

    /// A collector that goes batch by batch, with references that come in between: what became wanted while it was there stays, with all that
    /// it keeps; what nobody came to want goes.
    #[test]
    fn gc_4_what_is_wanted_in_between_stays(world in any_world(), wishes in proptest::collection::vec(any_object(), 0..6), most in 1..4_usize) {
        let mut remains = Remains::of(&Arc::new(world.graph()));
        let mut wishes = wishes.into_iter();
        let mut gone = BTreeSet::new();
        let mut wanted = world.clone();
        loop {
            if let Some(wish) = wishes.next() {
                remains.rescue([&wish]);
                // What is gone cannot be wanted any more; it is only a dead reference.
                wanted.objects.retain(|(object, ..)| !gone.contains(object));
                wanted.roots.push((wish, Reach::Whole));
            }
            let taken = remains.take(most);
            if taken.is_empty() {
                break;
            }
            gone.extend(taken.into_iter().map(|node| node.object));
        }
        let kept = wanted.kept();
        prop_assert!(gone.is_disjoint(&kept), "{gone:?} {kept:?}");
        for (object, ..) in &world.objects {
            prop_assert!(gone.contains(object) || kept.contains(object), "{object} is left");
        }
    }
}

#[test]
fn lse_7_a_flat_lease_keeps_parents_and_not_what_labels_refer_to() {
    let world = World {
        objects: vec![
            (blob(1), None, vec![blob(2)]),
            (blob(2), None, vec![]),
            (snapshot(1), None, vec![]),
            (snapshot(2), Some(snapshot(1)), vec![blob(2)]),
        ],
        roots: vec![(blob(1), Reach::Flat), (snapshot(2), Reach::Flat)],
    };
    assert_eq!(garbage(&world.graph()), [blob(2)]);
}

#[test]
fn gc_3_circles_of_blobs_keep_nothing_by_themselves() {
    let mut world = World {
        objects: vec![(blob(1), None, vec![blob(2)]), (blob(2), None, vec![blob(1), blob(9)])],
        roots: vec![(blob(9), Reach::Whole)],
    };
    assert_eq!(garbage(&world.graph()), [blob(1), blob(2)]);
    world.roots.push((blob(2), Reach::Whole));
    assert_eq!(garbage(&world.graph()), []);
    let chain = world.graph().why(&blob(1)).remove(0);
    assert_eq!(chain.objects, [blob(2), blob(1)]);
}

#[test]
fn a_hundred_thousand_objects_take_moments() {
    let mut builder = Builder::default();
    let digest = |number: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Object::Blob(Digest::from_bytes(bytes))
    };
    for number in 0..100_000_u32 {
        builder.object(node(digest(number)), None, [digest(number / 2)].into_iter());
    }
    builder.root(root("image"), digest(99_999), Reach::Whole);
    let graph = builder.build();
    // The way from the last one by halves to the first.
    assert_eq!(garbage(&graph).len(), 100_000 - 18);
    assert_eq!(graph.why(&digest(0)).remove(0).objects.len(), 18);
}
