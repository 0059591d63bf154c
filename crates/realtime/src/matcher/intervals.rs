//! Targets by ranges of bytes: which ids have a range that holds a given point.
//!
//! # How
//!
//! Bits are read as a way down a binary tree, where 0 is left and 1 is right.
//! The two ends of a range go the same way for a while and then part; the range lies at the place where they part.
//! A point inside the range comes by that place too, and goes on left or right of the middle.
//! If it goes left, the upper end is on the other side already, and only the lower end is left to compare: so a place
//! keeps its ranges sorted by their lower ends, and again by their upper ends, and hands out the beginning of one of
//! the two rows, of which every range is a hit.
//!
//! Only places that have ranges, or at which two ways to such places part, exist; the others are skipped.
//! Finding therefore costs the places on the way, and the hits.
//! The way is as long as the logarithm of the number of ranges when bounds are spread out, and at most
//! `8 * KEY_BYTES_MAX` places whatever they are: the tree needs no balance, and an insertion or removal changes one
//! place and at most one place above it.
//!
//! Invariant: a place without ranges has two places below it.
//!
//! # Ends
//!
//! A lower end goes on with zeros and an upper end with ones, for ever.
//! A cut key, or the tag of a type alone, is therefore a bound that takes in everything which begins with it; cutting
//! can only make a range wider. Both ends count as inside.
//! An upper end is kept with all bits turned, so that both ends are sorted and compared alike.
//!
//! # What is not done
//!
//! No exact answer at the ends: whoever asks tests the hits. No rebuilding, no balance.

use std::collections::BTreeSet;

use crate::target::SharedId;

/// Bytes of a key that ranges distinguish; longer keys are cut, which makes ranges wider.
pub const KEY_BYTES_MAX: usize = 128;

/// A closed range of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    low: Box<[u8]>,
    /// The upper end with all bits turned.
    turned_high: Box<[u8]>,
}

impl Interval {
    /// Everything between the keys and whatever begins with one of them; an empty key is no bound.
    pub fn between(low: &[u8], high: &[u8]) -> Self {
        Self {
            low: cut(low).into(),
            turned_high: cut(high).iter().map(|byte| !byte).collect(),
        }
    }

    /// What lies in both.
    pub fn intersect(self, other: Self) -> Self {
        Self {
            low: self.low.max(other.low),
            turned_high: self.turned_high.max(other.turned_high),
        }
    }

    /// Whether no key lies in it.
    pub fn is_empty(&self) -> bool {
        let (_, low, high) = self.parting();
        low > high
    }

    /// The lower end as a point.
    pub fn start(&self) -> Point {
        Point::new(&self.low)
    }

    /// Whether both ends are longer than a tag, so that neither is only the end of a type or none at all.
    pub fn is_bounded(&self) -> bool {
        self.low.len() > 1 && self.turned_high.len() > 1
    }

    /// The index of the byte in which the ends part, and that byte of both.
    fn parting(&self) -> (usize, u8, u8) {
        let mut low = self.low.iter().copied();
        let mut high = self.turned_high.iter().map(|byte| !byte);
        let mut index = 0;
        loop {
            let pair = (low.next(), high.next());
            let (low, high) = (pair.0.unwrap_or(0), pair.1.unwrap_or(u8::MAX));
            if low != high || pair == (None, None) {
                return (index, low, high);
            }
            index += 1;
        }
    }

    /// Where the range lies. Not for empty ranges.
    fn place(&self) -> Way {
        let (index, low, high) = self.parting();
        let in_byte = (low ^ high).leading_zeros() as usize;
        let bytes = self
            .low
            .iter()
            .copied()
            .chain(std::iter::repeat(0))
            .take(index + 1);
        Way::new(bytes.collect(), 8 * index + in_byte)
    }
}

/// What is looked for: a key, cut, and with all bits turned.
#[derive(Debug)]
pub struct Point {
    key: Vec<u8>,
    turned: Vec<u8>,
}

