//! The order of values as a sorted table, and the equalities.

use super::*;
use crate::path::DocumentName;
use crate::time::Timestamp;
use crate::value::GeoPoint;

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn reference(text: &str) -> Value {
    Value::Reference(DocumentName::parse(text).unwrap())
}

fn map(pairs: &[(&str, i64)]) -> Value {
    Value::Map(
        pairs
            .iter()
            .map(|(name, number)| ((*name).to_owned(), Value::Integer(*number)))
            .collect(),
    )
}

fn place(latitude: f64, longitude: f64) -> Value {
    Value::GeoPoint(GeoPoint {
        latitude,
        longitude,
    })
}

/// Groups of equal values, ascending.
fn sorted() -> Vec<Vec<Value>> {
    use Value::{Array, Boolean, Bytes, Double, Integer, Null, Vector};
    let two_53 = 9_007_199_254_740_992;
    vec![
        vec![Null],
        vec![Boolean(false)],
        vec![Boolean(true)],
        vec![Double(f64::NAN), Double(-f64::NAN)],
        vec![Double(f64::NEG_INFINITY)],
        vec![Double(f64::MIN)],
        vec![Double(-9_223_372_036_854_777_856.0)],
        vec![Integer(i64::MIN), Double(-9_223_372_036_854_775_808.0)],
        vec![Integer(i64::MIN + 1)],
        vec![Double(-1.5)],
        vec![Integer(-1), Double(-1.0)],
        vec![Double(-f64::from_bits(1))],
        vec![Integer(0), Double(0.0), Double(-0.0)],
        vec![Double(f64::from_bits(1))],
        vec![Integer(1), Double(1.0)],
        vec![Double(1.5)],
        vec![Integer(2)],
        vec![Integer(two_53), Double(9_007_199_254_740_992.0)],
        vec![Integer(two_53 + 1)],
        vec![Integer(two_53 + 2), Double(9_007_199_254_740_994.0)],
        vec![Double(9_223_372_036_854_774_784.0)],
        vec![Integer(i64::MAX)],
        vec![Double(9_223_372_036_854_775_808.0)],
        vec![Double(f64::INFINITY)],
        vec![Value::Timestamp(Timestamp::MIN)],
        vec![Value::Timestamp(Timestamp::EPOCH)],
        vec![text("")],
        vec![text("\0")],
        vec![text("a")],
        vec![text("a\0")],
        vec![text("aa")],
        vec![text("\u{e000}")],
        vec![text("\u{ffff}")],
        vec![text("\u{10000}")],
        vec![Bytes(vec![])],
        vec![Bytes(vec![0])],
        vec![Bytes(vec![0, 0])],
        vec![Bytes(vec![1])],
        vec![Bytes(vec![255])],
        vec![reference("projects/p/databases/d/documents/c/__id1__")],
        vec![reference("projects/p/databases/d/documents/c/d")],
        vec![reference("projects/p/databases/d/documents/c/d/a/b")],
        vec![reference("projects/p/databases/e/documents/a/a")],
        vec![reference("projects/q/databases/a/documents/a/a")],
        vec![place(-1.0, 5.0)],
        vec![place(0.0, -1.0), place(-0.0, -1.0)],
        vec![place(0.0, 0.0)],
        vec![Array(vec![])],
        vec![Array(vec![Null])],
        vec![
            Array(vec![Integer(1), Integer(2)]),
            Array(vec![Double(1.0), Integer(2)]),
        ],
        vec![Array(vec![Integer(2)])],
        vec![Vector(vec![])],
        vec![Vector(vec![9.0])],
        vec![Vector(vec![1.0, 2.0])],
        vec![map(&[])],
        vec![map(&[("a", 1)])],
        vec![map(&[("a", 1), ("b", 0)])],
        vec![map(&[("a", 2)])],
        vec![map(&[("aa", 0)])],
        vec![map(&[("b", 0)])],
    ]
}

#[test]
fn the_table_is_sorted() {
    let groups = sorted();
    for (i, left) in groups.iter().enumerate() {
        for (j, right) in groups.iter().enumerate() {
            for a in left {
                for b in right {
                    assert_eq!(a.compare(b), i.cmp(&j), "{a:?} with {b:?}");
                    assert_eq!(a.equals(b), i == j);
                }
            }
        }
    }
}

#[test]
fn identity_is_finer_than_equality() {
    let check = |a: Value, b: Value, expected: bool| {
        assert_eq!(a.identical(&b), expected, "{a:?} {b:?}");
        assert_eq!(b.identical(&a), expected, "{a:?} {b:?}");
        assert!(a.identical(&a) && b.identical(&b));
        let inside = |value: Value| Value::Array(vec![value]);
        assert_eq!(inside(a).identical(&inside(b)), expected);
    };
    check(Value::Integer(3), Value::Double(3.0), false);
    check(Value::Double(0.0), Value::Double(-0.0), false);
    check(Value::Double(f64::NAN), Value::Double(-f64::NAN), true);
    check(place(0.0, 1.0), place(-0.0, 1.0), false);
    check(Value::Vector(vec![0.0]), Value::Vector(vec![-0.0]), false);
    check(map(&[("a", 1)]), map(&[("a", 1)]), true);
    check(map(&[("a", 1)]), map(&[("a", 1), ("b", 1)]), false);
    check(map(&[("a", 1)]), map(&[("b", 1)]), false);
    check(text("a"), text("a"), true);
    check(text("a"), Value::Bytes(b"a".to_vec()), false);
}
