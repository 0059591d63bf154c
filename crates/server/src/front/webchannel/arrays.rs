//! What goes to the client: arrays, numbered through the session and kept until it says that it has them.

use std::collections::VecDeque;

use bytes::Bytes;

use super::complaint::Complaint;
use super::framing;

/// Arrays that are not acknowledged, and the bytes of their texts, past which the service is not asked for more.
pub const KEPT_MAX: usize = 4_096;
/// See `KEPT_MAX`.
pub const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of texts past which a chunk is not made longer.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// The arrays of one session. The array with id 0 is the answer to the handshake and never among them.
#[derive(Debug)]
pub struct Arrays {
    /// Not acknowledged, in order. The texts may be shared with other sessions.
    kept: VecDeque<Bytes>,
    /// Of all texts in `kept`.
    kept_bytes: usize,
    /// The id of the first in `kept`.
    first_id: u64,
    /// How many of `kept` were sent on the present back channel, and the bytes of their texts.
    sent: usize,
    sent_bytes: usize,
    /// The highest id that was ever sent.
    last_sent: u64,
}

impl Default for Arrays {
    fn default() -> Self {
        Self {
            kept: VecDeque::new(),
            kept_bytes: 0,
            first_id: 1,
            sent: 0,
            sent_bytes: 0,
            last_sent: 0,
        }
    }
}

impl Arrays {
    /// Appends a message, whose text is JSON in ASCII.
    pub fn push(&mut self, text: Bytes) {
        self.kept_bytes += text.len();
        self.kept.push_back(text);
    }

    /// The client has all arrays up to this id. An id below others that it has acknowledged is an old request and means
    /// nothing.
    pub fn acknowledge(&mut self, id: u64) -> Result<(), Complaint> {
        if id > self.last_sent {
            return Err(Complaint::bad(format!(
                "expected an AID of at most {}, found {id}",
                self.last_sent
            )));
        }
        while self.first_id <= id {
            let Some(text) = self.kept.pop_front() else {
                break;
            };
            self.first_id += 1;
            self.kept_bytes -= text.len();
            if self.sent > 0 {
                self.sent -= 1;
                self.sent_bytes -= text.len();
            }
        }
        if self.kept.is_empty() {
            // A large first result was here once.
            self.kept = VecDeque::new();
        }
        Ok(())
    }

    /// There is a new back channel: whatever is not acknowledged is sent again. Returns how many arrays that are.
    pub fn rewind(&mut self) -> usize {
        self.sent_bytes = 0;
        std::mem::take(&mut self.sent)
    }

    /// What was not sent on the present back channel, up to a bound; `None` when all was.
    pub fn chunk(&mut self) -> Option<Bytes> {
        let mut count = 0;
        let mut bytes = 0;
        for text in self.kept.iter().skip(self.sent) {
            if bytes >= CHUNK_BYTES_MAX {
                break;
            }
            count += 1;
            bytes += text.len();
        }
        if count == 0 {
            return None;
        }
        let first_id = self.first_id + wide(self.sent);
        let chunk = framing::arrays(first_id, self.kept.range(self.sent..self.sent + count));
        self.sent += count;
        self.sent_bytes += bytes;
        self.last_sent = self.last_sent.max(first_id + wide(count) - 1);
        Some(chunk)
    }

    /// Whether more may be taken from the service.
    pub fn has_room(&self) -> bool {
        self.kept.len() < KEPT_MAX && self.kept_bytes < KEPT_BYTES_MAX
    }

    /// Bytes of texts that are to be sent.
    pub fn unsent_bytes(&self) -> usize {
        self.kept_bytes - self.sent_bytes
    }

    /// Bytes of texts that were sent and not acknowledged.
    pub fn outstanding_bytes(&self) -> usize {
        self.sent_bytes
    }

    /// Whether the client has said that it has everything.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The highest id that was ever sent.
    pub fn last_sent(&self) -> u64 {
        self.last_sent
    }

    /// Bytes of texts that are kept.
    pub fn bytes_kept(&self) -> usize {
        self.kept_bytes
    }
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
