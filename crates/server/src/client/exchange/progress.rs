//! Says now and then how far long work has come, and when to try again what a server could not do.

use std::io::Write;
use std::time::{Duration, Instant};

use tonic::{Code, Status};

/// Time between two lines.
const INTERVAL: Duration = Duration::from_secs(5);

/// Times that the same thing is tried without getting on.
const ATTEMPTS_MAX: u32 = 8;
/// The pause before the second try; it doubles with each.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// Lines about work that takes long; none about work that does not.
pub struct Progress<W> {
    remarks: W,
    said: Instant,
}

impl<W: Write> Progress<W> {
    /// The first line comes after `INTERVAL`.
    pub fn new(remarks: W) -> Self {
        Self {
            remarks,
            said: Instant::now(),
        }
    }

    /// `verb` so many documents. Whoever does not listen misses nothing.
    pub fn documents(&mut self, verb: &str, count: u64, of: Option<u64>) {
        if self.said.elapsed() < INTERVAL {
            return;
        }
        self.said = Instant::now();
        let _ = match of {
            Some(of) => writeln!(self.remarks, "{verb} {count} of {of} documents"),
            None => writeln!(self.remarks, "{verb} {count} documents"),
        };
    }
}

/// How often the same thing was tried.
#[derive(Debug, Default)]
pub(super) struct Attempts(u32);

impl Attempts {
    /// It has got on.
    pub fn reset(&mut self) {
        self.0 = 0;
    }

    /// Waits before it is tried again; the status comes back when that is no use.
    pub async fn again(&mut self, status: Status) -> Result<(), Status> {
        // A connection that broke has no code of its own: what happened to it is the source, which no answer has.
        let broken = std::error::Error::source(&status).is_some();
        let passing = broken
            || matches!(
                status.code(),
                Code::Unavailable
                    | Code::Aborted
                    | Code::DeadlineExceeded
                    | Code::ResourceExhausted
            );
        self.0 += 1;
        if !passing || self.0 >= ATTEMPTS_MAX {
            return Err(status);
        }
        tokio::time::sleep(PAUSE_FIRST * (1 << (self.0 - 1))).await;
        Ok(())
    }
}
