//! Whether the server is well, in words for those who run it.
//!
//! It follows what the store says of itself, and adds nothing of its own: a server that answers at all has no other trouble that it could tell of.

use tokio::sync::watch;
use watchfire_storage::{Condition, State};

/// How the server stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It reads and writes.
    Ok,
    /// It reads and writes, but some stored bytes are damaged.
    Damaged,
    /// It reads, and refuses writes.
    ReadOnly,
    /// It refuses both.
    Unavailable,
}

impl Standing {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Ok => "ok",
            Standing::Damaged => "damaged",
            Standing::ReadOnly => "read-only",
            Standing::Unavailable => "unavailable",
        }
    }

    /// Whether reads are answered.
    pub fn reads(self) -> bool {
        match self {
            Standing::Ok | Standing::Damaged | Standing::ReadOnly => true,
            Standing::Unavailable => false,
        }
    }
}

/// Where to learn how the server stands. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Health {
    condition: watch::Receiver<Condition>,
}

impl Health {
    /// Of a server whose store tells its condition.
    pub fn new(condition: watch::Receiver<Condition>) -> Self {
        Self { condition }
    }

    /// Of a server whose store has no trouble to tell of, because it keeps nothing.
    pub fn untroubled() -> Self {
        let (_, condition) = watch::channel(Condition::up());
        Self { condition }
    }

    /// How the store stands.
    pub fn condition(&self) -> Condition {
        self.condition.borrow().clone()
    }

    /// How the server stands, and why if it is not well.
    pub fn standing(&self) -> (Standing, Option<String>) {
        standing(self.condition())
    }

    /// Returns at the next change; never where there is none to come.
    pub async fn changed(&mut self) {
        if self.condition.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn standing(condition: Condition) -> (Standing, Option<String>) {
    match (condition.state, condition.damage) {
        (State::Up, None) => (Standing::Ok, None),
        (State::Up, Some(damage)) => (Standing::Damaged, Some(damage)),
        (State::Refusing(reason), _) => (Standing::ReadOnly, Some(reason)),
        (State::Recovering(reason) | State::Failed(reason), _) => {
            (Standing::Unavailable, Some(reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_has_a_standing() {
        let reason = || "why".to_owned();
        let damage = || Some("table".to_owned());
        let check = |state, damage, expected, why: Option<&str>| {
            let condition = Condition {
                state,
                damage,
                ..Condition::up()
            };
            assert_eq!(standing(condition), (expected, why.map(str::to_owned)));
        };
        check(State::Up, None, Standing::Ok, None);
        check(State::Up, damage(), Standing::Damaged, Some("table"));
        check(
            State::Refusing(reason()),
            damage(),
            Standing::ReadOnly,
            Some("why"),
        );
        check(
            State::Recovering(reason()),
            None,
            Standing::Unavailable,
            Some("why"),
        );
        check(
            State::Failed(reason()),
            None,
            Standing::Unavailable,
            Some("why"),
        );
    }

    #[test]
    fn a_store_that_keeps_nothing_is_well() {
        assert_eq!(Health::untroubled().standing(), (Standing::Ok, None));
    }
}
