//! Every number that the protocol promises, in one place.
