//! Writes histories down: a server so simple that it must be right, and what clients would have seen of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use watchfire_engine::{CommitEntry, Version};
use watchfire_model::apply::apply;
use watchfire_model::watch::{Target, WatchEvent};
use watchfire_model::{
    Aggregation, AggregationOperator, Change, DatabaseName, Direction, Document, DocumentPath,
    FieldOperator, FieldPath, Fields, Filter, Operation as WriteOperation, Order, Parent,
    Precondition, Query, QueryParts, Selector, Transform, TransformKind, Value, Write,
    WriteOutcome,
};

use crate::history::{
    Answer, Asked, ClientId, Found, History, Moment, Operation, OperationKind, Outcome, ReadAt,
    Receipt, ResumedFrom, Stored, Stream, StreamEvent, TransactionNumber, TransactionReads, View,
    Watched,
};
use crate::oracle::timeline::time_of;

pub fn path(text: &str) -> DocumentPath {
    DocumentPath::parse(text).unwrap()
}

pub fn set(text: &str, value: i64) -> Write {
    Write {
        path: path(text),
        operation: WriteOperation::Set(Fields::from([("a".to_owned(), Value::Integer(value))])),
        precondition: Precondition::None,
        transforms: Vec::new(),
    }
}

pub fn delete(text: &str) -> Write {
    Write {
        operation: WriteOperation::Delete,
        ..set(text, 0)
    }
}

/// Sets `u` and adds one to `n`: never the same contents twice.
pub fn increment(text: &str) -> Write {
    Write {
        operation: WriteOperation::Patch {
            fields: Fields::new(),
            mask: watchfire_model::FieldMask::new(Vec::new()),
        },
        transforms: vec![Transform {
            field: FieldPath::parse("n").unwrap(),
            kind: TransformKind::Increment(Value::Integer(1)),
        }],
        ..set(text, 0)
    }
}

pub fn documents(texts: &[&str]) -> Asked {
    Asked::Documents(texts.iter().map(|text| path(text)).collect())
}

fn parts(limit: Option<u32>, more_than: Option<i64>) -> QueryParts {
    let field = FieldPath::parse("a").unwrap();
    QueryParts {
        database: DatabaseName::new("p", "d").unwrap(),
        parent: Parent::Root,
        selector: Selector::Collection("c".to_owned()),
        filter: more_than.map(|value| Filter::Field {
            field: field.clone(),
            operator: FieldOperator::GreaterThan,
            value: Value::Integer(value),
        }),
        order: match limit {
            Some(_) => vec![Order {
                field,
                direction: Direction::Descending,
            }],
            None => Vec::new(),
        },
        start: None,
        end: None,
        offset: 0,
        limit,
        projection: None,
    }
}

/// The documents of `c` with more than this in `a`.
pub fn more_than(value: i64) -> Arc<Query> {
    Arc::new(Query::new(parts(None, Some(value))).unwrap())
}

/// The documents of `c` with the highest `a`.
pub fn top(limit: u32) -> Arc<Query> {
    Arc::new(Query::new(parts(Some(limit), None)).unwrap())
}

/// All documents of `c`.
pub fn all() -> Arc<Query> {
    Arc::new(Query::new(parts(None, None)).unwrap())
}

pub fn count(query: Arc<Query>) -> Asked {
    Asked::Aggregate(
        query,
        vec![Aggregation {
            alias: "count".to_owned(),
            operator: AggregationOperator::Count { up_to: None },
        }],
    )
}

/// The server, and the history so far.
pub struct Scribe {
    pub history: History,
    pub state: BTreeMap<DocumentPath, Arc<Document>>,
    pub head: u64,
    step: u64,
    transactions: u64,
}

impl Scribe {
    pub fn new() -> Self {
        Self {
            history: History {
                seed: 0,
                database: DatabaseName::new("p", "d").unwrap(),
                operations: Vec::new(),
                streams: Vec::new(),
                incidents: Vec::new(),
                stored: Stored {
                    head: Version(0),
                    documents: BTreeMap::new(),
                    entries: Vec::new(),
                    trimmed_to: Version(0),
                    kept: Vec::new(),
                },
            },
            state: BTreeMap::new(),
            head: 1_000,
            step: 0,
            transactions: 0,
        }
    }

