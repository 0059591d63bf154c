//! The same seed is the same run, step by step; and these few runs break no law.

use watchfire_sim::oracle::judge;
use watchfire_sim::world::{Bounds, run};

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in 0..6 {
        let bounds = Bounds {
            operations: Some(120),
            trace: false,
        };
        let (one, other) = (run(seed, bounds), run(seed, bounds));
        assert_eq!(one.hash, other.hash, "seed {seed}");
        assert!(one.history.operations.len() > 60, "seed {seed}");
        let violations = [one.violations, judge(&one.history)].concat();
        assert!(violations.is_empty(), "seed {seed}: {violations:?}");
    }
}

#[test]
fn fewer_operations_are_the_beginning_of_more() {
    let made = [80, 120].map(|operations| {
        let bounds = Bounds {
            operations: Some(operations),
            trace: true,
        };
        run(3, bounds).lines
    });
    let [few, many] = &made;
    let same = few.iter().zip(many).take_while(|(one, other)| one == other);
    assert!(same.count() > 200, "they part too early");
}
