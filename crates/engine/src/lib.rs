//! Documents on ordered bytes: the handle of one database.
//!
//! # At rest
//!
//! A store knows keys and bytes. `keyspace` is the floor plan: documents, index entries, the changelog and
//! a small catalogue, each under its own first byte. `record` says how a document is written down,
//! `changelog::entry` how a commit is. Both start with a format byte, and old formats stay readable.
//!
//! One number orders everything: the **version**, microseconds since 1970. It is a commit's position, its commit
//! time, and the read time of a view. It is the clock's present or one more than the last version, whichever is
//! higher, so it never goes back, and a version that can be read is complete.
//!
//! # A write
//!
//! `Engine::stage` takes the writes (and the transaction, if there is one), `Engine::commit` hands them to the
//! **committer**, the only task of this crate and the only code that writes. It takes all commits that wait,
//! up to a bound, and makes one group of them (`commit::group`): each is checked against what happened since its
//! transaction's view (`commit::conflict`), applied on the newest state with a version of its own, and becomes
//! documents, index entries and one changelog entry. The group is one batch and one flush. Only then does the
//! **tail** move (`changelog::tail`), and only after that do the callers hear of it. While a group is flushed, the
//! next one gathers.
//!
//! A commit without a transaction reads nothing beforehand, so it cannot lose a race: its preconditions and
//! transforms are evaluated where the order is decided. A transaction that lost is `Aborted` and left nothing
//! behind. A caller who goes away does not change what becomes of the commit: the committer owns it.
//!
//! Pessimistic transactions, and retries of aborted ones, **lock** what they read (`lock`), and the older goes first. A
//! commit that a lock is in the way of goes back to its caller, who waits for its turn; the committer never does. Locks
//! only decide who waits: the check at the commit is made for everybody.
//!
//! # A read
//!
//! A `View` is one snapshot of the store. Documents are point reads, queries are planned (`planner`) over the index
//! entries and run (`execute`), listings walk the document keys (`directory`). Inside a transaction the view
//! writes down what it read, for the check at the end.
//!
//! # The past
//!
//! What a commit takes away from a key is kept until it is too old (`history`), so a view of an earlier version is a
//! snapshot like any other (`history::snapshot`), read by the same plans over the indexes that were ready then. `past`
//! says which versions may be asked for.
//!
//! # Who is told
//!
//! Nobody is called. Whoever wants to know of commits waits on `Engine::tail` and asks `entries_since`: it is
//! answered from the recent ring, else from the stored changelog, else with "too old".
//!
//! # Reading order
//!
//! `engine`, `commit`, `commit::group`, `changelog::tail`, `view`; then whatever is asked.

pub mod advice;
pub mod changelog;
pub mod check;
pub mod commit;
pub mod definition;
pub mod directory;
pub mod engine;
pub mod epoch;
pub mod error;
pub mod execute;
pub mod history;
pub mod index;
pub mod keyspace;
pub mod lock;
pub mod missing;
pub mod past;
pub mod planner;
pub mod record;
pub mod restored;
pub mod settings;
pub mod stage;
pub mod stamp;
pub mod transaction;
pub mod version;
pub mod view;

pub use changelog::entry::CommitEntry;
pub use changelog::reader::EntriesSince;
pub use commit::group::Receipt;
pub use directory::Listed;
pub use engine::Engine;
pub use error::Error;
pub use execute::ExecutionStats;
pub use lock::asked::{Asked, AskedSet, Missing};
pub use planner::IndexUsed;
pub use settings::{ConcurrencyMode, IndexMode, Settings};
pub use stage::{Staged, Start};
pub use transaction::{TransactionId, TransactionOptions};
pub use view::{QueryRun, View};
pub use watchfire_storage::Version;
