//! The database as it was: the present, with what the changelog says has happened since undone.