impl Point {
    pub fn new(key: &[u8]) -> Self {
        let key = cut(key).to_vec();
        let turned = key.iter().map(|byte| !byte).collect();
        Self { key, turned }
    }
}

/// The first bits of a key.
#[derive(Debug)]
struct Way {
    /// As many as the bits need; the bits behind the last are zero.
    bytes: Box<[u8]>,
    len: usize,
}

impl Way {
    fn new(mut bytes: Vec<u8>, len: usize) -> Self {
        bytes.truncate(len.div_ceil(8));
        if !len.is_multiple_of(8)
            && let Some(last) = bytes.last_mut()
        {
            *last &= !(u8::MAX >> (len % 8));
        }
        Self {
            bytes: bytes.into(),
            len,
        }
    }

    /// How many bits the two begin with in common.
    fn common(&self, other: &Way) -> usize {
        let (len, bits) = (self.len.min(other.len), self.agreement(&other.bytes, 0));
        len.min(bits)
    }

    /// Whether the key begins with these bits, when it is known that it does with the first `known`.
    fn begins(&self, key: &[u8], known: usize) -> bool {
        self.agreement(key, known / 8) >= self.len
    }

    /// How many bits agree with the key, which goes on with zeros; the bytes before `from` do.
    fn agreement(&self, key: &[u8], from: usize) -> usize {
        let key = key.iter().copied().chain(std::iter::repeat(0));
        self.bytes
            .iter()
            .zip(key)
            .enumerate()
            .skip(from)
            .find_map(|(index, (byte, other))| {
                let in_byte = (byte ^ other).leading_zeros() as usize;
                (in_byte < 8).then_some(8 * index + in_byte)
            })
            .unwrap_or(8 * self.bytes.len())
    }
}

/// The bit of a key that goes on with zeros.
fn goes_up(key: &[u8], bit: usize) -> bool {
    key.get(bit / 8)
        .is_some_and(|byte| byte & (0x80 >> (bit % 8)) != 0)
}

fn cut(key: &[u8]) -> &[u8] {
    key.get(..KEY_BYTES_MAX).unwrap_or(key)
}

/// The ranges of one place, sorted both ways as soon as there are several.
#[derive(Debug, Default)]
enum Row {
    #[default]
    None,
    One(Interval, SharedId),
    Many {
        by_low: BTreeSet<(Box<[u8]>, SharedId)>,
        by_high: BTreeSet<(Box<[u8]>, SharedId)>,
    },
}

impl Row {
    fn insert(&mut self, interval: Interval, id: SharedId) {
        match std::mem::take(self) {
            Row::None => *self = Row::One(interval, id),
            Row::One(first, first_id) => {
                *self = Row::Many {
                    by_low: [(first.low, first_id), (interval.low, id)].into(),
                    by_high: [(first.turned_high, first_id), (interval.turned_high, id)].into(),
                };
            }
            Row::Many {
                mut by_low,
                mut by_high,
            } => {
                by_low.insert((interval.low, id));
                by_high.insert((interval.turned_high, id));
                *self = Row::Many { by_low, by_high };
            }
        }
    }

