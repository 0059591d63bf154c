//! Bytes that are no message are the caller's mistake.

use prost::Message;
use tonic::Code;
use watchfire_wire::codec::undecodable;
use watchfire_wire::{decode_value, pb};

fn nested(levels: usize) -> pb::Value {
    (0..levels).fold(
        pb::Value {
            value_type: Some(pb::value::ValueType::IntegerValue(1)),
        },
        |value, _| {
            let fields = [("a".to_owned(), value)].into();
            pb::Value {
                value_type: Some(pb::value::ValueType::MapValue(pb::MapValue { fields })),
            }
        },
    )
}

#[test]
fn too_deep() {
    let error = pb::Value::decode(nested(100).encode_to_vec().as_slice()).unwrap_err();
    let status = undecodable(&error);
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().contains("recursion"),
        "{}",
        status.message()
    );
}

#[test]
fn as_deep_as_documents_go() {
    let value = nested(20);
    let request = pb::CommitRequest {
        writes: vec![pb::Write {
            operation: Some(pb::write::Operation::Update(pb::Document {
                fields: [("a".to_owned(), value.clone())].into(),
                ..pb::Document::default()
            })),
            ..pb::Write::default()
        }],
        ..pb::CommitRequest::default()
    };
    pb::CommitRequest::decode(request.encode_to_vec().as_slice()).unwrap();
    assert_eq!(decode_value(value).unwrap().depth(), 20);
}

#[test]
fn broken_text_and_cut_short() {
    for bytes in [[0x0a, 0x01, 0xff].as_slice(), &[0x0a, 0x05, b'a']] {
        let error = pb::DocumentMask::decode(bytes).unwrap_err();
        assert_eq!(undecodable(&error).code(), Code::InvalidArgument);
    }
}
