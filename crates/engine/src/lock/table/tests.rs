//! The table by itself: known situations, and random ones after each of which nothing may stand still.

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;
use watchfire_model::{CollectionPath, Document, DocumentPath, Timestamp};

use super::*;
use crate::lock::asked::Missing;

const SECOND: Moment = Duration::from_secs(1);

fn path(text: &str) -> DocumentPath {
    DocumentPath::parse(text).unwrap()
}

fn age(number: u64) -> Age {
    Age::new(number)
}

/// Ids of documents in the collection `c`; `*` for all of the collection.
fn asked(names: &str) -> AskedSet {
    let one = |name| match name {
        '*' => Asked::Listing(CollectionPath::parse("c").unwrap(), Missing::Hidden),
        name => Asked::Document(path(&format!("c/{name}"))),
    };
    names.chars().map(one).collect()
}

fn changes(names: &str) -> Vec<Change> {
    let one = |name| {
        let path = path(&format!("c/{name}"));
        let time = Timestamp::from_micros(1).unwrap();
        Change {
            after: Some(Arc::new(Document {
                path: path.clone(),
                create_time: time,
                update_time: time,
                fields: Default::default(),
            })),
            before: None,
            path,
        }
    };
    names.chars().map(one).collect()
}

impl Table {
    fn read(&mut self, number: u64, names: &str) -> Answer {
        self.lock(age(number), Tenure::UntilEnd, asked(names), Moment::ZERO)
            .unwrap()
    }

    fn write(&mut self, number: u64, manner: Manner, names: &str) -> Judged {
        let changes = changes(names);
        self.commit(age(number), manner, &changes, LOCK_WAIT_MAX, Moment::ZERO)
            .unwrap()
    }

    fn finish(&mut self, number: u64) {
        self.end(age(number), Moment::ZERO);
    }

    fn told(&mut self) -> Vec<(u64, Ended)> {
        let ended = self.take_ended().into_iter();
        ended.map(|(id, ended)| (id.age.own, ended)).collect()
    }
}

fn waits(answer: Answer) -> bool {
    matches!(answer, Answer::Waits(_))
}

#[test]
fn the_oldest_goes_first() {
    let mut table = Table::default();
    assert_eq!(table.read(5, "a"), Answer::Granted);
    assert_eq!(table.read(5, "a"), Answer::Granted);
    assert!(waits(table.read(9, "a")) && waits(table.read(2, "a")) && waits(table.read(7, "a")));
    assert_eq!(table.read(8, "b"), Answer::Granted);
    table.finish(5);
    assert_eq!(table.told(), [(2, Ended::Granted)]);
    table.finish(2);
    assert_eq!(table.told(), [(7, Ended::Granted)]);
    table.finish(9);
    assert_eq!(table.told(), [(9, Ended::Gone)]);
    table.finish(7);
    table.finish(8);
    assert!(table.is_empty());
}

#[test]
fn all_or_nothing_is_locked() {
    let mut table = Table::default();
    table.read(1, "b");
    assert!(waits(table.read(2, "abc")));
    assert_eq!(table.len(), 1);
    // Younger ones do not pass by.
    assert!(waits(table.read(3, "c")));
    table.finish(1);
    assert_eq!(table.told(), [(2, Ended::Granted)]);
    table.finish(2);
    assert_eq!(table.told(), [(3, Ended::Granted)]);
}

#[test]
fn a_circle_loses_its_youngest() {
    let mut table = Table::default();
    table.read(1, "a");
    table.read(2, "b");
    table.read(3, "c");
    assert!(waits(table.read(1, "b")) && waits(table.read(2, "c")));
    assert!(waits(table.read(3, "a")));
    assert_eq!(table.told(), [(3, Ended::Wounded), (2, Ended::Granted)]);
    assert_eq!(table.standing(age(3)), Standing::Wounded);
    let again = table.lock(age(3), Tenure::UntilEnd, asked("x"), SECOND);
    assert_eq!(again, Err(Refused::Wounded));
}

#[test]
fn courtesy_makes_no_circle() {
    let mut table = Table::default();
    // 1 waits for what 2 holds, and for b; 2 may have b nevertheless, or neither would go on.
    table.read(2, "a");
    assert!(waits(table.read(1, "ab")));
    assert_eq!(table.read(2, "b"), Answer::Granted);
    table.finish(2);
    assert_eq!(table.told(), [(1, Ended::Granted)]);
}

