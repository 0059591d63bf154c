//! The total order of values, and the equalities that are built on it.

use std::cmp::Ordering;

use crate::Value;

impl Value {
    /// The total order (map section 2.4): type rank, then the rule of the type.
    pub fn compare(&self, other: &Value) -> Ordering {
        let _ = other;
        unimplemented!()
    }
    /// Equal in the total order: 3 == 3.0, 0 == −0, NaN == NaN, null == null.
    pub fn equals(&self, other: &Value) -> bool {
        self.compare(other) == Ordering::Equal
    }
    /// The same bytes: type and value, −0 differs from 0, 3 differs from 3.0. Decides whether a write changes anything.
    pub fn identical(&self, other: &Value) -> bool {
        let _ = other;
        unimplemented!()
    }
    /// 0-based rank of the type in the total order; integers and doubles share one.
    pub fn type_rank(&self) -> u8 {
        unimplemented!()
    }
}
