//! What whoever opens a database decides about it.

/// What happens to a query for which there is no index.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum IndexMode {
    /// It is refused with the index that it needs, as the real service does.
    Enforce,
    /// It is served by the best plan there is, and reported once for each shape of query.
    #[default]
    Advise,
    /// It is served by the best plan there is, and the missing index is defined and built meanwhile.
    Create,
}

/// Settings of one open database.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What happens to a query for which there is no index.
    pub index_mode: IndexMode,
}
