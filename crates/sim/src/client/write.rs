//! Writes without a transaction, and changes of the indexes.

use std::sync::Arc;

use watchfire_engine::definition::{Definition, IndexField, Mode, Scope};
use watchfire_engine::index::catalog::{FieldIndex, FieldKey};
use watchfire_engine::{TransactionId, Version};
use watchfire_model::{
    FieldMask, Fields, Operation, Precondition, Timestamp, Transform, TransformKind, Value, Write,
};
use watchfire_server::databases::Database;
use watchfire_server::service::{commit, indexes};

use super::{Client, outcome};
use crate::chance::Chance;
use crate::data;
use crate::history::{OperationKind, Receipt};
use crate::network::Failed;

/// How often a write that may have been lost is sent again, when sending it again does no harm.
const ATTEMPTS_MAX: u64 = 3;

impl Client {
    /// Commits something without a transaction.
    pub(super) async fn write(&mut self) {
        if self.chance.happens(100) {
            return self.write_batch().await;
        }
        let mut writes = vec![self.any_write()];
        while self.chance.happens(250) && writes.len() < 5 {
            writes.push(self.any_write());
        }
        // As the SDKs: what only sets is sent again.
        let again = writes.iter().all(|write| {
            write.transforms.is_empty() && matches!(write.precondition, Precondition::None)
        });
        for _ in 0..ATTEMPTS_MAX {
            let committed = self.commit(writes.clone()).await;
            match committed {
                Err(Failed::Unknown(_)) if again => self.shared.network.delay().await,
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Sends a commit once, and takes note of its version. Whoever calls this records it.
    pub(super) async fn send(
        &self,
        writes: Vec<Write>,
        transaction: Option<TransactionId>,
    ) -> Result<Receipt, Failed> {
        let work = move |database: Arc<Database>| async move {
            let receipt = commit::commit(&database, writes, transaction).await?;
            Ok((receipt.version, receipt.outcomes))
        };
        let (version, outcomes) = self.shared.network.call(work).await?;
        self.shared.saw(version);
        Ok(Receipt {
            version: Some(version),
            outcomes,
        })
    }

    /// Commits writes once.
    pub async fn commit(&mut self, writes: Vec<Write>) -> Result<Receipt, Failed> {
        let shared = self.shared.clone();
        let started = shared.recorder.moment();
        let committed = self.send(writes.clone(), None).await;
        let kind = OperationKind::Commit {
            writes,
            transaction: None,
            outcome: outcome(&committed),
        };
        shared.recorder.operation(self.id, started, kind);
        committed
    }

    /// Several writes, each for itself.
    async fn write_batch(&mut self) {
        let mut writes: Vec<Write> = (0..self.chance.within(2, 6))
            .map(|_| self.any_write())
            .collect();
        writes.sort_by(|one, other| one.path.cmp(&other.path));
        writes.dedup_by(|one, other| one.path == other.path);
        let shared = self.shared.clone();
        let started = shared.recorder.moment();
        let sent = writes.clone();
        let work = move |database: Arc<Database>| async move {
            let done = commit::batch(&database, sent).await?;
            // An error of one is the answer for that one.
            let done = done.into_iter().map(|one| {
                one.map(|outcome| Receipt {
                    version: None,
                    outcomes: vec![outcome],
                })
                .map_err(crate::network::failed)
            });
            Ok(done.collect::<Vec<Result<Receipt, Failed>>>())
        };
        let done = shared.network.call(work).await;
        for (at, write) in writes.into_iter().enumerate() {
            let committed = match &done {
                Ok(each) => each
                    .get(at)
                    .cloned()
                    .unwrap_or_else(|| Err(Failed::Unknown("the answer is too short".to_owned()))),
                Err(failed) => Err(failed.clone()),
            };
            let kind = OperationKind::Commit {
                writes: vec![write],
                transaction: None,
                outcome: outcome(&committed),
            };
            shared.recorder.operation(self.id, started, kind);
        }
    }

    fn any_write(&mut self) -> Write {
        let seen = self.shared.versions.borrow().last().copied();
        any_write(&mut self.chance, seen)
    }

    /// Changes the indexes. Nothing that is asked may be answered differently for it.
    pub(super) async fn alter(&mut self) {
        let shared = self.shared.clone();
        let started = shared.recorder.moment();
        let choice = self.chance.below(4);
        let what = format!("index change {choice}");
        let work = move |database: Arc<Database>| async move {
            match choice {
                0 => match database.engine.create_index(done_and_rank()).await {
                    Ok(_) | Err(watchfire_engine::Error::IndexExists(_)) => Ok(()),
                    Err(error) => Err(error.into()),
                },
                1 => {
                    let catalog = database.engine.catalog().await?;
                    let ids: Vec<_> = catalog.indexes().map(|index| index.id).collect();
                    for id in ids {
                        database.engine.delete_index(id).await?;
                    }
                    Ok(())
                }
                2 => {
                    let ascending = FieldIndex {
                        scope: Scope::Collection,
                        mode: Mode::Ascending,
                    };
                    indexes::update_field(&database, rank_key(), Some(vec![ascending])).await?;
                    Ok(())
                }
                _ => {
                    indexes::update_field(&database, rank_key(), None).await?;
                    Ok(())
                }
            }
        };
        let altered = shared.network.call(work).await;
        let kind = OperationKind::Alter {
            what,
            outcome: outcome(&altered),
        };
        shared.recorder.operation(self.id, started, kind);
    }
}

fn done_and_rank() -> Definition {
    let fields = ["done", "rank"].map(|name| IndexField {
        path: data::field(name),
        mode: Mode::Ascending,
    });
    Definition::new("items".to_owned(), Scope::Collection, fields.to_vec())
        .expect("the definition is well-formed")
}

fn rank_key() -> FieldKey {
    FieldKey {
        group: Some("items".to_owned()),
        path: Some(data::field("rank")),
    }
}

/// A plain write that replaces a document.
pub fn set(path: watchfire_model::DocumentPath, fields: Fields) -> Write {
    Write {
        path,
        operation: Operation::Set(fields),
        precondition: Precondition::None,
        transforms: Vec::new(),
    }
}

/// A write that replaces some fields of a document, which must be there.
pub(super) fn update(path: watchfire_model::DocumentPath, name: &str, value: Value) -> Write {
    Write {
        path,
        operation: Operation::Patch {
            fields: Fields::from([(name.to_owned(), value)]),
            mask: FieldMask::new(vec![data::field(name)]),
        },
        precondition: Precondition::Exists(true),
        transforms: Vec::new(),
    }
}

/// A write that removes a document.
pub(super) fn delete(path: watchfire_model::DocumentPath) -> Write {
    Write {
        path,
        operation: Operation::Delete,
        precondition: Precondition::None,
        transforms: Vec::new(),
    }
}

fn any_write(chance: &mut Chance, seen: Option<Version>) -> Write {
    match chance.below(10) {
        0 | 1 => increment(data::any_counter(chance), 1),
        2 | 3 => set(data::any_item(chance), data::item_fields(chance)),
        4 => delete(data::any_item(chance)),
        5 => update(
            data::any_item(chance),
            "rank",
            data::integer(chance.below(10)),
        ),
        6 => update(
            data::any_item(chance),
            "done",
            Value::Boolean(chance.happens(500)),
        ),
        _ => any_miscellaneous_write(chance, seen),
    }
}

/// Adds to a counter.
pub(super) fn increment(path: watchfire_model::DocumentPath, by: i64) -> Write {
    Write {
        path,
        operation: Operation::Patch {
            fields: Fields::new(),
            mask: FieldMask::new(Vec::new()),
        },
        precondition: Precondition::None,
        transforms: vec![Transform {
            field: data::field("n"),
            kind: TransformKind::Increment(Value::Integer(by)),
        }],
    }
}

fn any_miscellaneous_write(chance: &mut Chance, seen: Option<Version>) -> Write {
    let path = data::any_miscellaneous(chance);
    let operation = match chance.below(6) {
        0 => Operation::Delete,
        1 => Operation::Verify,
        2 | 3 => Operation::Patch {
            fields: Fields::from([("v".to_owned(), data::any_value(chance))]),
            mask: FieldMask::new(vec![data::field("v"), data::field("w")]),
        },
        _ => Operation::Set(Fields::from([
            ("v".to_owned(), data::any_value(chance)),
            ("w".to_owned(), data::any_value(chance)),
        ])),
    };
    let seen = seen.and_then(|version| Timestamp::from_micros(i64::try_from(version.0).ok()?).ok());
    let verifies = matches!(operation, Operation::Verify);
    let precondition = match (chance.below(6), seen) {
        (0, _) => Precondition::Exists(true),
        (1, _) => Precondition::Exists(false),
        (2, Some(time)) => Precondition::UpdateTime(time),
        (_, _) if verifies => Precondition::Exists(chance.happens(500)),
        (_, _) => Precondition::None,
    };
    let transforms = match operation {
        Operation::Delete | Operation::Verify => Vec::new(),
        Operation::Set(_) | Operation::Patch { .. } => any_transforms(chance),
    };
    Write {
        path,
        operation,
        precondition,
        transforms,
    }
}

fn any_transforms(chance: &mut Chance) -> Vec<Transform> {
    if chance.happens(600) {
        return Vec::new();
    }
    let number = Value::Integer(i64::try_from(chance.below(10)).unwrap_or(0));
    let kind = match chance.below(6) {
        0 => TransformKind::RequestTime,
        1 => TransformKind::Increment(number),
        2 => TransformKind::Maximum(number),
        3 => TransformKind::Minimum(number),
        4 => TransformKind::AppendMissing(vec![data::tag(chance)]),
        _ => TransformKind::RemoveAll(vec![data::tag(chance)]),
    };
    vec![Transform {
        field: data::field("t"),
        kind,
    }]
}