    pub fn now(&mut self) -> Moment {
        self.step += 1;
        Moment {
            step: self.step,
            micros: self.step * 1_000,
        }
    }

    /// What is there now is what is there in the end.
    pub fn end(self) -> History {
        self.history_so_far()
    }

    /// As if it ended now.
    pub fn history_so_far(&self) -> History {
        let mut history = self.history.clone();
        history.stored.head = Version(self.head);
        history.stored.documents = self.state.clone();
        history.stored.kept = history.stored.entries.clone();
        history
    }

    /// Writes down an operation that ends now.
    pub fn note(&mut self, started: Moment, kind: OperationKind) {
        let ended = self.now();
        self.history.operations.push(Operation {
            client: ClientId(1),
            started,
            ended,
            kind,
        });
    }

    /// Applies the writes; the version and what they came to.
    pub fn store(&mut self, writes: &[Write]) -> Receipt {
        let version = self.head + 10;
        let mut changes: Vec<Change> = Vec::new();
        let mut outcomes = Vec::new();
        for write in writes {
            let before = self.state.get(&write.path).cloned();
            let applied = apply(write, before.as_deref(), time_of(Version(version))).unwrap();
            let deletes = matches!(
                write.operation,
                WriteOperation::Delete | WriteOperation::Verify
            );
            outcomes.push(WriteOutcome {
                update_time: applied
                    .after
                    .as_ref()
                    .filter(|_| !deletes)
                    .map(|after| after.update_time),
                transform_results: applied.transform_results,
            });
            if !applied.changed {
                continue;
            }
            let after = applied.after.map(Arc::new);
            match &after {
                Some(after) => self.state.insert(write.path.clone(), Arc::clone(after)),
                None => self.state.remove(&write.path),
            };
            assert!(changes.iter().all(|change| change.path != write.path));
            changes.push(Change {
                path: write.path.clone(),
                before,
                after,
            });
        }
        if changes.is_empty() {
            return Receipt {
                version: Some(Version(self.head)),
                outcomes,
            };
        }
        self.head = version;
        let version = Version(version);
        self.history
            .stored
            .entries
            .push(Arc::new(CommitEntry { version, changes }));
        Receipt {
            version: Some(version),
            outcomes,
        }
    }

    /// A commit from beginning to end; its version.
    pub fn commit(&mut self, writes: Vec<Write>) -> u64 {
        let started = self.now();
        self.commit_since(started, writes, None)
    }

    /// A commit that began earlier.
    pub fn commit_since(
        &mut self,
        started: Moment,
        writes: Vec<Write>,
        transaction: Option<TransactionReads>,
    ) -> u64 {
        let receipt = self.store(&writes);
        let version = receipt.version.unwrap().0;
        self.note(
            started,
            OperationKind::Commit {
                writes,
                transaction,
                outcome: Outcome::Acknowledged(receipt),
            },
        );
        version
    }

    /// A commit with this outcome, of which nothing is stored.
    pub fn commit_in_vain(&mut self, writes: Vec<Write>, outcome: Outcome<Receipt>) {
        let started = self.now();
        self.note(
            started,
            OperationKind::Commit {
                writes,
                transaction: None,
                outcome,
            },
        );
    }

    /// The answer as of a version, by looking at every entry.
    pub fn answer(&self, asked: &Asked, version: u64) -> Answer {
        let mut state: BTreeMap<&DocumentPath, &Arc<Document>> = BTreeMap::new();
        for entry in &self.history.stored.entries {
            for change in entry.changes.iter().filter(|_| entry.version.0 <= version) {
                match &change.after {
                    Some(after) => state.insert(&change.path, after),
                    None => state.remove(&change.path),
                };
            }
        }
        let evaluate = |query: &Query| -> Vec<Arc<Document>> {
            let found = query.evaluate(state.values().map(|document| document.as_ref()));
            found.into_iter().cloned().map(Arc::new).collect()
        };
        let found = match asked {
            Asked::Documents(paths) => Found::Documents(
                paths
                    .iter()
                    .map(|path| state.get(path).map(|document| Arc::clone(document)))
                    .collect(),
            ),
            Asked::Query(query) => Found::Query(evaluate(query)),
            Asked::Aggregate(query, _) => Found::Aggregate(vec![(
                "count".to_owned(),
                Value::Integer(evaluate(query).len() as i64),
            )]),
        };
        Answer {
            read_time: Version(version),
            found,
        }
    }

