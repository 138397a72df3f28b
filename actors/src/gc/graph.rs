//! Who keeps whom in one namespace, as a value, and what follows from it: what is garbage, and why something is not (GC-2, GC-3).
//!
//! Built row by row, so that only this compact form is in memory: about a hundred bytes an object. Nothing here has effects.

use std::collections::VecDeque;
use std::sync::Arc;

use bosun_types::gc::{Chain, Object, Root};

/// Chains told for one object at most.
const CHAINS_MAX: usize = 100;

/// How far a mark reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Nothing keeps it.
    None,
    /// It and its parents are kept, not what its labels refer to (`gc.flat`).
    Flat,
    /// It and everything that it refers to are kept.
    Whole,
}

/// Something that may be garbage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// What.
    pub object: Object,
    /// Its size in bytes.
    pub size: u64,
    /// Its directory's number: what tells a snapshot from a later one of the same key. 0 for a blob.
    pub directory: u64,
}

/// One reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Edge {
    from: u32,
    to: u32,
    /// Of a snapshot to its parent.
    parent: bool,
}

/// What is being read.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    nodes: Vec<Node>,
    /// From a place in `nodes`, which are not in order yet.
    references: Vec<(u32, Object, bool)>,
    roots: Vec<(Root, Object, Reach)>,
}

impl Builder {
    /// An object with its parent and what its labels refer to.
    pub(crate) fn object(
        &mut self,
        node: Node,
        parent: Option<Object>,
        referred: impl Iterator<Item = Object>,
    ) {
        let from = index(self.nodes.len());
        self.references.extend(parent.map(|to| (from, to, true)));
        self.references.extend(referred.map(|to| (from, to, false)));
        self.nodes.push(node);
    }

    /// Something that keeps an object by itself, whether the object is there or not.
    pub(crate) fn root(&mut self, root: Root, object: Object, reach: Reach) {
        self.roots.push((root, object, reach));
    }

    /// Dead references are left out.
    pub(crate) fn build(self) -> Graph {
        let mut order: Vec<u32> = (0..index(self.nodes.len())).collect();
        order.sort_unstable_by(|one, other| {
            self.nodes[*one as usize].object.cmp(&self.nodes[*other as usize].object)
        });
        let mut place = vec![0; self.nodes.len()];
        (0..).zip(&order).for_each(|(new, old)| place[*old as usize] = new);
        let mut nodes: Vec<Option<Node>> = self.nodes.into_iter().map(Some).collect();
        let nodes: Vec<Node> = order.iter().filter_map(|old| nodes[*old as usize].take()).collect();
        let mut graph = Graph { nodes, edges: Vec::new(), first: Vec::new(), roots: Vec::new() };
        let mut edges: Vec<Edge> = self
            .references
            .iter()
            .filter_map(|(from, to, parent)| {
                Some(Edge { from: place[*from as usize], to: graph.find(to)?, parent: *parent })
            })
            .collect();
        edges.sort_unstable_by_key(|edge| (edge.from, edge.to));
        graph.first = first_of_each(&edges, graph.nodes.len());
        graph.edges = edges;
        let roots = self.roots.into_iter();
        graph.roots =
            roots.filter_map(|(root, object, reach)| Some((root, graph.find(&object)?, reach))).collect();
        graph
    }
}

/// Where the edges of each node begin; one more for the end.
fn first_of_each(edges: &[Edge], nodes: usize) -> Vec<u32> {
    let mut first = vec![0_u32; nodes + 1];
    edges.iter().for_each(|edge| first[edge.from as usize + 1] += 1);
    for at in 1..first.len() {
        first[at] += first[at - 1];
    }
    first
}

fn index(count: usize) -> u32 {
    u32::try_from(count).expect("a namespace holds fewer than 2^32 objects")
}

/// Everything that may be garbage in one namespace, and what keeps it.
#[derive(Debug)]
pub(crate) struct Graph {
    /// In order.
    nodes: Vec<Node>,
    /// By `from`.
    edges: Vec<Edge>,
    first: Vec<u32>,
    roots: Vec<(Root, u32, Reach)>,
}

impl Graph {
    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The place of an object.
    pub(crate) fn find(&self, object: &Object) -> Option<u32> {
        self.nodes.binary_search_by(|node| node.object.cmp(object)).ok().map(index)
    }

    /// The object at a place.
    pub(crate) fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    fn edges_of(&self, at: u32) -> &[Edge] {
        &self.edges[self.first[at as usize] as usize..self.first[at as usize + 1] as usize]
    }

    /// What is kept, and how far: from the roots along the references.
    pub(crate) fn mark(&self) -> Vec<Reach> {
        let mut marks = vec![Reach::None; self.nodes.len()];
        for (_, at, reach) in &self.roots {
            self.spread(&mut marks, *at, *reach);
        }
        marks
    }

    /// Marks a place and everything that it keeps and that was not marked as far.
    pub(crate) fn spread(&self, marks: &mut [Reach], at: u32, reach: Reach) {
        let mut open = vec![(at, reach)];
        while let Some((at, reach)) = open.pop() {
            if marks[at as usize] >= reach {
                continue;
            }
            marks[at as usize] = reach;
            let followed = self.edges_of(at).iter().filter(|edge| edge.parent || reach == Reach::Whole);
            open.extend(followed.map(|edge| (edge.to, reach)));
        }
    }

