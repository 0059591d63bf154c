//! Logs made here by the format's rules, then damaged.

use super::*;

/// A log of whole records with these contents, none of which crosses a block.
fn log(contents: &[&[u8]]) -> Vec<u8> {
    let mut log = Vec::new();
    for content in contents {
        let room = BLOCK_LEN - log.len() % BLOCK_LEN;
        if room < HEADER_LEN + content.len() {
            // Fill the block with a record, so that nothing crosses.
            let filler = vec![0xee; room - HEADER_LEN];
            log.extend(record(&filler));
        }
        log.extend(record(content));
    }
    log
}

fn record(content: &[u8]) -> Vec<u8> {
    let checked = [&[1u8], content].concat();
    let sum = crc32c::crc32c(&checked)
        .rotate_right(15)
        .wrapping_add(CHECKSUM_MASK);
    [
        &sum.to_le_bytes()[..],
        &u16::try_from(content.len()).unwrap().to_le_bytes(),
        &checked,
    ]
    .concat()
}

fn check(log: &[u8], expected: Ending) {
    assert_eq!(read_log(&mut &log[..]).unwrap(), expected);
}

#[test]
fn whole_logs_are_whole() {
    check(&[], Ending::Whole);
    check(&log(&[b"one", b"two"]), Ending::Whole);
    let long = vec![1u8; 20_000];
    check(&log(&[&long, &long, &long]), Ending::Whole);
}

#[test]
fn every_cut_is_whole_or_unfinished() {
    let log = log(&[b"first content", b"second content"]);
    let border = record(b"first content").len();
    for len in 0..log.len() {
        let expected = match len {
            0 => Ending::Whole,
            _ if len == border => Ending::Whole,
            _ if len < border => Ending::Unfinished { offset: 0 },
            _ => Ending::Unfinished {
                offset: border as u64,
            },
        };
        check(&log[..len], expected);
    }
}

#[test]
fn every_damaged_byte_before_a_record_is_found() {
    let whole = log(&[b"first content", b"second content"]);
    let border = record(b"first content").len();
    for position in 0..whole.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut log = whole.clone();
            log[position] ^= mask;
            let expected = if position < border {
                Ending::Damaged { offset: 0 }
            } else {
                Ending::Unfinished {
                    offset: border as u64,
                }
            };
            check(&log, expected);
        }
    }
}

#[test]
fn damage_is_found_from_the_next_block() {
    let long = vec![1u8; 20_000];
    let mut log = log(&[&long, &long]);
    log[10] ^= 1;
    // The rest of the first block is readable.
    check(&log, Ending::Damaged { offset: 0 });
    log[20_007..BLOCK_LEN].fill(0);
    check(&log, Ending::Damaged { offset: 0 });
}

#[test]
fn zeros_at_the_end_are_unfinished() {
    let mut log = log(&[b"one"]);
    let len = log.len() as u64;
    log.extend([0; 5000]);
    check(&log, Ending::Unfinished { offset: len });
}
