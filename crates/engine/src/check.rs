//! Whether index entries and documents agree, and making them agree.
