//! The bloom filter of existence filters: which documents still match, in a few bits for each.
//!
//! Both sides must agree to the bit: MD5 of the full name, its halves as two little-endian numbers, and double
//! hashing. MD5 guards nothing here; it only spreads names.
//! A false positive costs the listener a fresh query, never a wrong result.

use md5::{Digest, Md5};

use crate::invalid::Invalid;

/// Bytes of the largest filter that is built: 1 MiB, enough for 290,000 names at one in a million.
/// With more names false positives become more likely.
const BITMAP_BYTES_MAX: usize = 1024 * 1024;

/// Hashes for one name, at most; reached at a rate of about 1e-9.
const HASH_COUNT_MAX: i32 = 30;

/// The lowest rate of false positives that is honoured; lower ones count as this.
const FALSE_POSITIVE_RATE_MIN: f64 = 1e-9;

/// A set of names that may claim to hold what it does not hold, and never the reverse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BloomFilter {
    /// Bit `n` is in byte `n / 8` with the weight `1 << (n % 8)`.
    pub bitmap: Vec<u8>,
    /// Bits at the end of the last byte that do not count, 0 to 7.
    pub padding: i32,
    /// Bits that are set for one name.
    pub hash_count: i32,
}

impl BloomFilter {
    /// A filter of the names, sized for the rate of false positives (1e-6 is what listeners get).
    ///
    /// `names` are full: `projects/{p}/databases/{d}/documents/{path}`. No names give a filter without bits.
    pub fn new<I, S>(names: I, false_positive_rate: f64) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let hashes: Vec<_> = names.into_iter().map(|name| hash(name.as_ref())).collect();
        if hashes.is_empty() {
            return Self {
                bitmap: Vec::new(),
                padding: 0,
                hash_count: 0,
            };
        }
        let rate = false_positive_rate.clamp(FALSE_POSITIVE_RATE_MIN, 1.0);
        let bits_per_name = -rate.ln() / std::f64::consts::LN_2.powi(2);
        let wanted = (bits_per_name * hashes.len() as f64).ceil() as usize;
        let bits = wanted.clamp(1, 8 * BITMAP_BYTES_MAX);
        let best = (bits as f64 / hashes.len() as f64 * std::f64::consts::LN_2).round();
        let bytes = bits.div_ceil(8);
        let mut filter = Self {
            bitmap: vec![0; bytes],
            padding: (8 * bytes - bits) as i32,
            hash_count: (best as i32).clamp(1, HASH_COUNT_MAX),
        };
        for hash in hashes {
            for bit in filter.bits_of(hash) {
                let byte = filter
                    .bitmap
                    .get_mut(bit / 8)
                    .expect("a bit is below the bit count");
                *byte |= 1 << (bit % 8);
            }
        }
        filter
    }

    /// A filter as it was received; fails where the parts contradict one another.
    pub fn from_parts(bitmap: Vec<u8>, padding: i32, hash_count: i32) -> Result<Self, Invalid> {
        if !(0..=7).contains(&padding) {
            return Err(Invalid::new(format!(
                "The padding of a bloom filter must lie between 0 and 7, found {padding}."
            )));
        }
        if bitmap.is_empty() && padding != 0 {
            return Err(Invalid::new(format!(
                "A bloom filter without bits must have no padding, found {padding}."
            )));
        }
        if hash_count < 0 || (hash_count == 0 && !bitmap.is_empty()) {
            return Err(Invalid::new(format!(
                "The hash count of a bloom filter must be positive, found {hash_count}."
            )));
        }
        Ok(Self {
            bitmap,
            padding,
            hash_count,
        })
    }

    /// False if the name is certainly not among those of the filter.
    pub fn might_contain(&self, name: &str) -> bool {
        self.bit_count() > 0
            && self.bits_of(hash(name)).all(|bit| {
                self.bitmap
                    .get(bit / 8)
                    .is_some_and(|byte| byte & (1 << (bit % 8)) != 0)
            })
    }

    fn bit_count(&self) -> u64 {
        (8 * self.bitmap.len() as u64).saturating_sub(self.padding.unsigned_abs().into())
    }

    /// The bits of one name. The bit count must not be 0.
    fn bits_of(&self, (first, second): (u64, u64)) -> impl Iterator<Item = usize> + use<> {
        let bit_count = self.bit_count();
        (0..self.hash_count.unsigned_abs()).map(move |index| {
            let sum = first.wrapping_add(u64::from(index).wrapping_mul(second));
            (sum % bit_count) as usize
        })
    }
}

