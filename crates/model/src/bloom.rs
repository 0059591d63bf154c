//! The bloom filter of existence filters.
