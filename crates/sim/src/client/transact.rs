//! Transactions: attempts as the SDKs make them, and what is done in them.
//!
//! An attempt begins with a call of its own or with its first read, reads, and then commits or is rolled back. What
//! failed in a way that may pass is tried again, five times at most, as another attempt of the one before. Some
//! attempts are abandoned: their client never speaks of them again.

use std::sync::Arc;
use std::time::Duration;

use watchfire_engine::{TransactionId, TransactionOptions, Version};
use watchfire_model::{
    Direction, Document, DocumentPath, Fields, Precondition, Query, Timestamp, Value, Write,
};
use watchfire_server::databases::Database;
use watchfire_server::service::commit;
use watchfire_server::service::read::Consistency;

use super::read::{any_question, ask};
use super::write::{delete, increment, set, update};
use super::{Client, outcome};
use crate::data;
use crate::history::{
    Answer, Asked, Begun, ClientId, Found, Moment, OperationKind, ReadAt, Refusal,
    TransactionNumber, TransactionReads,
};
use crate::network::Failed;

/// Attempts of one transaction, as the SDKs have it.
const ATTEMPTS_MAX: u64 = 5;

/// What a transaction is for.
#[derive(Clone, Debug)]
enum Errand {
    /// Moves money between two accounts that are read by name.
    Transfer(DocumentPath, DocumentPath, i64),
    /// Moves money from the richest account to the poorest, as queries find them.
    Level,
    /// Gives a name to a user, unless somebody has it; else takes it away.
    Register(String, DocumentPath),
    /// Reads a counter and writes it plus one.
    Count(DocumentPath),
    /// Writes down how many entries a list has, as a query finds them, and adds one.
    Append(Arc<Query>, DocumentPath),
    /// Reads this and that and writes something of it.
    Wander,
    /// Only reads; the sum of all accounts is always the same.
    Audit(Option<(Version, Timestamp)>),
}

/// What was read and may be written.
struct Plan {
    writes: Vec<Write>,
}

/// One attempt.
struct Attempt {
    number: TransactionNumber,
    id: Option<TransactionId>,
    options: TransactionOptions,
    /// When it reads in the past.
    past: Option<Version>,
    begun: Moment,
    reads: Vec<(Asked, Answer)>,
}