/// The halves of the MD5 of the name, each little endian.
fn hash(name: &str) -> (u64, u64) {
    let digest = u128::from_le_bytes(Md5::digest(name.as_bytes()).into());
    (digest as u64, (digest >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(number: usize) -> String {
        format!("projects/p/databases/(default)/documents/c/doc{number}")
    }

    #[test]
    fn halves_of_a_published_digest() {
        // MD5("abc") = 900150983cd24fb0 d6963f7d28e17f72.
        assert_eq!(hash("abc"), (0xb04f_d23c_9850_0190, 0x727f_e128_7d3f_96d6));
    }

    #[test]
    fn bits_of_one_name_by_hand() {
        // 29 bits: h1 mod 29 and then steps of h2 mod 2^64.
        let filter = BloomFilter::new(["abc"], 1e-6);
        assert_eq!(
            (filter.bitmap.len(), filter.padding, filter.hash_count),
            (4, 3, 20)
        );
        let mut expected = vec![0_u8; 4];
        let (mut hash, step) = (0xb04f_d23c_9850_0190_u64, 0x727f_e128_7d3f_96d6_u64);
        for _ in 0..20 {
            let bit = (hash % 29) as usize;
            expected[bit / 8] |= 1 << (bit % 8);
            hash = hash.wrapping_add(step);
        }
        assert_eq!(filter.bitmap, expected);
    }

    #[test]
    fn false_positives_are_as_rare_as_asked() {
        let filter = BloomFilter::new((0..1_000).map(name), 0.01);
        let wrong = (1_000..11_000)
            .filter(|number| filter.might_contain(&name(*number)))
            .count();
        assert!((50..200).contains(&wrong), "{wrong} of 10000");
        let strict = BloomFilter::new((0..1_000).map(name), 1e-6);
        assert!((1_000..11_000).all(|number| !strict.might_contain(&name(number))));
    }

    /// Computed by another program, in another language, from the published rules: bytes, padding, hashes, and the MD5 of
    /// the bitmap.
    #[test]
    fn filters_of_many_sizes_are_the_same_to_the_bit() {
        for (names, rate, bytes, padding, hash_count, digest) in [
            (1, 1e-6, 4, 3, 20, "f2dffdd173737638be2a4deae7540a71"),
            (2, 1e-6, 8, 6, 20, "148e34000c0b5d9a118fad3fbf50ddb0"),
            (3, 1e-6, 11, 1, 20, "fae5880eeba5466a45bc8e86c7a6b8e8"),
            (3, 0.01, 4, 3, 7, "1ebe11139f58285c322fe23a0790ca9d"),
            (500, 1.0, 1, 7, 1, "55a54008ad1ba589aa210d2629c1df41"),
            (500, 0.01, 600, 7, 7, "369ba2c7c24daad349b9a61cc192beaf"),
            (500, 1e-4, 1_199, 6, 13, "16f8b1ee1dcb7d3b0374946381c7e798"),
            (
                5_000,
                1e-6,
                17_972,
                0,
                20,
                "f6ca0c064af020f3fedf1acb2a991a13",
            ),
        ] {
            let filter = BloomFilter::new((0..names).map(name), rate);
            let found = (filter.bitmap.len(), filter.padding, filter.hash_count);
            assert_eq!(found, (bytes, padding, hash_count), "{names} at {rate}");
            assert_eq!(
                format!(
                    "{:032x}",
                    u128::from_be_bytes(Md5::digest(&filter.bitmap).into())
                ),
                digest,
                "{names} at {rate}"
            );
        }
    }

    #[test]
    fn no_names_no_bits() {
        let filter = BloomFilter::new(Vec::<String>::new(), 1e-6);
        assert_eq!(BloomFilter::from_parts(Vec::new(), 0, 0).unwrap(), filter);
        assert!(!filter.might_contain("a"));
    }

    #[test]
    fn contradictions_are_refused() {
        for (bitmap, padding, hash_count) in [
            (vec![1], 8, 1),
            (vec![1], -1, 1),
            (vec![], 1, 1),
            (vec![1], 0, 0),
            (vec![1], 0, -1),
        ] {
            assert!(BloomFilter::from_parts(bitmap, padding, hash_count).is_err());
        }
        assert!(BloomFilter::from_parts(vec![1], 7, 1).is_ok());
    }

    proptest! {
        #[test]
        fn what_was_put_in_is_found(
            names in prop::collection::vec("[a-z/é]{0,20}", 1..60),
            rate in prop::sample::select(vec![0.0, 1e-12, 1e-6, 0.01, 0.5, 1.0, 7.0]),
        ) {
            let filter = BloomFilter::new(&names, rate);
            let parts = BloomFilter::from_parts(filter.bitmap.clone(), filter.padding, filter.hash_count);
            prop_assert_eq!(parts.as_ref(), Ok(&filter));
            for name in &names {
                prop_assert!(filter.might_contain(name));
            }
        }
    }
}
