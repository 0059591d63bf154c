//! What requests become, what events look like, and the table of refusals.

use std::sync::Arc;

use watchfire_model::watch::Cause;
use watchfire_model::{Document, DocumentPath, Fields, Invalid};

use super::*;

const DATABASE: &str = "projects/p/databases/d";
const PARENT: &str = "projects/p/databases/d/documents";
const NAME: &str = "projects/p/databases/d/documents/c/x";

fn database() -> DatabaseName {
    DatabaseName::new("p", "d").unwrap()
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

fn add(target: pb::Target) -> pb::ListenRequest {
    pb::ListenRequest {
        database: DATABASE.to_owned(),
        target_change: Some(RequestChange::AddTarget(target)),
        labels: [("goog-listen-tags".to_owned(), "limbo-document".to_owned())].into(),
        request_options: None,
    }
}

fn documents(names: &[&str]) -> pb::Target {
    pb::Target {
        target_type: Some(TargetType::Documents(DocumentsTarget {
            documents: names.iter().map(|name| (*name).to_owned()).collect(),
        })),
        target_id: 2,
        ..pb::Target::default()
    }
}

fn query(parent: &str) -> pb::Target {
    pb::Target {
        target_type: Some(TargetType::Query(QueryTarget {
            parent: parent.to_owned(),
            query_type: Some(query_target::QueryType::StructuredQuery(
                pb::StructuredQuery {
                    from: vec![pb::structured_query::CollectionSelector {
                        collection_id: "c".to_owned(),
                        all_descendants: false,
                    }],
                    ..pb::StructuredQuery::default()
                },
            )),
        })),
        target_id: 2,
        ..pb::Target::default()
    }
}

#[test]
fn every_part_of_a_target_is_carried_over() {
    let target = pb::Target {
        resume_type: Some(ResumeType::ResumeToken(vec![1, 2])),
        once: true,
        expected_count: Some(3),
        ..query(PARENT)
    };
    let command = decode_listen_request(add(target)).unwrap();
    assert_eq!(command.database, database());
    let TargetCommand::Add {
        target_id,
        target,
        resume,
        once,
        expected_count,
    } = command.change
    else {
        panic!("an addition");
    };
    assert!(matches!(target, Target::Query(_)));
    assert_eq!((target_id, once, expected_count), (2, true, Some(3)));
    assert_eq!(resume, Resume::Token(vec![1, 2]));

    let at = prost_types::Timestamp {
        seconds: 1,
        nanos: 2_999,
    };
    let target = pb::Target {
        resume_type: Some(ResumeType::ReadTime(at)),
        ..documents(&[NAME])
    };
    let command = decode_listen_request(add(target)).unwrap();
    let TargetCommand::Add { target, resume, .. } = command.change else {
        panic!("an addition");
    };
    assert!(
        matches!(target, Target::Documents(paths) if paths.iter().map(DocumentPath::as_str).eq(["c/x"]))
    );
    assert_eq!(resume, Resume::ReadTime(time(1_000_002)));
}

#[test]
fn an_empty_token_is_none() {
    let target = pb::Target {
        resume_type: Some(ResumeType::ResumeToken(vec![])),
        ..documents(&[NAME])
    };
    let command = decode_listen_request(add(target)).unwrap();
    assert!(matches!(
        command.change,
        TargetCommand::Add {
            resume: Resume::None,
            ..
        }
    ));
}

#[test]
fn a_removal_names_its_target() {
    let request = pb::ListenRequest {
        target_change: Some(RequestChange::RemoveTarget(7)),
        ..add(documents(&[]))
    };
    assert_eq!(requested_target(&request), Some(7));
    assert!(matches!(
        decode_listen_request(request).unwrap().change,
        TargetCommand::Remove(7)
    ));
    assert_eq!(requested_target(&add(query(PARENT))), Some(2));
    assert_eq!(requested_target(&pb::ListenRequest::default()), None);
}

#[test]
fn wrong_requests_are_refused_by_name() {
    let bare_query = QueryTarget {
        parent: PARENT.to_owned(),
        query_type: None,
    };
    let other = "projects/p/databases/other/documents";
    for (request, expected) in [
        (
            pb::ListenRequest {
                target_change: None,
                ..add(pb::Target::default())
            },
            "ListenRequest.target_change must be set",
        ),
        (
            pb::ListenRequest {
                database: "p/d".to_owned(),
                ..add(documents(&[NAME]))
            },
            "",
        ),
        (add(pb::Target::default()), "Target.target_type must be set"),
        (
            add(pb::Target {
                target_type: Some(TargetType::Query(bare_query)),
                ..pb::Target::default()
            }),
            "QueryTarget.query_type must be set",
        ),
        (
            add(documents(&[])),
            "DocumentsTarget.documents must not be empty",
        ),
        (
            add(documents(&[&format!("{other}/c/x")])),
            "does not belong to the database",
        ),
        (add(query(other)), "does not belong to the database"),
        (
            add(pb::Target {
                expected_count: Some(-1),
                ..query(PARENT)
            }),
            "expected_count must not be negative",
        ),
    ] {
        let refusal = decode_listen_request(request.clone()).unwrap_err();
        assert!(matches!(refusal, Refusal::Invalid(_)), "{request:?}");
        assert!(
            refusal.to_string().contains(expected),
            "{request:?}: {refusal}"
        );
    }
    let pipeline = pb::Target {
        target_type: Some(TargetType::PipelineQuery(PipelineQueryTarget::default())),
        ..pb::Target::default()
    };
    assert_eq!(
        decode_listen_request(add(pipeline)).unwrap_err(),
        Refusal::unimplemented("Target.pipeline_query")
    );
}

fn encoded(event: WatchEvent) -> ResponseType {
    encode_watch_event(&database(), &event)
        .response_type
        .expect("every event is a message")
}

fn encoded_target_change(event: WatchEvent) -> pb::TargetChange {
    match encoded(event) {
        ResponseType::TargetChange(change) => change,
        other => panic!("a target change, not {other:?}"),
    }
}

#[test]
fn target_changes() {
    assert_eq!(
        encoded_target_change(WatchEvent::Added { target: 2 }),
        target_change(TargetChangeType::Add, vec![2])
    );
    assert_eq!(
        encoded_target_change(WatchEvent::Reset {
            targets: vec![2, 4]
        }),
        target_change(TargetChangeType::Reset, vec![2, 4])
    );
    assert_eq!(
        encoded_target_change(WatchEvent::Removed {
            target: 2,
            cause: None
        }),
        target_change(TargetChangeType::Remove, vec![2])
    );
    let current = encoded_target_change(WatchEvent::Current {
        targets: vec![2],
        token: vec![9],
        read_time: time(5),
    });
    assert_eq!(
        current.target_change_type,
        i32::from(TargetChangeType::Current)
    );
    assert_eq!(
        (current.target_ids, current.resume_token),
        (vec![2], vec![9])
    );
    let snapshot = encoded_target_change(WatchEvent::Snapshot {
        token: vec![9],
        read_time: time(1_000_005),
    });
    assert_eq!(
        snapshot,
        pb::TargetChange {
            target_change_type: TargetChangeType::NoChange.into(),
            target_ids: vec![],
            cause: None,
            resume_token: vec![9],
            read_time: Some(prost_types::Timestamp {
                seconds: 1,
                nanos: 5_000
            }),
        }
    );
}

#[test]
fn causes_have_their_code() {
    for (cause, code, text) in [
        (
            Cause::Invalid(Invalid::new("bad resume token")),
            3,
            "bad resume token",
        ),
        (Cause::AlreadyExists("a".to_owned()), 6, "a"),
        (
            Cause::PermissionDenied,
            7,
            "Missing or insufficient permissions.",
        ),
        (Cause::ResourceExhausted("r".to_owned()), 8, "r"),
        (Cause::FailedPrecondition("f".to_owned()), 9, "f"),
        (Cause::Unimplemented("n".to_owned()), 12, "n"),
        (Cause::Unavailable("u".to_owned()), 14, "u"),
    ] {
        let change = encoded_target_change(WatchEvent::Removed {
            target: 2,
            cause: Some(cause),
        });
        assert_eq!(
            change.target_change_type,
            i32::from(TargetChangeType::Remove)
        );
        let status = change.cause.expect("a removal with a cause has a status");
        assert_eq!((status.code, status.message.as_str()), (code, text));
    }
}

#[test]
fn document_events() {
    let path = DocumentPath::parse("c/x").unwrap();
    let document = Arc::new(Document {
        path: path.clone(),
        create_time: time(1),
        update_time: time(2),
        fields: Fields::new(),
    });
    let ResponseType::DocumentChange(change) = encoded(WatchEvent::Changed {
        document,
        targets: vec![2],
        removed_targets: vec![4],
    }) else {
        panic!("a document change");
    };
    let document = change.document.expect("a change carries the document");
    assert_eq!(document.name, NAME);
    assert_eq!(document.create_time, Some(encode_timestamp(time(1))));
    assert_eq!(document.update_time, Some(encode_timestamp(time(2))));
    assert_eq!(
        (change.target_ids, change.removed_target_ids),
        (vec![2], vec![4])
    );

    let at = time(3);
    let read_time = Some(encode_timestamp(at));
    assert_eq!(
        encoded(WatchEvent::Deleted {
            path: path.clone(),
            removed_targets: vec![2],
            read_time: at
        }),
        ResponseType::DocumentDelete(pb::DocumentDelete {
            document: NAME.to_owned(),
            removed_target_ids: vec![2],
            read_time
        })
    );
    assert_eq!(
        encoded(WatchEvent::Left {
            path,
            removed_targets: vec![2],
            read_time: at
        }),
        ResponseType::DocumentRemove(pb::DocumentRemove {
            document: NAME.to_owned(),
            removed_target_ids: vec![2],
            read_time
        })
    );
    assert_eq!(
        encoded(WatchEvent::Filter {
            target: 2,
            count: 7,
            unchanged_names: None
        }),
        ResponseType::Filter(pb::ExistenceFilter {
            target_id: 2,
            count: 7,
            unchanged_names: None
        })
    );
    let unchanged_names = BloomFilter::from_parts(vec![0xA5, 0x01], 3, 14).unwrap();
    assert_eq!(
        encoded(WatchEvent::Filter {
            target: 2,
            count: 0,
            unchanged_names: Some(Arc::new(unchanged_names))
        }),
        ResponseType::Filter(pb::ExistenceFilter {
            target_id: 2,
            count: 0,
            unchanged_names: Some(pb::BloomFilter {
                bits: Some(pb::BitSequence {
                    bitmap: vec![0xA5, 0x01],
                    padding: 3
                }),
                hash_count: 14
            })
        })
    );
}