    /// A read of the present, from beginning to end.
    pub fn read(&mut self, asked: Asked) {
        let started = self.now();
        let answer = self.answer(&asked, self.head);
        self.note_read(started, asked, answer);
    }

    pub fn note_read(&mut self, started: Moment, asked: Asked, answer: Answer) {
        self.note(
            started,
            OperationKind::Read {
                transaction: None,
                at: ReadAt::Latest,
                asked,
                outcome: Outcome::Acknowledged(answer),
            },
        );
    }

    /// A transaction that has read this as of the present.
    pub fn transaction(&mut self, reads: Vec<Asked>) -> TransactionReads {
        self.transactions += 1;
        let number = TransactionNumber(self.transactions);
        let mut transaction = TransactionReads {
            number,
            mode: None,
            begun: self.now(),
            reads: Vec::new(),
        };
        for asked in reads {
            self.read_in(&mut transaction, asked, self.head);
        }
        transaction
    }

    pub fn read_in(&mut self, transaction: &mut TransactionReads, asked: Asked, version: u64) {
        let started = match transaction.reads.is_empty() {
            true => transaction.begun,
            false => self.now(),
        };
        let answer = self.answer(&asked, version);
        transaction.reads.push((asked.clone(), answer.clone()));
        self.note(
            started,
            OperationKind::Read {
                transaction: Some(transaction.number),
                at: ReadAt::Latest,
                asked,
                outcome: Outcome::Acknowledged(answer),
            },
        );
    }

    /// Opens a stream with one target, which is added; its number.
    pub fn listen(&mut self, target: Target, resume: ResumedFrom) -> usize {
        let asked = self.now();
        self.history.streams.push(Stream {
            client: ClientId(2),
            opened: asked,
            targets: vec![Watched {
                asked,
                target_id: 1,
                target,
                resume,
                removed: None,
            }],
            events: Vec::new(),
            ended: None,
        });
        let stream = self.history.streams.len() - 1;
        self.tell(stream, WatchEvent::Added { target: 1 });
        stream
    }

    pub fn tell(&mut self, stream: usize, event: WatchEvent) {
        let now = self.now();
        self.history.streams[stream]
            .events
            .push((now, StreamEvent::Watch(event)));
    }

    pub fn changed(&mut self, stream: usize, text: &str) {
        let document = Arc::clone(&self.state[&path(text)]);
        self.tell(
            stream,
            WatchEvent::Changed {
                document,
                targets: vec![1],
                removed_targets: Vec::new(),
            },
        );
    }

    pub fn deleted(&mut self, stream: usize, text: &str) {
        let read_time = time_of(Version(self.head));
        self.tell(
            stream,
            WatchEvent::Deleted {
                path: path(text),
                removed_targets: vec![1],
                read_time,
            },
        );
    }

    pub fn current(&mut self, stream: usize) {
        let read_time = time_of(Version(self.head));
        self.tell(
            stream,
            WatchEvent::Current {
                targets: vec![1],
                token: b"t".to_vec(),
                read_time,
            },
        );
    }

    pub fn snapshot(&mut self, stream: usize) {
        self.snapshot_at(stream, self.head);
    }

    pub fn snapshot_at(&mut self, stream: usize, version: u64) {
        self.tell(
            stream,
            WatchEvent::Snapshot {
                token: b"t".to_vec(),
                read_time: time_of(Version(version)),
            },
        );
    }

    /// All documents of the present.
    pub fn view(&self) -> View {
        self.state
            .iter()
            .map(|(path, document)| (path.clone(), Arc::clone(document)))
            .collect()
    }
}

/// A receipt that nothing is known to stand behind.
pub fn receipt(version: u64) -> Receipt {
    Receipt {
        version: Some(Version(version)),
        outcomes: vec![WriteOutcome {
            update_time: Some(time_of(Version(version))),
            transform_results: Vec::new(),
        }],
    }
}

/// Another document at the same place.
pub fn altered(document: &Document, value: i64) -> Arc<Document> {
    let mut document = document.clone();
    document
        .fields
        .insert("a".to_owned(), Value::Integer(value));
    Arc::new(document)
}
