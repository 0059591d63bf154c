//! Packing answers for those who ask for it, and unpacking what was sent packed.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use http::{HeaderMap, header};

/// Answers that are shorter, in bytes, are not packed: it would not make them shorter.
pub const PACKED_LEN_MIN: usize = 1_024;

/// Whether the caller reads packed answers.
pub fn is_accepted(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|accepted| accepted.to_str().ok())
        .flat_map(|accepted| accepted.split(','))
        .any(|one| {
            let mut words = one.split(';').map(str::trim);
            let named = matches!(words.next(), Some("gzip" | "x-gzip" | "*"));
            named && !words.any(|word| matches!(word, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        })
}

/// The bytes that were packed. The reader bounds them.
pub fn unpack(packed: &[u8]) -> impl Read {
    MultiGzDecoder::new(packed)
}

/// Packs an answer piece by piece; each can be unpacked when it arrives.
pub struct Packer(GzEncoder<Vec<u8>>);

impl Packer {
    pub fn new() -> Self {
        Self(GzEncoder::new(Vec::new(), Compression::fast()))
    }

    /// One piece, packed.
    pub fn piece(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(piece)?;
        self.0.flush()?;
        Ok(std::mem::take(self.0.get_mut()))
    }

    /// What follows the last piece.
    pub fn end(self) -> io::Result<Vec<u8>> {
        self.0.finish()
    }
}

/// A whole answer, packed.
pub fn pack(answer: &[u8]) -> io::Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(answer)?;
    packer.finish()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn pieces_can_be_unpacked_as_they_come() {
        let mut packer = Packer::new();
        let mut packed = packer.piece(b"one ").unwrap();
        let mut text = [0; 4];
        unpack(&packed).read_exact(&mut text).unwrap();
        assert_eq!(&text, b"one ");
        packed.extend(packer.piece(b"two").unwrap());
        packed.extend(packer.end().unwrap());
        let mut text = String::new();
        unpack(&packed).read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two");
    }

    #[test]
    fn who_asks_for_it() {
        let accepted = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(text));
            is_accepted(&headers)
        };
        for text in ["gzip", "br, gzip;q=0.5", "*", "deflate,gzip"] {
            assert!(accepted(text), "{text}");
        }
        for text in ["", "br", "gzip;q=0", "deflate, gzip; q=0.0"] {
            assert!(!accepted(text), "{text}");
        }
    }
}