#[test]
fn courtesy_ends_when_an_older_wait_joins_the_circle() {
    let mut table = Table::default();
    table.read(1, "*");
    table.read(6, "c");
    // 5 waits for 1 alone, so that 6 lets it go first.
    assert!(waits(table.read(5, "a*")));
    assert!(waits(table.read(6, "a")));
    // 5 lets 4 go first, and 4 waits for 6: that 6 waits for 5 would help nobody.
    assert!(waits(table.read(4, "ac*")));
    assert_eq!(table.told(), [(6, Ended::Granted)]);
}

#[test]
fn blind_commits_wait_for_their_turn_and_reserve_it() {
    let mut table = Table::default();
    assert_eq!(table.write(1, Manner::Blind, "a"), Judged::Goes);
    table.read(2, "a");
    table.read(3, "*");
    // Writes of what nobody has asked for go, one's own locks are in nobody's way.
    assert_eq!(table.write(3, Manner::Entitled, "b"), Judged::Goes);
    assert!(matches!(
        table.write(4, Manner::Blind, "a"),
        Judged::Waits(_)
    ));
    assert!(waits(table.read(5, "a")) && waits(table.read(6, "*")));
    table.finish(2);
    // Whoever is younger, or of any age once it is its turn, waits until it has gone.
    assert_eq!(table.told(), [(4, Ended::Granted)]);
    assert!(waits(table.read(0, "a")));
    assert_eq!(table.write(4, Manner::Blind, "a"), Judged::Goes);
    assert_eq!(table.told(), [(0, Ended::Granted), (6, Ended::Granted)]);
}

#[test]
fn the_entitled_take_locks_from_the_younger_only() {
    let mut table = Table::default();
    table.read(2, "a");
    table.read(4, "b");
    assert!(matches!(
        table.write(3, Manner::Entitled, "ab"),
        Judged::Waits(_)
    ));
    assert!(matches!(
        table.write(1, Manner::Blind, "ab"),
        Judged::Waits(_)
    ));
    assert!(matches!(
        table.write(0, Manner::Hasty, "ab"),
        Judged::Waits(_)
    ));
    assert_eq!(table.told(), []);
    assert_eq!(table.write(1, Manner::Entitled, "ab"), Judged::Goes);
    assert_eq!(table.standing(age(2)), Standing::Wounded);
    assert_eq!(table.standing(age(4)), Standing::Wounded);
    let told = table.told();
    assert!(told.contains(&(3, Ended::Granted)) && told.contains(&(0, Ended::Granted)));
}

#[test]
fn the_hasty_hear_as_soon_as_what_was_in_their_way_has_ended() {
    let mut table = Table::default();
    table.read(1, "a");
    assert!(waits(table.read(2, "a")));
    assert!(matches!(
        table.write(3, Manner::Hasty, "a"),
        Judged::Waits(_)
    ));
    assert!(matches!(
        table.write(4, Manner::Blind, "a"),
        Judged::Waits(_)
    ));
    table.finish(1);
    let told = table.told();
    assert!(told.contains(&(2, Ended::Granted)) && told.contains(&(3, Ended::Granted)));
    assert_eq!(told.len(), 2);
}

#[test]
fn leases_are_taken_by_whoever_waits_and_wound_nobody() {
    let mut table = Table::default();
    let lease = |table: &mut Table, number, names, now| {
        table.lock(age(number), Tenure::Leased, asked(names), now)
    };
    assert_eq!(lease(&mut table, 1, "a", Moment::ZERO), Ok(Answer::Granted));
    assert_eq!(lease(&mut table, 1, "b", 4 * SECOND), Ok(Answer::Granted));
    table.tick(100 * SECOND);
    assert_eq!(table.len(), 2);
    assert!(waits(lease(&mut table, 2, "b", 100 * SECOND).unwrap()));
    table.tick(100 * SECOND);
    assert_eq!(table.told(), [(2, Ended::Granted)]);
    assert_eq!(table.standing(age(1)), Standing::Plain);
    assert_eq!(lease(&mut table, 1, "c", 100 * SECOND), Err(Refused::Plain));
    // Its commit is one like any other now.
    assert!(matches!(
        table.write(1, Manner::Entitled, "b"),
        Judged::Waits(_)
    ));
    assert_eq!(table.standing(age(2)), Standing::Whole);
}

