//! The words of violations: short, with steps, so that a person finds the place in a log.

use watchfire_model::{Document, Operation as WriteOperation, Value, Write};

use crate::history::{Asked, Found, History, OperationKind, Outcome};
use crate::oracle::moments::Source;

/// Longer texts are cut.
const TEXT_CHARS_MAX: usize = 160;

/// Cuts what is too long.
pub fn short(text: String) -> String {
    if text.chars().count() <= TEXT_CHARS_MAX {
        return text;
    }
    let mut cut: String = text.chars().take(TEXT_CHARS_MAX).collect();
    cut.push('…');
    cut
}

/// Who did something, and when: `commit by client 3 (steps 10 to 14)`.
pub fn operation(history: &History, number: usize) -> String {
    let Some(operation) = history.operations.get(number) else {
        return format!("operation {number}");
    };
    let (client, from, to) = (
        operation.client.0,
        operation.started.step,
        operation.ended.step,
    );
    let what = match &operation.kind {
        OperationKind::Begin { .. } => "begin",
        OperationKind::Read { .. } => "read",
        OperationKind::Commit { outcome, .. } => match outcome {
            Outcome::Acknowledged(_) => "commit",
            Outcome::Refused(_) => "refused commit",
            Outcome::Unknown(_) => "commit of unknown outcome",
        },
        OperationKind::Rollback { .. } => "rollback",
        OperationKind::Alter { .. } => "change of indexes",
    };
    format!("{what} by client {client} (steps {from} to {to})")
}

/// Whoever stands at a version.
pub fn source(history: &History, source: Source) -> String {
    match source {
        Source::Operation(number) => operation(history, number),
        Source::Stream(number, step) => format!("snapshot of stream {number} (step {step})"),
    }
}

/// What was asked.
pub fn asked(asked: &Asked) -> String {
    short(match asked {
        Asked::Documents(paths) => {
            let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
            format!("documents {}", paths.join(", "))
        }
        Asked::Query(query) => format!("query {}", query_words(query)),
        Asked::Aggregate(query, _) => format!("aggregation over {}", query_words(query)),
    })
}

/// The query in a line.
pub fn query_words(query: &watchfire_model::Query) -> String {
    let mut words = format!("{:?}", query.selector());
    if let Some(filter) = query.filter() {
        words.push_str(&format!(" where {filter:?}"));
    }
    if query.offset() > 0 {
        words.push_str(&format!(" offset {}", query.offset()));
    }
    if let Some(limit) = query.limit() {
        words.push_str(&format!(" limit {limit}"));
    }
    short(words)
}

/// What was found.
pub fn found(found: &Found) -> String {
    short(match found {
        Found::Documents(documents) => {
            let documents: Vec<String> = documents
                .iter()
                .map(|found| document(found.as_deref()))
                .collect();
            documents.join(", ")
        }
        Found::Query(documents) => documents_words(documents),
        Found::Aggregate(totals) => format!("{totals:?}"),
    })
}

/// Several documents in a line.
pub fn documents_words<'a>(
    documents: impl IntoIterator<Item = &'a std::sync::Arc<Document>>,
) -> String {
    let documents: Vec<String> = documents
        .into_iter()
        .map(|found| document(Some(found)))
        .collect();
    if documents.is_empty() {
        return "nothing".to_owned();
    }
    short(documents.join(", "))
}

/// A document in a line.
pub fn document(document: Option<&Document>) -> String {
    let Some(document) = document else {
        return "no document".to_owned();
    };
    let fields: Vec<String> = document
        .fields
        .iter()
        .map(|(name, field)| format!("{name}: {}", value(field)))
        .collect();
    short(format!(
        "{} {{{}}} of {}",
        document.path,
        fields.join(", "),
        document.update_time.micros()
    ))
}

/// The writes of a commit in a line.
pub fn writes(writes: &[Write]) -> String {
    let writes: Vec<String> = writes
        .iter()
        .map(|write| {
            let verb = match &write.operation {
                WriteOperation::Set(_) => "set",
                WriteOperation::Patch { .. } => "patch",
                WriteOperation::Delete => "delete",
                WriteOperation::Verify => "verify",
            };
            format!("{verb} {}", write.path)
        })
        .collect();
    short(writes.join(", "))
}

fn value(value: &Value) -> String {
    match value {
        Value::Integer(integer) => integer.to_string(),
        Value::String(text) => format!("{text:?}"),
        other => short(format!("{other:?}")),
    }
}
