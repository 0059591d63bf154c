//! A graph with reasons on its edges, its components, and the shortest circle of each.
//!
//! It knows nothing of histories. Nodes up to a number count, the ones after it are mere points on the way.

use std::collections::{HashMap, VecDeque};

use watchfire_model::DocumentPath;

/// Circles that are looked for from so many nodes of a component at most.
const STARTS_MAX: usize = 64;
/// So many components are told of.
const CIRCLES_MAX: usize = 5;

/// Why one comes before the other.
#[derive(Clone, Debug)]
pub enum Reason {
    /// The other wrote the same document next.
    Overwrote(DocumentPath),
    /// The other read what this one wrote, or did not see what this one took away (false).
    WasRead(DocumentPath, bool),
    /// This one read what the other wrote over, or did not see what the other brought (false).
    ReadBefore(DocumentPath, bool),
    /// This one ended before the other began.
    Ended,
}

/// Edges by node.
#[derive(Default)]
pub struct Graph {
    edges: Vec<HashMap<usize, Reason>>,
}

impl Graph {
    /// One comes before the other. The first reason is kept; nothing comes before itself.
    pub fn add(&mut self, from: usize, to: usize, reason: impl FnOnce() -> Reason) {
        if from == to {
            return;
        }
        let len = from.max(to) + 1;
        if self.edges.len() < len {
            self.edges.resize_with(len, HashMap::new);
        }
        if let Some(edges) = self.edges.get_mut(from) {
            edges.entry(to).or_insert_with(reason);
        }
    }

    /// One circle for each component that has any: nodes in order, each with the reason why it comes before the
    /// next one. Where points are passed, the reason of the last node that counts stands.
    pub fn shortest_circles(&self, counting: usize) -> Vec<Vec<(usize, Reason)>> {
        let component_of = self.components();
        let mut members: HashMap<usize, Vec<usize>> = HashMap::new();
        for (node, component) in component_of.iter().enumerate() {
            members.entry(*component).or_default().push(node);
        }
        let mut members: Vec<Vec<usize>> = members
            .into_values()
            .filter(|members| members.len() > 1)
            .collect();
        members.sort();
        members
            .iter()
            .take(CIRCLES_MAX)
            .filter_map(|members| {
                members
                    .iter()
                    .filter(|node| **node < counting)
                    .take(STARTS_MAX)
                    .filter_map(|start| self.circle_from(*start, counting, &component_of))
                    .min_by_key(|circle| circle.iter().filter(|(node, _)| *node < counting).count())
            })
            .collect()
    }

    /// The circle through the node with the fewest nodes that count.
    fn circle_from(
        &self,
        start: usize,
        counting: usize,
        component_of: &[usize],
    ) -> Option<Vec<(usize, Reason)>> {
        let component = component_of.get(start)?;
        let mut came_from: HashMap<usize, usize> = HashMap::new();
        let mut distances: HashMap<usize, usize> = HashMap::from([(start, 0)]);
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            let distance = distances.get(&node).copied().unwrap_or(0);
            // Sorted, so that the same history is told in the same words.
            let mut nexts: Vec<usize> = self.edges.get(node)?.keys().copied().collect();
            nexts.sort_unstable();
            for next in nexts {
                if next == start {
                    return self.unwind(start, node, &came_from);
                }
                if component_of.get(next) != Some(component) {
                    continue;
                }
                let through = distance + usize::from(next < counting);
                if distances.get(&next).is_some_and(|known| *known <= through) {
                    continue;
                }
                distances.insert(next, through);
                came_from.insert(next, node);
                if next < counting {
                    queue.push_back(next);
                } else {
                    queue.push_front(next);
                }
            }
        }
        None
    }

    fn unwind(
        &self,
        start: usize,
        last: usize,
        came_from: &HashMap<usize, usize>,
    ) -> Option<Vec<(usize, Reason)>> {
        let mut nodes = vec![last];
        let mut node = last;
        while node != start {
            node = *came_from.get(&node)?;
            nodes.push(node);
        }
        nodes.reverse();
        let nexts = nodes.iter().skip(1).chain(std::iter::once(&start));
        nodes
            .iter()
            .zip(nexts)
            .map(|(node, next)| Some((*node, self.edges.get(*node)?.get(next)?.clone())))
            .collect()
    }

    /// The strongly connected component of each node, by Tarjan's algorithm, without recursion.
    fn components(&self) -> Vec<usize> {
        const NONE: usize = usize::MAX;
        let len = self.edges.len();
        let mut tarjan = Tarjan {
            index: vec![NONE; len],
            low: vec![NONE; len],
            component: vec![NONE; len],
            stack: Vec::new(),
            next: 0,
        };
        for root in 0..len {
            if tarjan.index.get(root) == Some(&NONE) {
                self.visit(root, &mut tarjan);
            }
        }
        tarjan.component
    }

    fn visit(&self, root: usize, tarjan: &mut Tarjan) {
        let nexts = |node: usize| -> Vec<usize> {
            let edges = self.edges.get(node);
            edges.map_or_else(Vec::new, |edges| edges.keys().copied().collect())
        };
        tarjan.enter(root);
        let mut path = vec![(root, nexts(root))];
        while let Some((node, rest)) = path.last_mut() {
            let node = *node;
            match rest.pop() {
                Some(next) => match tarjan.seen(next) {
                    Seen::Never => {
                        tarjan.enter(next);
                        path.push((next, nexts(next)));
                    }
                    Seen::OnStack(index) => tarjan.lower(node, index),
                    Seen::Done => {}
                },
                None => {
                    path.pop();
                    let low = tarjan.leave(node);
                    if let Some((above, _)) = path.last() {
                        tarjan.lower(*above, low);
                    }
                }
            }
        }
    }
}

enum Seen {
    Never,
    OnStack(usize),
    Done,
}

struct Tarjan {
    index: Vec<usize>,
    low: Vec<usize>,
    component: Vec<usize>,
    stack: Vec<usize>,
    next: usize,
}

impl Tarjan {
    fn enter(&mut self, node: usize) {
        if let (Some(index), Some(low)) = (self.index.get_mut(node), self.low.get_mut(node)) {
            *index = self.next;
            *low = self.next;
        }
        self.next += 1;
        self.stack.push(node);
    }

    fn seen(&self, node: usize) -> Seen {
        match (self.index.get(node), self.component.get(node)) {
            (Some(&usize::MAX), _) | (None, _) => Seen::Never,
            (Some(index), Some(&usize::MAX)) => Seen::OnStack(*index),
            (Some(_), _) => Seen::Done,
        }
    }

    fn lower(&mut self, node: usize, to: usize) {
        if let Some(low) = self.low.get_mut(node) {
            *low = to.min(*low);
        }
    }

    /// Ends the visit of a node; names its component if it is the root of one. Gives its low number.
    fn leave(&mut self, node: usize) -> usize {
        let low = self.low.get(node).copied().unwrap_or(usize::MAX);
        if self.index.get(node) == Some(&low) {
            while let Some(member) = self.stack.pop() {
                if let Some(component) = self.component.get_mut(member) {
                    *component = node;
                }
                if member == node {
                    break;
                }
            }
        }
        low
    }
}