#[test]
fn waits_end_in_time_and_are_bounded() {
    let mut table = Table::default();
    table.read(1, "a");
    for number in 0..LOCK_WAITS_MAX as u64 {
        assert!(waits(table.read(2 + number, "a")));
    }
    let refused = table.lock(age(9_999), Tenure::UntilEnd, asked("a"), SECOND);
    assert_eq!(refused, Err(Refused::TooManyWaits));
    table.tick(LOCK_WAIT_MAX);
    let told = table.told();
    assert_eq!(told.len(), LOCK_WAITS_MAX);
    assert!(told.iter().all(|(_, ended)| *ended == Ended::TimedOut));
    table.finish(1);
    assert!(table.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Lock(u64, bool, String),
    Commit(u64, Manner, String),
    End(u64),
    Withdraw(usize),
    Pass(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let who = 0..8_u64;
    prop_oneof![
        6 => (who.clone(), any::<bool>(), "[abcd*]{1,3}").prop_map(|(who, leased, names)| Step::Lock(who, leased, names)),
        3 => (who.clone(), any_manner(), "[abcd]{1,2}").prop_map(|(who, manner, names)| Step::Commit(who, manner, names)),
        1 => who.prop_map(Step::End),
        1 => (0..10_usize).prop_map(Step::Withdraw),
        1 => (0..8_u64).prop_map(Step::Pass),
    ]
}

fn any_manner() -> impl Strategy<Value = Manner> {
    prop::sample::select(vec![Manner::Blind, Manner::Hasty, Manner::Entitled])
}

/// The table with what was promised to those who use it.
#[derive(Default)]
struct World {
    table: Table,
    now: Moment,
    /// The waits that were begun and of which nothing was heard.
    waiting: BTreeSet<WaitId>,
    /// Commits that wait or whose turn it is, by their transaction.
    commits: BTreeMap<Age, (WaitId, Manner, String)>,
    /// The attempt that each client makes.
    attempts: HashMap<u64, (Age, bool)>,
    next: u64,
}

impl World {
    /// The age of the client's transaction, and whether its locks are a lease.
    fn attempt(&mut self, who: u64, leased: bool) -> (Age, bool) {
        let next = &mut self.next;
        *self.attempts.entry(who).or_insert_with(|| {
            *next += 1;
            (age(*next), leased)
        })
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Lock(who, leased, names) => {
                let (age, leased) = self.attempt(who, leased);
                if self.commits.contains_key(&age) {
                    return;
                }
                let tenure = if leased {
                    Tenure::Leased
                } else {
                    Tenure::UntilEnd
                };
                match self.table.lock(age, tenure, asked(&names), self.now) {
                    Ok(Answer::Waits(id)) => drop(self.waiting.insert(id)),
                    Ok(Answer::Granted) | Err(Refused::Plain | Refused::Wounded) => {}
                    Err(refused) => panic!("{refused:?}"),
                }
            }
            Step::Commit(who, manner, names) => {
                let (age, _) = self.attempt(who, false);
                if !self.commits.contains_key(&age) {
                    self.commit(age, manner, names);
                }
            }
            Step::End(who) => {
                if let Some((age, _)) = self.attempts.remove(&who) {
                    self.table.end(age, self.now);
                    self.commits.remove(&age);
                }
            }
            Step::Withdraw(at) => {
                if let Some(id) = self.waiting.iter().nth(at).copied() {
                    self.waiting.remove(&id);
                    self.table.withdraw(id, self.now);
                    if self.is_commit(id) {
                        self.over(id.age);
                    }
                }
            }
            Step::Pass(seconds) => {
                self.now += SECOND * u32::try_from(seconds).unwrap();
                self.table.tick(self.now);
            }
        }
        self.listen();
        self.check();
    }

    fn commit(&mut self, age: Age, manner: Manner, names: String) {
        let until = self.now + LOCK_WAIT_MAX;
        let in_the_way = self.table.holders_touched(age, &changes(&names));
        let judged = self
            .table
            .commit(age, manner, &changes(&names), until, self.now);
        match judged {
            Ok(Judged::Waits(id)) => {
                self.waiting.insert(id);
                self.commits.insert(age, (id, manner, names));
            }
            Ok(Judged::Goes) => {
                let younger = in_the_way.iter().all(|other| *other > age);
                assert!(in_the_way.is_empty() || (manner == Manner::Entitled && younger));
                self.over(age);
            }
            Err(Refused::Wounded) => self.over(age),
            Err(refused) => panic!("{refused:?}"),
        }
    }

    /// As the drop of a claim.
    fn over(&mut self, age: Age) {
        self.table.end(age, self.now);
        self.commits.remove(&age);
        self.attempts.retain(|_, (other, _)| *other != age);
    }

    /// Each wait ends once, and the older before the younger.
    fn listen(&mut self) {
        let mut told = VecDeque::from(self.table.take_ended());
        while let Some((id, ended)) = told.pop_front() {
            let known = self.waiting.remove(&id) || self.is_commit(id) || ended == Ended::Gone;
            assert!(known, "{id:?} {ended:?}");
            if ended != Ended::Granted && self.is_commit(id) {
                self.over(id.age);
            }
            told.extend(self.table.take_ended());
        }
    }

    fn is_commit(&self, id: WaitId) -> bool {
        self.commits
            .get(&id.age)
            .is_some_and(|commit| commit.0 == id)
    }

    fn check(&self) {
        let table = &self.table;
        let mut held = 0;
        for (age, owner) in &table.owners {
            held += owner.locks.len();
            for asked in &owner.locks {
                assert_eq!(table.holders.get(asked), Some(age));
            }
            assert!(owner.standing == Standing::Whole || owner.locks.is_empty());
        }
        assert_eq!(held, table.holders.len());
        let wide = table.wide.values().map(Vec::len).sum::<usize>();
        assert_eq!(wide, table.wide_len);
        assert_eq!(table.circle(), None);
        for (id, wait) in &table.waits {
            assert!(!table.may_go(*id, &wait.what), "{id:?} could go: {table:?}");
            if !matches!(wait.what, What::Turn(_)) {
                assert!(self.waiting.contains(id), "{id:?} was forgotten");
            }
        }
    }

    /// Everybody who can do something does it, until nobody is left: nobody waits in vain, however long.
    fn drain(mut self) {
        while !self.table.is_empty() {
            // A commit whose turn it is goes, whatever reads of its transaction still wait.
            let can_go = |owner: &Owner| {
                let mut waits = owner.waits.iter();
                owner.waits.is_empty()
                    || waits.any(|id| matches!(self.table.waits[id].what, What::Turn(_)))
            };
            let owners = &self.table.owners;
            let mut runs: Vec<Age> = owners
                .iter()
                .filter(|(_, owner)| can_go(owner))
                .map(|(age, _)| *age)
                .collect();
            runs.sort_unstable();
            let age = *runs.first().expect("everybody waits");
            match self.commits.get(&age).cloned() {
                Some((_, manner, names)) => self.commit(age, manner, names),
                None => self.over(age),
            }
            self.listen();
            self.check();
        }
        assert!(self.waiting.is_empty() && self.table.readers.is_empty());
        assert!(self.table.wide.is_empty() && self.table.commits.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nobody_waits_in_vain(steps in proptest::collection::vec(any_step(), 1..60)) {
        let mut world = World::default();
        for step in steps {
            world.step(step);
        }
        world.drain();
    }

    #[test]
    fn one_lock_is_granted_by_age(mut numbers in Just((1..20_u64).collect::<Vec<_>>()).prop_shuffle()) {
        let mut table = Table::default();
        table.read(0, "a");
        for number in &numbers {
            assert!(waits(table.read(*number, "a")));
        }
        numbers.sort_unstable();
        let mut last = 0;
        for number in numbers {
            table.finish(last);
            assert_eq!(table.told(), [(number, Ended::Granted)]);
            last = number;
        }
    }
}
/// As many waits as there may be, half of them commits. Everybody else stands still while the table thinks.
#[test]
fn a_full_table_still_answers_soon() {
    let began = std::time::Instant::now();
    let mut table = Table::default();
    assert_eq!(table.read(1, "a"), Answer::Granted);
    for number in (2..LOCK_WAITS_MAX as u64).step_by(2) {
        assert!(waits(table.read(number, "a")));
        let judged = table.write(number + 1, Manner::Blind, "a");
        assert!(matches!(judged, Judged::Waits(_)));
    }
    for number in 1..20 {
        table.finish(number);
        let told = table.told();
        assert!(told.contains(&(number + 1, Ended::Granted)), "{told:?}");
    }
    // Two seconds, and minutes if each wait looks at each other one.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
}
