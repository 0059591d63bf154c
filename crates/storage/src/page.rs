//! `Page`: what one range read brings, and the filling of it up to its two limits.
//!
//! Every store fills its pages here, so that all stop at the same entry.

use bytes::Bytes;

/// Bytes of keys and values after which a page ends even if its limit of entries is not reached.
///
/// The first entry of a page is returned whatever its size, so that a scan always moves on.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One page of a range scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the direction of the scan.
    pub entries: Vec<(Bytes, Bytes)>,
    /// Whether the range goes on after the last entry.
    pub more: bool,
}

/// A page that is being filled.
pub(crate) struct PageFill {
    page: Page,
    limit: usize,
    bytes: usize,
}

impl PageFill {
    /// An empty page for at most `limit` entries.
    ///
    /// # Panics
    ///
    /// If `limit` is 0: such a page could not say where the scan goes on.
    pub(crate) fn new(limit: usize) -> Self {
        assert!(limit > 0, "a page must have room for at least one entry");
        Self {
            page: Page::default(),
            limit,
            bytes: 0,
        }
    }

    /// Whether an entry of `size` bytes still fits. If not, the page is marked as having more.
    pub(crate) fn has_room(&mut self, size: usize) -> bool {
        let first = self.page.entries.is_empty();
        let fits = first
            || (self.page.entries.len() < self.limit
                && self.bytes.saturating_add(size) <= PAGE_BYTES_MAX);
        if !fits {
            self.page.more = true;
        }
        fits
    }

    /// Adds an entry for which there was room.
    pub(crate) fn push(&mut self, key: Bytes, value: Bytes) {
        self.bytes = self
            .bytes
            .saturating_add(key.len())
            .saturating_add(value.len());
        self.page.entries.push((key, value));
    }

    /// The page.
    pub(crate) fn finish(self) -> Page {
        self.page
    }
}
