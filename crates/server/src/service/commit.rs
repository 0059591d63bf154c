//! Commits: many writes as one, many writes each for itself, and single documents.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};

use futures::stream::{self, StreamExt};
use watchfire_engine::{Receipt, Start, TransactionId, TransactionOptions};
use watchfire_model::{Document, DocumentName, FieldMask, Write, WriteOutcome};

use crate::databases::Database;
use crate::error::Error;
use crate::service::read::masked;

/// Writes of one batch that are committed at the same time. They share flushes; the bound keeps one
/// caller from filling the committer's queue.
const BATCH_WRITES_IN_FLIGHT_MAX: usize = 64;

/// Letters of the ids that the server makes, as the SDKs make theirs.
const ID_LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Length of an id that the server makes, in letters.
const ID_LEN: usize = 20;

/// Begins a transaction.
pub async fn begin(
    database: &Database,
    options: TransactionOptions,
) -> Result<TransactionId, Error> {
    Ok(database.engine.begin(options).await?)
}

/// Commits all writes at one version, or none.
pub async fn commit(
    database: &Database,
    writes: Vec<Write>,
    transaction: Option<TransactionId>,
) -> Result<Receipt, Error> {
    let start = transaction.map_or(Start::Now, Start::Transaction);
    let staged = database.engine.stage(writes, start).await?;
    Ok(database.engine.commit(staged).await?)
}

/// Commits each write for itself, in no particular order; the answers line up with the writes.
/// A document may occur only once, because no order is promised.
pub async fn batch(
    database: &Database,
    writes: Vec<Write>,
) -> Result<Vec<Result<WriteOutcome, Error>>, Error> {
    let mut seen = HashSet::with_capacity(writes.len());
    if let Some(twice) = writes.iter().find(|write| !seen.insert(&write.path)) {
        let name = DocumentName {
            database: database.name.clone(),
            path: twice.path.clone(),
        };
        return Err(Error::invalid(format!(
            "A document may be written at most once in a single BatchWrite request: {name}"
        )));
    }
    let outcomes = stream::iter(writes)
        .map(|write| async {
            let receipt = commit(database, vec![write], None).await?;
            Ok(sole_outcome(receipt))
        })
        .buffered(BATCH_WRITES_IN_FLIGHT_MAX);
    Ok(outcomes.collect().await)
}

/// Commits one set or patch of a document and gives the document as the commit left it.
pub async fn write_document(
    database: &Database,
    write: Write,
    mask: Option<&FieldMask>,
) -> Result<Document, Error> {
    let mut receipt = commit(database, vec![write], None).await?;
    let document = receipt
        .documents
        .pop()
        .flatten()
        .expect("a set or patched document exists afterwards");
    Ok(masked(&document, mask))
}

/// Commits one deletion.
pub async fn delete_document(database: &Database, write: Write) -> Result<(), Error> {
    commit(database, vec![write], None).await.map(drop)
}

/// A fresh document id.
pub fn fresh_id() -> String {
    id_from(&mut random)
}

/// Sixty-four bits that nobody can foresee: the standard library's hash keys are random.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn id_from(random: &mut impl FnMut() -> u64) -> String {
    let mut id = String::with_capacity(ID_LEN);
    while id.len() < ID_LEN {
        for byte in random().to_le_bytes() {
            // 248 is the largest multiple of 62 in a byte: above it, some letters would come oftener.
            let letter = (byte < 248)
                .then(|| ID_LETTERS.get(usize::from(byte % 62)))
                .flatten();
            if let Some(letter) = letter.filter(|_| id.len() < ID_LEN) {
                id.push(char::from(*letter));
            }
        }
    }
    id
}

fn sole_outcome(receipt: Receipt) -> WriteOutcome {
    receipt
        .outcomes
        .into_iter()
        .next()
        .expect("a receipt has an outcome for each write")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_shape_that_sdks_make() {
        let mut seed = 0u64;
        let mut random = || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            seed
        };
        let ids: HashSet<String> = (0..1_000).map(|_| id_from(&mut random)).collect();
        assert_eq!(ids.len(), 1_000);
        for id in &ids {
            assert_eq!(id.len(), ID_LEN);
            assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        }
        assert_ne!(fresh_id(), fresh_id());
    }
}