impl Client {
    /// Does something in a transaction.
    pub(super) async fn transact(&mut self) {
        let errand = self.any_errand();
        let mut retry: Option<(TransactionNumber, TransactionId)> = None;
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                // The SDKs wait a second and more; the world is faster.
                let most = 10 << (2 * attempt);
                let pause = Duration::from_millis(self.chance.below(most));
                self.shared.timers.sleep(pause).await;
            }
            let mut attempt = match self.begin(&errand, retry.clone()).await {
                Ok(attempt) => attempt,
                Err(failed) if passes(&failed) => continue,
                Err(_) => return,
            };
            let done = self.attempt(&errand, &mut attempt).await;
            match done {
                Ok(()) => return,
                Err(failed) if passes(&failed) => {
                    if let Some(id) = attempt.id {
                        retry = Some((attempt.number, id));
                    }
                }
                Err(_) => return,
            }
        }
    }

    fn any_errand(&mut self) -> Errand {
        let chance = &mut self.chance;
        match chance.weighted(&[25, 10, 20, 15, 12, 18, 15]) {
            0 => {
                let amount = i64::try_from(chance.within(1, 30)).unwrap_or(1);
                Errand::Transfer(data::any_account(chance), data::any_account(chance), amount)
            }
            1 => Errand::Level,
            2 => Errand::Register(data::any_name(chance), data::any_user(chance)),
            3 => Errand::Count(data::any_counter(chance)),
            4 => Errand::Append(data::any_query(chance), data::any_item(chance)),
            5 => Errand::Wander,
            _ => {
                let past = self.chance.happens(200).then(|| self.past()).flatten();
                Errand::Audit(past)
            }
        }
    }

    /// Everything between the begin and the end of one attempt.
    async fn attempt(&mut self, errand: &Errand, attempt: &mut Attempt) -> Result<(), Failed> {
        let planned = self.carry_out(errand, attempt).await;
        if self.chance.happens(20) {
            // The client has forgotten it, or died.
            return Ok(());
        }
        match planned {
            Ok(plan) if self.chance.happens(960) => self.commit_attempt(attempt, plan.writes).await,
            Ok(_) => {
                self.roll_back(attempt).await;
                Ok(())
            }
            Err(failed) => {
                self.roll_back(attempt).await;
                Err(failed)
            }
        }
    }

    async fn carry_out(&mut self, errand: &Errand, attempt: &mut Attempt) -> Result<Plan, Failed> {
        let mut writes = Vec::new();
        match errand {
            Errand::Transfer(from, to, amount) => {
                let together = self.chance.happens(500);
                let (one, other) = if together && from != to {
                    let found = self.get(attempt, vec![from.clone(), to.clone()]).await?;
                    let mut found = found.into_iter();
                    (found.next().flatten(), found.next().flatten())
                } else {
                    let one = self.get_one(attempt, from).await?;
                    (one, self.get_one(attempt, to).await?)
                };
                let (one, other) = (
                    data::number(one.as_ref(), "balance"),
                    data::number(other.as_ref(), "balance"),
                );
                if one >= *amount && from != to {
                    writes.push(balance(from, one - amount));
                    writes.push(balance(to, other + amount));
                }
            }
            Errand::Level => {
                let richest = data::accounts_with(0, Direction::Descending, Some(1));
                let poorest = data::accounts_with(0, Direction::Ascending, Some(1));
                let rich = self.query(attempt, richest).await?.into_iter().next();
                let poor = self.query(attempt, poorest).await?.into_iter().next();
                if let (Some(rich), Some(poor)) = (rich, poor)
                    && rich.path != poor.path
                {
                    let (most, least) = (
                        data::number(Some(&rich), "balance"),
                        data::number(Some(&poor), "balance"),
                    );
                    let moved = (most - least) / 2;
                    writes.push(balance(&rich.path, most - moved));
                    writes.push(balance(&poor.path, least + moved));
                }
            }
            Errand::Register(name, user) => {
                let found = self.query(attempt, data::users_named(name)).await?;
                match found.first() {
                    None => {
                        let name = Value::String(name.clone());
                        writes.push(set(user.clone(), Fields::from([("name".to_owned(), name)])));
                    }
                    Some(holder) => writes.push(delete(holder.path.clone())),
                }
            }
            Errand::Count(counter) => {
                let found = self.get_one(attempt, counter).await?;
                let count = data::number(found.as_ref(), "n") + 1;
                let fields = Fields::from([("n".to_owned(), Value::Integer(count))]);
                writes.push(set(counter.clone(), fields));
            }
            Errand::Append(query, item) => {
                let found = self.query(attempt, query.clone()).await?;
                let mut fields = data::item_fields(&mut self.chance);
                fields.insert("found".to_owned(), data::integer(found.len() as u64));
                writes.push(set(item.clone(), fields));
            }
            Errand::Wander => {
                for _ in 0..self.chance.within(1, 4) {
                    let asked = any_question(&mut self.chance);
                    self.read_in(attempt, asked).await?;
                }
                for _ in 0..self.chance.below(3) {
                    let path = data::any_miscellaneous(&mut self.chance);
                    writes.push(match self.chance.below(4) {
                        0 => delete(data::any_item(&mut self.chance)),
                        1 => increment(data::any_counter(&mut self.chance), 1),
                        2 => update(path, "v", data::any_value(&mut self.chance)),
                        _ => Write {
                            precondition: Precondition::Exists(self.chance.happens(500)),
                            ..set(path, Fields::new())
                        },
                    });
                }
            }
            Errand::Audit(_) => {
                let query = data::all_accounts();
                let accounts = self.query(attempt, query).await?;
                let sum: i64 = accounts
                    .iter()
                    .map(|account| data::number(Some(account), "balance"))
                    .sum();
                let expected = data::BALANCE * i64::try_from(data::ACCOUNTS).unwrap_or(0);
                // Before the accounts were made there is nothing.
                if sum != expected && !accounts.is_empty() {
                    self.shared.recorder.violation(
                        "money is kept",
                        format!("{:?} sees {sum}, expected {expected}", attempt.number),
                    );
                }
                if self.chance.happens(500) {
                    let asked = any_question(&mut self.chance);
                    self.read_in(attempt, asked).await?;
                }
            }
        }
        if self.chance.happens(100) {
            let pause = self.chance.within(50, 500);
            self.shared.timers.sleep(Duration::from_millis(pause)).await;
        }
        Ok(Plan { writes })
    }

    async fn begin(
        &mut self,
        errand: &Errand,
        retry: Option<(TransactionNumber, TransactionId)>,
    ) -> Result<Attempt, Failed> {
        let shared = self.shared.clone();
        let number = shared.recorder.new_transaction();
        let (retried, id) = match retry {
            Some((number, id)) => (Some(number), Some(id)),
            None => (None, None),
        };
        let (options, begun) = match errand {
            Errand::Audit(past) => (
                TransactionOptions::ReadOnly {
                    read_time: past.map(|(_, time)| time),
                },
                Begun::ReadOnly {
                    read_time: past.map(|(version, _)| version),
                },
            ),
            _ => (
                TransactionOptions::ReadWrite {
                    retry: id,
                    mode: self.mode,
                },
                Begun::ReadWrite {
                    retry: retried,
                    mode: self.mode,
                },
            ),
        };
        let started = shared.recorder.moment();
        let mut attempt = Attempt {
            number,
            id: None,
            options: options.clone(),
            past: match errand {
                Errand::Audit(past) => past.map(|(version, _)| version),
                _ => None,
            },
            begun: started,
            reads: Vec::new(),
        };
        if self.chance.happens(400) {
            // The first read begins it.
            return Ok(attempt);
        }
        let work =
            move |database: Arc<Database>| async move { commit::begin(&database, options).await };
        let id = shared.network.call(work).await;
        let kind = OperationKind::Begin {
            transaction: number,
            options: begun,
            outcome: outcome(&id.as_ref().map(|_| ()).map_err(Failed::clone)),
        };
        shared.recorder.operation(self.id, started, kind);
        attempt.id = Some(id?);
        Ok(attempt)
    }

    async fn get(
        &mut self,
        attempt: &mut Attempt,
        paths: Vec<DocumentPath>,
    ) -> Result<Vec<Option<Arc<Document>>>, Failed> {
        match self.read_in(attempt, Asked::Documents(paths)).await? {
            Found::Documents(documents) => Ok(documents),
            Found::Query(_) | Found::Aggregate(_) => Ok(Vec::new()),
        }
    }

    async fn get_one(
        &mut self,
        attempt: &mut Attempt,
        path: &DocumentPath,
    ) -> Result<Option<Arc<Document>>, Failed> {
        let found = self.get(attempt, vec![path.clone()]).await?;
        Ok(found.into_iter().next().flatten())
    }

    async fn query(
        &mut self,
        attempt: &mut Attempt,
        query: Arc<Query>,
    ) -> Result<Vec<Arc<Document>>, Failed> {
        match self.read_in(attempt, Asked::Query(query)).await? {
            Found::Query(documents) => Ok(documents),
            Found::Documents(_) | Found::Aggregate(_) => Ok(Vec::new()),
        }
    }

    async fn read_in(&mut self, attempt: &mut Attempt, asked: Asked) -> Result<Found, Failed> {
        let shared = self.shared.clone();
        let consistency = match &attempt.id {
            Some(id) => Consistency::Transaction(id.clone()),
            None => Consistency::Begin(attempt.options.clone()),
        };
        let started = shared.recorder.moment();
        let answered = ask(&shared.network, asked.clone(), consistency).await;
        if let Ok((_, Some(begun))) = &answered {
            attempt.id = Some(begun.clone());
        }
        let answered = answered.map(|(answer, _)| answer);
        let kind = OperationKind::Read {
            transaction: Some(attempt.number),
            at: attempt.past.map_or(ReadAt::Latest, ReadAt::Past),
            asked: asked.clone(),
            outcome: outcome(&answered),
        };
        shared.recorder.operation(self.id, started, kind);
        let answer = answered?;
        shared.saw(answer.read_time);
        let found = answer.found.clone();
        attempt.reads.push((asked, answer));
        Ok(found)
    }

    async fn commit_attempt(
        &mut self,
        attempt: &mut Attempt,
        mut writes: Vec<Write>,
    ) -> Result<(), Failed> {
        let shared = self.shared.clone();
        if !writes.is_empty() {
            // What is stored says whose it is, also when the client never hears of it.
            writes.push(mark(self.id, attempt.number));
        }
        let Some(id) = attempt.id.clone() else {
            // Nothing was read, so nothing was begun.
            return self.commit(writes).await.map(drop);
        };
        let started = shared.recorder.moment();
        let committed = self.send(writes.clone(), Some(id)).await;
        let kind = OperationKind::Commit {
            writes,
            // One that has read the past stands nowhere: it is a commit of nothing.
            transaction: attempt.past.is_none().then(|| TransactionReads {
                number: attempt.number,
                mode: self.mode,
                begun: attempt.begun,
                reads: std::mem::take(&mut attempt.reads),
            }),
            outcome: outcome(&committed),
        };
        shared.recorder.operation(self.id, started, kind);
        committed.map(drop)
    }

    async fn roll_back(&mut self, attempt: &Attempt) {
        let Some(id) = attempt.id.clone() else {
            return;
        };
        let shared = self.shared.clone();
        let started = shared.recorder.moment();
        let work = move |database: Arc<Database>| async move {
            database.engine.rollback(&id);
            Ok(())
        };
        let done = shared.network.call(work).await;
        let kind = OperationKind::Rollback {
            transaction: attempt.number,
            outcome: outcome(&done),
        };
        shared.recorder.operation(self.id, started, kind);
    }
}

/// Whether the SDKs try again.
fn passes(failed: &Failed) -> bool {
    match failed {
        Failed::Unknown(_) => true,
        Failed::Refused(refusal) => match refusal {
            Refusal::Aborted | Refusal::TransactionGone => true,
            Refusal::AlreadyExists
            | Refusal::NotFound
            | Refusal::VersionMismatch
            | Refusal::FailedPrecondition(_)
            | Refusal::Other(_) => false,
        },
    }
}

/// A write that no other attempt makes, to a document that nobody else writes.
fn mark(client: ClientId, number: TransactionNumber) -> Write {
    let fields = Fields::from([("by".to_owned(), data::integer(number.0))]);
    set(data::path(&format!("marks/{}", client.0)), fields)
}

fn balance(path: &DocumentPath, balance: i64) -> Write {
    set(
        path.clone(),
        Fields::from([("balance".to_owned(), Value::Integer(balance))]),
    )
}
