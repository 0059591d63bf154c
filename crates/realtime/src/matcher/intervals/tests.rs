//! The tree finds what a look at every range finds, and nothing is left of it in the end.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Keys as values have them, none of which begins another: few letters, then an end.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let letter = prop::sample::select(vec![1_u8, 2, 0x7f, 0x80, 0xff]);
    let len = prop_oneof![4 => 0..5_usize, 1 => KEY_BYTES_MAX - 2..KEY_BYTES_MAX + 3];
    len.prop_flat_map(move |len| vec(letter.clone(), len))
        .prop_map(|mut key| {
            key.push(0);
            key
        })
}

/// A key, or its beginning, as the tag of a type is one.
fn end() -> impl Strategy<Value = Vec<u8>> {
    (key(), prop::option::weighted(0.3, 0..3_usize)).prop_map(|(mut key, cut)| {
        if let Some(len) = cut {
            key.truncate(len);
        }
        key
    })
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<u8>, Vec<u8>),
    Remove(prop::sample::Index),
    Find(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (end(), end()).prop_map(|(low, high)| Step::Insert(low, high)),
        2 => any::<prop::sample::Index>().prop_map(Step::Remove),
        3 => key().prop_map(Step::Find),
    ]
}

/// By the words of the definition: an end takes in what begins with it.
fn holds(low: &[u8], high: &[u8], key: &[u8]) -> bool {
    let (low, high, key) = (cut(low), cut(high), cut(key));
    low <= key && (key <= high || key.starts_with(high))
}

fn places(slot: Option<&Node>) -> usize {
    slot.map_or(0, |node| {
        assert!(!node.row.is_empty() || node.below.is_some() && node.above.is_some());
        1 + places(node.below.as_deref()) + places(node.above.as_deref())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn finds_what_a_look_at_all_finds(steps in vec(step(), 1..80)) {
        let mut tree = Intervals::default();
        let mut all: BTreeMap<u64, (Vec<u8>, Vec<u8>)> = BTreeMap::new();
        for (id, step) in (1..).zip(steps) {
            match step {
                Step::Insert(low, high) => {
                    let interval = Interval::between(&low, &high);
                    if interval.is_empty() {
                        prop_assert!(!holds(&low, &high, &low));
                        continue;
                    }
                    tree.insert(interval, SharedId(id));
                    all.insert(id, (low, high));
                }
                Step::Remove(index) => {
                    if all.is_empty() {
                        continue;
                    }
                    let id = *index.get(&all.keys().copied().collect::<Vec<_>>());
                    let (low, high) = all.remove(&id).unwrap();
                    // Somebody else's range and id are left alone.
                    tree.remove(Interval::between(&low, &high), SharedId(u64::MAX));
                    tree.remove(Interval::between(&low, &high), SharedId(id));
                }
                Step::Find(key) => {
                    let mut found: Vec<u64> = tree.hits(&Point::new(&key)).map(|id| id.0).collect();
                    found.sort_unstable();
                    let expected: Vec<u64> = all
                        .iter()
                        .filter(|(_, (low, high))| holds(low, high, &key))
                        .map(|(id, _)| *id)
                        .collect();
                    prop_assert_eq!(found, expected);
                }
            }
            prop_assert!(places(tree.root.as_deref()) <= 2 * all.len());
        }
        for (id, (low, high)) in all {
            tree.remove(Interval::between(&low, &high), SharedId(id));
        }
        prop_assert!(tree.is_empty());
    }
}

#[test]
fn bounds_that_meet_later_and_later_are_no_deeper_than_keys_are_long() {
    let mut tree = Intervals::default();
    let ends: Vec<Vec<u8>> = (0..8 * KEY_BYTES_MAX)
        .map(|bit| {
            let mut low = vec![0_u8; KEY_BYTES_MAX];
            low[bit / 8] = 0x80 >> (bit % 8);
            low
        })
        .collect();
    for (id, high) in (1..).map(SharedId).zip(&ends) {
        tree.insert(Interval::between(&[0; KEY_BYTES_MAX], high), id);
    }
    let zeros = Point::new(&[0; KEY_BYTES_MAX]);
    assert_eq!(tree.hits(&zeros).count(), ends.len());
    for (id, high) in (1..).map(SharedId).zip(&ends) {
        tree.remove(Interval::between(&[0; KEY_BYTES_MAX], high), id);
    }
    assert!(tree.is_empty());
}
