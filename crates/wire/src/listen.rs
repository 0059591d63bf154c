//! Listening: requests to watch, and what is heard. The states of a stream, its acknowledgements and
//! its order are made elsewhere; here one event becomes one message.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use watchfire_model::bloom::BloomFilter;
use watchfire_model::watch::{Target, WatchEvent};
use watchfire_model::{DatabaseName, Timestamp};

use crate::document::{encode_document, encode_document_name};
use crate::pb;
use crate::pb::listen_request::TargetChange as RequestChange;
use crate::pb::listen_response::ResponseType;
use crate::pb::target::{
    DocumentsTarget, PipelineQueryTarget, QueryTarget, ResumeType, TargetType, query_target,
};
use crate::pb::target_change::TargetChangeType;
use crate::query::decode_query;
use crate::refusal::Refusal;
use crate::status::encode_cause;
use crate::value::{decode_timestamp, encode_timestamp};
use crate::write::decode_name;

/// One request of a listen stream.
#[derive(Clone, Debug)]
pub struct ListenCommand {
    /// Stands in every request.
    pub database: DatabaseName,
    pub change: TargetCommand,
}

/// What a request does to the targets of the stream.
#[derive(Clone, Debug)]
pub enum TargetCommand {
    Add {
        /// 0: the server chooses. Not checked here.
        target_id: i32,
        target: Target,
        resume: Resume,
        /// The target is removed when it is current.
        once: bool,
        /// How many documents the client believes to match; means something with a resume value only.
        expected_count: Option<i32>,
    },
    Remove(i32),
}

/// From where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// From the beginning.
    None,
    /// From where this token was given.
    Token(Vec<u8>),
    /// From the state at this moment.
    ReadTime(Timestamp),
}

/// The id of the target that a request is about, if it is about one. For answering a request that
/// cannot be decoded: a bad target ends alone, and the stream goes on.
pub fn requested_target(request: &pb::ListenRequest) -> Option<i32> {
    match request.target_change.as_ref()? {
        RequestChange::AddTarget(target) => Some(target.target_id),
        RequestChange::RemoveTarget(id) => Some(*id),
    }
}

/// Reads one request of a listen stream. Labels and tags have no effect.
/// Refused: neither add nor remove, a target that is neither a query nor documents, names or
/// parents outside the database, a negative expected count; and, as unsupported, pipelines.
pub fn decode_listen_request(request: pb::ListenRequest) -> Result<ListenCommand, Refusal> {
    let pb::ListenRequest {
        database,
        target_change,
        labels: _,
        request_options: _,
    } = request;
    let database = DatabaseName::parse(&database)?;
    let change = match target_change {
        None => return Err(Refusal::invalid("ListenRequest.target_change must be set.")),
        Some(RequestChange::AddTarget(target)) => decode_target(target, &database)?,
        Some(RequestChange::RemoveTarget(id)) => TargetCommand::Remove(id),
    };
    Ok(ListenCommand { database, change })
}

fn decode_target(target: pb::Target, database: &DatabaseName) -> Result<TargetCommand, Refusal> {
    let pb::Target {
        target_type,
        resume_type,
        target_id,
        once,
        expected_count,
    } = target;
    let target_type =
        target_type.ok_or_else(|| Refusal::invalid("Target.target_type must be set."))?;
    let target = match target_type {
        TargetType::Query(query) => decode_query_target(query, database)?,
        TargetType::Documents(documents) => decode_documents_target(documents, database)?,
        TargetType::PipelineQuery(PipelineQueryTarget { pipeline_type: _ }) => {
            return Err(Refusal::unimplemented("Target.pipeline_query"));
        }
    };
    let resume = match resume_type {
        None => Resume::None,
        // An empty token is how some clients write that they have none.
        Some(ResumeType::ResumeToken(token)) if token.is_empty() => Resume::None,
        Some(ResumeType::ResumeToken(token)) => Resume::Token(token),
        Some(ResumeType::ReadTime(time)) => Resume::ReadTime(decode_timestamp(time)?),
    };
    if let Some(count) = expected_count
        && count < 0
    {
        return Err(Refusal::invalid(format!(
            "Target.expected_count must not be negative, but was {count}."
        )));
    }
    Ok(TargetCommand::Add {
        target_id,
        target,
        resume,
        once,
        expected_count,
    })
}

fn decode_query_target(target: QueryTarget, database: &DatabaseName) -> Result<Target, Refusal> {
    let QueryTarget { parent, query_type } = target;
    let Some(query_target::QueryType::StructuredQuery(query)) = query_type else {
        return Err(Refusal::invalid("QueryTarget.query_type must be set."));
    };
    let query = decode_query(&parent, query)?;
    if query.database() != database {
        return Err(Refusal::invalid(format!(
            "The parent \"{parent}\" does not belong to the database \"{database}\" of the request."
        )));
    }
    Ok(Target::Query(Arc::new(query)))
}