    fn remove(&mut self, interval: Interval, id: SharedId) {
        match self {
            Row::None => {}
            Row::One(only, only_id) => {
                if *only_id == id && *only == interval {
                    *self = Row::None;
                }
            }
            Row::Many { by_low, by_high } => {
                by_low.remove(&(interval.low, id));
                by_high.remove(&(interval.turned_high, id));
                if by_low.is_empty() {
                    *self = Row::None;
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Row::None => true,
            Row::One(_, _) | Row::Many { .. } => false,
        }
    }

    /// The ids whose range holds the point, which passes the middle of all of them above or below.
    fn hits<'a>(&'a self, point: &'a Point, above: bool) -> impl Iterator<Item = SharedId> + 'a {
        let (one, many) = match self {
            Row::None => (None, None),
            Row::One(interval, id) => {
                let holds = if above {
                    *interval.turned_high <= *point.turned
                } else {
                    *interval.low <= *point.key
                };
                (holds.then_some(*id), None)
            }
            Row::Many { by_high, .. } if above => (None, Some((by_high, &point.turned))),
            Row::Many { by_low, .. } => (None, Some((by_low, &point.key))),
        };
        let many = many.into_iter().flat_map(|(row, reach)| {
            row.iter()
                .take_while(move |(end, _)| **end <= **reach)
                .map(|(_, id)| *id)
        });
        one.into_iter().chain(many)
    }
}

#[derive(Debug)]
struct Node {
    way: Way,
    row: Row,
    below: Option<Box<Node>>,
    above: Option<Box<Node>>,
}

impl Node {
    fn new(way: Way) -> Box<Self> {
        Box::new(Self {
            way,
            row: Row::None,
            below: None,
            above: None,
        })
    }

    fn side(&mut self, above: bool) -> &mut Option<Box<Node>> {
        if above {
            &mut self.above
        } else {
            &mut self.below
        }
    }

    /// The place below this one on the way of the point.
    fn next(&self, point: &Point) -> Option<&Node> {
        let side = if goes_up(&point.key, self.way.len) {
            &self.above
        } else {
            &self.below
        };
        side.as_deref()
            .filter(|next| next.way.begins(&point.key, self.way.len))
    }
}

/// Ids by range.
#[derive(Debug, Default)]
pub struct Intervals {
    root: Option<Box<Node>>,
}

impl Intervals {
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The range must not be empty.
    pub fn insert(&mut self, interval: Interval, id: SharedId) {
        let way = interval.place();
        let mut slot = &mut self.root;
        // Every round goes at least one bit down, so that there are at most `8 * KEY_BYTES_MAX + 1`.
        loop {
            let node = slot.get_or_insert_with(|| Node::new(Way::new(way.bytes.to_vec(), way.len)));
            let common = node.way.common(&way);
            if common < node.way.len {
                // The ways part above this place, or the new place lies on the way to it.
                let between = Node::new(Way::new(way.bytes.to_vec(), common));
                let old = std::mem::replace(node, between);
                let above = goes_up(&old.way.bytes, common);
                *node.side(above) = Some(old);
            }
            if common == way.len {
                node.row.insert(interval, id);
                return;
            }
            slot = node.side(goes_up(&way.bytes, common));
        }
    }

    /// Without effect when the id is not there. The range must not be empty; an id that has several must be removed
    /// with all of them.
    pub fn remove(&mut self, interval: Interval, id: SharedId) {
        let way = interval.place();
        remove(&mut self.root, &way, interval, id);
    }

    /// The ids whose range holds the point, each as often as it was put there.
    pub fn hits<'a>(&'a self, point: &'a Point) -> impl Iterator<Item = SharedId> + 'a {
        let root = self
            .root
            .as_deref()
            .filter(|root| root.way.begins(&point.key, 0));
        std::iter::successors(root, |node| node.next(point))
            .flat_map(|node| node.row.hits(point, goes_up(&point.key, node.way.len)))
    }
}

/// As deep as the tree, at most `8 * KEY_BYTES_MAX + 1` calls.
fn remove(slot: &mut Option<Box<Node>>, way: &Way, interval: Interval, id: SharedId) {
    let Some(node) = slot else { return };
    let common = node.way.common(way);
    if common < node.way.len {
        return;
    }
    if common == way.len {
        node.row.remove(interval, id);
    } else {
        remove(node.side(goes_up(&way.bytes, common)), way, interval, id);
    }
    // A place without ranges stays only where ways part.
    if node.row.is_empty() && (node.below.is_none() || node.above.is_none()) {
        *slot = node.below.take().or(node.above.take());
    }
}

#[cfg(test)]
mod tests;
