//! How arrays and answers are written: chunks of a length and that much JSON.
//!
//! The length counts UTF-16 units of the text. What is written here is ASCII throughout, so that units are bytes and
//! no client can meet half a character at the end of what has arrived.

use std::fmt::Write;

use bytes::{BufMut, Bytes, BytesMut};

/// The same JSON with every character beyond ASCII written as `\uXXXX`, twice for those beyond 16 bits. Outside of its
/// strings JSON has none.
pub fn ascii(json: String) -> String {
    if json.is_ascii() {
        return json;
    }
    let mut text = String::with_capacity(json.len() + json.len() / 2);
    let mut units = [0; 2];
    for character in json.chars() {
        if character.is_ascii() {
            text.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut units) {
            write!(text, "\\u{unit:04x}").expect("writing to a string does not fail");
        }
    }
    text
}

/// Arrays with contiguous ids as one chunk. Each text is the JSON of one message, in ASCII.
pub fn arrays<'a>(first_id: u64, texts: impl Iterator<Item = &'a Bytes> + Clone) -> Bytes {
    // `[id,[text]]` and a comma for each, and the brackets around all, which make up for the comma that the last lacks.
    let len = texts.clone().zip(first_id..).fold(1, |len, (text, id)| {
        debug_assert!(text.is_ascii(), "lengths are counted in bytes");
        len + text.len() + digits(id) + 6
    });
    let mut chunk = BytesMut::with_capacity(len + 12);
    put_number(&mut chunk, u64::try_from(len).unwrap_or(u64::MAX));
    chunk.put_u8(b'\n');
    for (index, (text, id)) in texts.zip(first_id..).enumerate() {
        chunk.put_slice(if index == 0 { b"[[" } else { b",[" });
        put_number(&mut chunk, id);
        chunk.put_slice(b",[");
        chunk.put_slice(text);
        chunk.put_slice(b"]]");
    }
    chunk.put_u8(b']');
    chunk.freeze()
}

/// What answers a handshake: the array with id 0, by which the client learns its session and how often it hears at
/// least something, in milliseconds.
pub fn handshake(sid: &str, keep_alive_ms: u64) -> String {
    // No host of its own, version 8 of the protocol, and the newest version of servers.
    one(&format!(
        "[[0,[\"c\",\"{sid}\",\"\",8,14,{keep_alive_ms}]]]"
    ))
}

/// What answers maps: whether a back channel is there, the newest array that was sent, and how many bytes of sent
/// arrays are not acknowledged.
pub fn received(back_channel: bool, last_sent: u64, outstanding: usize) -> String {
    let back_channel = u8::from(back_channel);
    one(&format!("[{back_channel},{last_sent},{outstanding}]"))
}

fn one(text: &str) -> String {
    format!("{}\n{text}", text.len())
}

fn put_number(chunk: &mut BytesMut, number: u64) {
    write!(chunk, "{number}").expect("the buffer grows as it is needed");
}

fn digits(number: u64) -> usize {
    usize::try_from(number.checked_ilog10().unwrap_or(0)).unwrap_or(0) + 1
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a client makes of chunks: ids and messages.
    pub fn read(mut text: &str) -> Vec<(u64, serde_json::Value)> {
        let mut read = Vec::new();
        while !text.is_empty() {
            let (len, rest) = text.split_once('\n').unwrap();
            let (json, rest) = rest.split_at(len.parse().unwrap());
            let arrays: Vec<(u64, Vec<serde_json::Value>)> = serde_json::from_str(json).unwrap();
            for (id, mut messages) in arrays {
                assert_eq!(messages.len(), 1);
                read.push((id, messages.remove(0)));
            }
            text = rest;
        }
        read
    }

    #[test]
    fn answers_are_written_as_clients_know_them() {
        let noop = Bytes::from_static(b"\"noop\"");
        assert_eq!(arrays(1, [noop].iter()), "14\n[[1,[\"noop\"]]]");
        assert_eq!(
            handshake("abc", 30_000),
            "31\n[[0,[\"c\",\"abc\",\"\",8,14,30000]]]"
        );
        assert_eq!(received(true, 6, 120), "9\n[1,6,120]");
        assert_eq!(received(false, 0, 0), "7\n[0,0,0]");
    }

    #[test]
    fn characters_are_escaped_and_mean_the_same() {
        assert_eq!(ascii("\"é😀\"".to_owned()), "\"\\u00e9\\ud83d\\ude00\"");
        assert_eq!(ascii("{\"a\":1}".to_owned()), "{\"a\":1}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(texts in prop::collection::vec(any::<String>(), 1..20), first in 0..2_000_u64) {
            let written: Vec<Bytes> = texts
                .iter()
                .map(|text| ascii(serde_json::to_string(text).unwrap()).into())
                .collect();
            let chunk = arrays(first, written.iter());
            let read = read(std::str::from_utf8(&chunk).unwrap());
            let expected: Vec<_> = (first..).zip(texts.into_iter().map(serde_json::Value::from)).collect();
            prop_assert_eq!(read, expected);
        }
    }
}
