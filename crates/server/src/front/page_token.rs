//! Page tokens: a position in a listing, bound to the request that it belongs to.
//!
//! A token is not a secret and grants nothing; the binding keeps a caller from continuing one listing
//! with the token of another, which would silently skip documents.

use prost::Message;
use watchfire_model::{Invalid, Value};
use watchfire_wire::pb;
use watchfire_wire::value::{decode_value, encode_value};

use crate::error::Error;

/// The token for a position in the listing that `request` describes.
pub fn encode(request: &[&str], position: &[Value]) -> String {
    let position = pb::ArrayValue {
        values: position.iter().map(encode_value).collect(),
    };
    let bytes = [
        fingerprint(request).to_be_bytes().to_vec(),
        position.encode_to_vec(),
    ]
    .concat();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The position in a token; `None` for the empty token, which begins a listing.
pub fn decode(request: &[&str], token: &str) -> Result<Option<Vec<Value>>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let invalid = || Error::Refused(Invalid::new("Invalid page token.").into());
    let bytes = unhex(token).ok_or_else(invalid)?;
    let (bound, position) = bytes.split_first_chunk::<8>().ok_or_else(invalid)?;
    if u64::from_be_bytes(*bound) != fingerprint(request) {
        return Err(Error::invalid(
            "Invalid page token: it belongs to another request.",
        ));
    }
    let pb::ArrayValue { values } = pb::ArrayValue::decode(position).map_err(|_| invalid())?;
    let position: Result<Vec<Value>, _> = values.into_iter().map(decode_value).collect();
    Ok(Some(position?))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| {
            digit
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        })
        .collect();
    let digits = digits?;
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs
        .map(|pair| pair.iter().copied().reduce(|high, low| high * 16 + low))
        .collect()
}

/// FNV-1a over the parts, each ended by a byte that no text contains. Stable, so that tokens outlive a restart.
fn fingerprint(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_back_to_its_position_and_no_further() {
        let position = [Value::Integer(7), Value::String("é".to_owned())];
        let token = encode(&["a", "b"], &position);
        let found = decode(&["a", "b"], &token).unwrap().unwrap();
        assert_eq!(format!("{found:?}"), format!("{position:?}"));
        assert!(decode(&["a", "b"], "").unwrap().is_none());
        assert!(decode(&["ab", ""], &token).is_err());
        for rubbish in ["x", "0", "00", "é", &token[..token.len() - 2]] {
            assert!(decode(&["a", "b"], rubbish).is_err(), "{rubbish}");
        }
    }
}
