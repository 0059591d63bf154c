//! Bytes on disk, by what they are for.
//!
//! Looks into a folder that nobody has open, past everything that Watchfire says of it: compacts it and asks the
//! storage engine how large each part is. The ratio is one of these documents, which hold a text: entries do not grow
//! with it, and documents of ten short fields (some 240 bytes on disk) had 1.96 bytes of indexes for each of theirs.
//! Keys begin with the database's number, four bytes, then the keyspace's byte.

use std::path::Path;

use anyhow::{Context, Result};
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, CompactOptions, DB, DBCompressionType, Options,
    Range,
};
use watchfire_engine::keyspace::Keyspace;

use super::at_most;

/// The first database of a folder.
const DATABASE: [u8; 4] = 1_u32.to_be_bytes();

pub fn print(folder: &Path, count: usize) -> Result<()> {
    // As the folder is set up: other tables would have other sizes.
    let mut table = BlockBasedOptions::default();
    table.set_block_size(16 * 1024);
    table.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    let db = DB::open(&options, folder).context("the folder opens")?;
    let mut compaction = CompactOptions::default();
    compaction.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
    db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &compaction);
    let bytes = |keyspace: Keyspace| {
        let [a, b, c, d] = DATABASE;
        let (start, end) = (
            [a, b, c, d, keyspace.byte()],
            [a, b, c, d, keyspace.byte() + 1],
        );
        db.get_approximate_sizes(&[Range::new(&start, &end)])
            .into_iter()
            .sum::<u64>() as f64
    };
    let documents = bytes(Keyspace::Document);
    let parts = [
        ("automatic indexes", Keyspace::Index),
        ("collection groups", Keyspace::Group),
        ("automatic indexes of groups", Keyspace::GroupIndex),
        ("defined indexes", Keyspace::Defined),
    ];
    println!(
        "on disk: documents {:.1} MB, {:.0} bytes each",
        documents / 1e6,
        documents / count as f64
    );
    let mut all = 0.0;
    for (name, keyspace) in parts {
        let part = bytes(keyspace);
        all += part;
        println!("on disk: {name} {:.1} MB", part / 1e6);
    }
    println!(
        "on disk: changelog {:.1} MB",
        bytes(Keyspace::Changelog) / 1e6
    );
    at_most(
        "bytes of indexes to bytes of documents of this size",
        all / documents,
        1.5,
    );
    Ok(())
}