    /// What is not kept, in the order in which it can go: snapshots before their parents, then blobs.
    pub(crate) fn garbage(&self, marks: &[Reach]) -> Vec<u32> {
        let unmarked = || (0..index(self.nodes.len())).filter(|at| marks[*at as usize] == Reach::None);
        let is_blob = |at: &u32| matches!(self.node(*at).object, Object::Blob(_));
        let mut snapshots: Vec<u32> = unmarked().filter(|at| !is_blob(at)).collect();
        let depths = self.depths();
        snapshots.sort_by_key(|at| std::cmp::Reverse(depths[*at as usize]));
        snapshots.extend(unmarked().filter(is_blob));
        snapshots
    }

    /// How many parents are above each other below a snapshot.
    fn depths(&self) -> Vec<u32> {
        let parent_of = |at: u32| self.edges_of(at).iter().find(|edge| edge.parent).map(|edge| edge.to);
        let mut depths = vec![u32::MAX; self.nodes.len()];
        let mut way = Vec::new();
        for at in 0..index(self.nodes.len()) {
            let mut next = Some(at);
            // A circle of parents cannot be made; if one were, its way ends here all the same.
            while let Some(place) = next.filter(|place| depths[*place as usize] == u32::MAX) {
                depths[place as usize] = 0;
                way.push(place);
                next = parent_of(place);
            }
            let mut depth = next.map_or(0, |known| depths[known as usize] + 1);
            while let Some(place) = way.pop() {
                depths[place as usize] = depth;
                depth += 1;
            }
        }
        depths
    }

    /// The shortest chain from each root that keeps an object, by root.
    pub(crate) fn why(&self, object: &Object) -> Vec<Chain> {
        let Some(target) = self.find(object) else { return Vec::new() };
        let by_labels = self.ways_to(target, false);
        let by_parents = self.ways_to(target, true);
        let mut chains: Vec<Chain> = self
            .roots
            .iter()
            .filter_map(|(root, at, reach)| {
                let ways = if *reach == Reach::Flat { &by_parents } else { &by_labels };
                let objects = self.follow(ways, *at, target)?;
                Some(Chain { root: root.clone(), objects })
            })
            .collect();
        chains.sort_by(|one, other| (one.objects.len(), &one.root).cmp(&(other.objects.len(), &other.root)));
        chains.dedup();
        chains.truncate(CHAINS_MAX);
        chains
    }

    /// For every place from which the target is reached: the next place on the shortest way.
    fn ways_to(&self, target: u32, parents_only: bool) -> Vec<Option<u32>> {
        let mut reversed: Vec<Edge> = self
            .edges
            .iter()
            .filter(|edge| edge.parent || !parents_only)
            .map(|edge| Edge { from: edge.to, to: edge.from, ..*edge })
            .collect();
        reversed.sort_unstable_by_key(|edge| (edge.from, edge.to));
        let first = first_of_each(&reversed, self.nodes.len());
        let mut next = vec![None; self.nodes.len()];
        next[target as usize] = Some(target);
        let mut open = VecDeque::from([target]);
        while let Some(at) = open.pop_front() {
            for edge in &reversed[first[at as usize] as usize..first[at as usize + 1] as usize] {
                if next[edge.to as usize].is_none() {
                    next[edge.to as usize] = Some(at);
                    open.push_back(edge.to);
                }
            }
        }
        next
    }

    fn follow(&self, ways: &[Option<u32>], from: u32, target: u32) -> Option<Vec<Object>> {
        let mut objects = Vec::new();
        let mut at = from;
        loop {
            let next = ways[at as usize]?;
            objects.push(self.node(at).object.clone());
            if at == target {
                return Some(objects);
            }
            at = next;
        }
    }
}

/// Garbage that goes some at a time, while others may still come to want some of it.
pub(crate) struct Remains {
    graph: Arc<Graph>,
    marks: Vec<Reach>,
    order: VecDeque<u32>,
}

impl Remains {
    pub(crate) fn of(graph: &Arc<Graph>) -> Self {
        let marks = graph.mark();
        let order = graph.garbage(&marks).into();
        Self { graph: Arc::clone(graph), marks, order }
    }

    /// Someone wants these now: they and all they refer to stay.
    pub(crate) fn rescue<'a>(&mut self, wanted: impl IntoIterator<Item = &'a Object>) {
        for object in wanted {
            if let Some(at) = self.graph.find(object) {
                self.graph.spread(&mut self.marks, at, Reach::Whole);
            }
        }
    }

    /// Whether what comes next are snapshots or blobs; `None`: nothing is left.
    pub(crate) fn next_is_blob(&mut self) -> Option<bool> {
        while let Some(at) = self.order.front() {
            if self.marks[*at as usize] == Reach::None {
                return Some(matches!(self.graph.node(*at).object, Object::Blob(_)));
            }
            self.order.pop_front();
        }
        None
    }

    /// At most so many of one kind.
    pub(crate) fn take(&mut self, most: usize) -> Vec<Node> {
        let mut taken = Vec::new();
        let kind = self.next_is_blob();
        while taken.len() < most && kind.is_some() && self.next_is_blob() == kind {
            let Some(at) = self.order.pop_front() else { break };
            // What is gone keeps nothing, whoever comes to want it.
            self.marks[at as usize] = Reach::Whole;
            taken.push(self.graph.node(at).clone());
        }
        taken
    }
}

#[cfg(test)]
mod tests;