fn decode_documents_target(
    target: DocumentsTarget,
    database: &DatabaseName,
) -> Result<Target, Refusal> {
    let DocumentsTarget { documents } = target;
    if documents.is_empty() {
        return Err(Refusal::invalid(
            "DocumentsTarget.documents must not be empty.",
        ));
    }
    let paths: Result<Vec<_>, Refusal> = documents
        .iter()
        .map(|name| decode_name(name, database))
        .collect();
    Ok(Target::Documents(paths?))
}

/// Writes one event of a listen stream.
pub fn encode_watch_event(database: &DatabaseName, event: &WatchEvent) -> pb::ListenResponse {
    let response_type = match event {
        WatchEvent::Added { target } => {
            ResponseType::TargetChange(target_change(TargetChangeType::Add, vec![*target]))
        }
        WatchEvent::Removed { target, cause } => ResponseType::TargetChange(pb::TargetChange {
            cause: cause.as_ref().map(encode_cause),
            ..target_change(TargetChangeType::Remove, vec![*target])
        }),
        WatchEvent::Current {
            targets,
            token,
            read_time,
        } => ResponseType::TargetChange(pb::TargetChange {
            resume_token: token.clone(),
            read_time: Some(encode_timestamp(*read_time)),
            ..target_change(TargetChangeType::Current, targets.clone())
        }),
        WatchEvent::Reset { targets } => {
            ResponseType::TargetChange(target_change(TargetChangeType::Reset, targets.clone()))
        }
        WatchEvent::Snapshot { token, read_time } => ResponseType::TargetChange(pb::TargetChange {
            resume_token: token.clone(),
            read_time: Some(encode_timestamp(*read_time)),
            ..target_change(TargetChangeType::NoChange, Vec::new())
        }),
        WatchEvent::Changed {
            document,
            targets,
            removed_targets,
        } => ResponseType::DocumentChange(pb::DocumentChange {
            document: Some(encode_document(database, document)),
            target_ids: targets.clone(),
            removed_target_ids: removed_targets.clone(),
        }),
        WatchEvent::Deleted {
            path,
            removed_targets,
            read_time,
        } => ResponseType::DocumentDelete(pb::DocumentDelete {
            document: encode_document_name(database, path),
            removed_target_ids: removed_targets.clone(),
            read_time: Some(encode_timestamp(*read_time)),
        }),
        WatchEvent::Left {
            path,
            removed_targets,
            read_time,
        } => ResponseType::DocumentRemove(pb::DocumentRemove {
            document: encode_document_name(database, path),
            removed_target_ids: removed_targets.clone(),
            read_time: Some(encode_timestamp(*read_time)),
        }),
        WatchEvent::Filter {
            target,
            count,
            unchanged_names,
        } => ResponseType::Filter(pb::ExistenceFilter {
            target_id: *target,
            count: *count,
            unchanged_names: unchanged_names.as_deref().map(encode_bloom_filter),
        }),
    };
    pb::ListenResponse {
        response_type: Some(response_type),
    }
}

fn encode_bloom_filter(filter: &BloomFilter) -> pb::BloomFilter {
    pb::BloomFilter {
        bits: Some(pb::BitSequence {
            bitmap: filter.bitmap.clone(),
            padding: filter.padding,
        }),
        hash_count: filter.hash_count,
    }
}

/// Writes events of a listen stream as they go over a gRPC connection: each message behind its head, which is a zero
/// (not compressed) and its length in four bytes, big endian (gRPC over HTTP2, "Length-Prefixed-Message").
///
/// # Panics
///
/// If a message has 4 GiB or more, which no document has.
pub fn encode_watch_frames(database: &DatabaseName, events: &[WatchEvent]) -> Bytes {
    let mut frames = BytesMut::new();
    for event in events {
        let message = encode_watch_event(database, event);
        let len = u32::try_from(message.encoded_len()).expect("a message is below 4 GiB");
        frames.put_u8(0);
        frames.put_u32(len);
        message
            .encode(&mut frames)
            .expect("the buffer grows as it is needed");
    }
    frames.freeze()
}

fn target_change(kind: TargetChangeType, target_ids: Vec<i32>) -> pb::TargetChange {
    pb::TargetChange {
        target_change_type: kind.into(),
        target_ids,
        cause: None,
        resume_token: Vec::new(),
        read_time: None,
    }
}

#[cfg(test)]
mod tests;
