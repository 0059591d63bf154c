//! `watchfire indexes`: makes a running server have the indexes of a file, or prints them.
//!
//! New indexes are built before old ones are deleted, so that no query loses its index in between; unless nobody
//! wants to wait, then they are only defined before.
//! Nothing is deleted without a yes: from a person at a terminal, or from `--force`.

use std::io::{self, Write};
use std::time::Duration;

use watchfire_model::Invalid;
use watchfire_wire::admin::OperationProgress;

use crate::client::connect::RemoteError;
use crate::client::indexes::RemoteDatabase;
use crate::config::{DeployIndexes, Remote};
use crate::indexes::file::{self, FileError};
use crate::indexes::set::{Changes, FieldWord};

/// How often a server is asked how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Which database is meant is not clear.
    #[error(transparent)]
    Database(#[from] Invalid),
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The server could not be asked, or refused.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Something would be lost, and nobody can be asked.
    #[error(
        "{losses} of what the server has would be lost (marked - and ~); nothing was done. Repeat with --force to agree"
    )]
    NotAgreed { losses: usize },
    /// The person said no.
    #[error("nothing was done")]
    Declined,
    /// The server refused one change; those before it were made.
    #[error("{change}: {error}; {made} changes were made before it, and stay")]
    Change {
        change: String,
        error: RemoteError,
        made: usize,
    },
    /// Some work on the server did not end well.
    #[error("{count} of the changes failed on the server")]
    Failed { count: usize },
    /// The terminal could not be written or read.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

/// Where results and remarks go, and whether a person can be asked.
pub struct Console<O, R> {
    out: O,
    remarks: R,
    interactive: bool,
}

impl<O: Write, R: Write> Console<O, R> {
    /// `out` gets what was asked for, `remarks` questions and progress.
    pub fn new(out: O, remarks: R, interactive: bool) -> Self {
        Self {
            out,
            remarks,
            interactive,
        }
    }

    /// What was written as results.
    pub fn into_out(self) -> O {
        self.out
    }

    /// Asks at the terminal. Waits as long as the person does; nothing else happens meanwhile.
    fn ask(&mut self, question: &str) -> io::Result<bool> {
        write!(self.remarks, "{question} [y/N] ")?;
        self.remarks.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

/// Prints the indexes of a database as a file.
pub async fn list<O: Write, R: Write>(
    remote: Remote,
    console: &mut Console<O, R>,
) -> Result<(), CommandError> {
    let name = remote.database()?;
    let mut database = RemoteDatabase::connect(&remote.asked, name).await?;
    let found = database.find().await?;
    write!(console.out, "{}", file::print(&found.set))?;
    if found.creating > 0 {
        writeln!(
            console.remarks,
            "{} of them are still being built",
            found.creating
        )?;
    }
    Ok(())
}

/// Shows what a file changes, and changes it.
pub async fn deploy<O: Write, R: Write>(
    deploy: DeployIndexes,
    console: &mut Console<O, R>,
) -> Result<(), CommandError> {
    let DeployIndexes {
        file,
        remote,
        force,
        dry_run,
        no_wait,
    } = deploy;
    let name = remote.database()?;
    let wanted = file::read(&file)?;
    let mut database = RemoteDatabase::connect(&remote.asked, name.clone()).await?;
    let found = database.find().await?;
    let changes = Changes::between(&found.set, &wanted);
    writeln!(console.out, "{name} on {}", remote.asked.server)?;
    write!(console.out, "{changes}")?;
    if changes.is_empty() {
        writeln!(console.out, "Nothing to change")?;
        return Ok(());
    }
    if dry_run {
        writeln!(console.out, "Nothing was done (--dry-run)")?;
        return Ok(());
    }
    let losses = changes.losses();
    if losses > 0 && !force {
        if !console.interactive {
            return Err(CommandError::NotAgreed { losses });
        }
        if !console.ask(&format!(
            "{losses} of what the server has would be lost. Go on?"
        ))? {
            return Err(CommandError::Declined);
        }
    }
    let mut started = Vec::new();
    let mut made = 0;
    let failed = |change: String, made| {
        move |error| CommandError::Change {
            change,
            error,
            made,
        }
    };
    for definition in &changes.added {
        let change = format!("index {} {definition}", definition.group());
        let created = database.create(definition).await;
        started.push(created.map_err(failed(change, made))?);
        made += 1;
    }
    for (key, indexes) in changes.fields_added.iter().chain(&changes.fields_changed) {
        let indexes = indexes.iter().copied().collect();
        let updated = database.update(key, Some(indexes)).await;
        started.push(updated.map_err(failed(format!("field {}", FieldWord(key)), made))?);
        made += 1;
    }
    if !no_wait {
        wait(&mut database, std::mem::take(&mut started), console).await?;
    }
    for definition in &changes.removed {
        if let Some(name) = found.names.get(definition) {
            let deleted = database.delete(name).await;
            deleted.map_err(failed(format!("index {name}"), made))?;
            made += 1;
        }
    }
    for (key, _) in &changes.fields_removed {
        let updated = database.update(key, None).await;
        started.push(updated.map_err(failed(format!("field {}", FieldWord(key)), made))?);
        made += 1;
    }
    if no_wait {
        writeln!(console.out, "Started; indexes are used once they are built")?;
        return Ok(());
    }
    wait(&mut database, started, console).await?;
    writeln!(console.out, "Done")?;
    Ok(())
}

/// Waits until all operations have ended, and says how far they are.
async fn wait<O: Write, R: Write>(
    database: &mut RemoteDatabase,
    mut operations: Vec<OperationProgress>,
    console: &mut Console<O, R>,
) -> Result<(), CommandError> {
    let mut shown = false;
    loop {
        for operation in operations.iter_mut().filter(|operation| !operation.done) {
            let name = operation.name.clone();
            *operation = database.operation(&name).await?;
        }
        let building = operations
            .iter()
            .filter(|operation| !operation.done)
            .count();
        if console.interactive && (shown || building > 0) {
            let done: u64 = operations.iter().map(|all| all.documents_done).sum();
            let estimated: u64 = operations.iter().map(|all| all.documents_estimated).sum();
            // Over what was there before; the estimate may have been too low.
            write!(
                console.remarks,
                "\r\x1b[K{building} in work, {done} of about {} documents",
                estimated.max(done)
            )?;
            console.remarks.flush()?;
            shown = true;
        }
        if building == 0 {
            break;
        }
        tokio::time::sleep(PROGRESS_INTERVAL).await;
    }
    if shown {
        writeln!(console.remarks)?;
    }
    let mut count = 0;
    for operation in &operations {
        if let Some(failure) = &operation.failure {
            writeln!(console.remarks, "{}: {failure}", operation.name)?;
            count += 1;
        }
    }
    if count > 0 {
        return Err(CommandError::Failed { count });
    }
    Ok(())
}
