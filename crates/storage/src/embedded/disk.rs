//! The disk below a folder: how much of it is free, whether that is enough, and whether it can be written to.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::batch::Operation;

/// The file by which it is tried whether the folder can be written to. It is there for a moment only.
pub(crate) const PROBE_FILE: &str = "DISK-PROBE";

/// What is written to it, in bytes.
const PROBE_BYTES: usize = 1 << 20;

/// Bytes that may still be written in the directory; `None` where the system cannot tell.
pub(crate) fn free_bytes(directory: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let disk = rustix::fs::statvfs(directory).ok()?;
        // Some file systems have no fixed size, and say that they have none at all.
        (disk.f_blocks > 0).then(|| disk.f_bavail.saturating_mul(disk.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = directory;
        None
    }
}

/// Writes a file in the directory, flushes it and removes it again.
pub(crate) fn probe(directory: &Path) -> std::io::Result<()> {
    let path = directory.join(PROBE_FILE);
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&vec![0xa5; PROBE_BYTES])?;
        file.sync_all()
    });
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}

/// Bytes of keys and values that a batch may put and still be a relief: enough for a small fact beside what it deletes,
/// as trimming notes how far it has come. Every commit puts more, since it is remembered.
const RELIEF_PUT_BYTES_MAX: usize = 32;

impl Load {
    /// What the operations do.
    pub(crate) fn of(operations: &[Operation]) -> Self {
        let put = operations.iter().map(|operation| match operation {
            Operation::Put { key, value } => key.len().saturating_add(value.len()),
            Operation::Delete { .. } => 0,
        });
        if put.fold(0, usize::saturating_add) <= RELIEF_PUT_BYTES_MAX {
            Load::Relief
        } else {
            Load::Growth
        }
    }
}

/// Whether enough of the disk is free. A full disk is not waited for: the last of it is kept for what must be
/// possible then, which is opening the folder again, trimming, and compacting what was deleted.
#[derive(Debug)]
pub(crate) struct Headroom {
    /// Below this, writes are refused.
    min: u64,
    low: bool,
    free_bytes: Option<u64>,
}

/// What a batch does to the disk, as far as one can tell.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// It puts hardly anything (`RELIEF_PUT_BYTES_MAX`) beside what it deletes, as trimming does, or moves the head:
    /// space will come back, or hardly any is taken.
    Relief,
    /// Anything else, also commits that delete documents: the changelog remembers those for a time.
    Growth,
}

impl Headroom {
    pub(crate) fn new(min: u64) -> Self {
        Self {
            min,
            low: false,
            free_bytes: None,
        }
    }

    /// Takes what is free now. Once refusing, an eighth more than the bound is wanted before it ends, so that it
    /// does not come and go with every file.
    pub(crate) fn measured(&mut self, free_bytes: Option<u64>) {
        self.free_bytes = free_bytes;
        let enough = if self.low {
            self.min.saturating_add(self.min / 8)
        } else {
            self.min
        };
        self.low = free_bytes.is_some_and(|free| free < enough);
    }

    /// That it refuses growth and why, in words that stay the same for as long as it does.
    pub(crate) fn shortage(&self, directory: &Path) -> Option<String> {
        self.low.then(|| {
            format!(
                "the disk is full: fewer than {} bytes are free for {}",
                self.min,
                directory.display()
            )
        })
    }

    /// Why such a batch is refused. What relieves is let through until half of the bound is used up.
    pub(crate) fn refusal(&self, load: Load, directory: &Path) -> Option<String> {
        let free = self.free_bytes.filter(|_| self.low)?;
        if load == Load::Relief && free >= self.min / 2 {
            return None;
        }
        Some(format!(
            "the disk is full: {free} bytes are free for {}, {} are needed",
            directory.display(),
            self.min.saturating_add(self.min / 8)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusing_begins_at_the_bound_and_ends_an_eighth_above() {
        let mut headroom = Headroom::new(800);
        let mut check = |free, growth: bool, relief: bool| {
            headroom.measured(free);
            let refused = |load| headroom.refusal(load, Path::new("/data")).is_some();
            assert_eq!(
                (refused(Load::Growth), refused(Load::Relief)),
                (growth, relief),
                "{free:?}"
            );
        };
        check(Some(800), false, false);
        check(Some(799), true, false);
        check(Some(400), true, false);
        check(Some(399), true, true);
        check(Some(800), true, false);
        check(Some(899), true, false);
        check(Some(900), false, false);
        check(Some(850), false, false);
        check(Some(0), true, true);
        // A system that cannot tell refuses nothing.
        check(None, false, false);
    }

    #[test]
    fn a_refusal_says_how_much_is_wanted() {
        let mut headroom = Headroom::new(800);
        headroom.measured(Some(7));
        assert_eq!(
            headroom.refusal(Load::Growth, Path::new("/data")).unwrap(),
            "the disk is full: 7 bytes are free for /data, 900 are needed"
        );
    }

    #[test]
    fn a_probe_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        probe(directory.path()).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(probe(&directory.path().join("missing")).is_err());
        assert!(free_bytes(directory.path()).unwrap() > 0);
    }
}
