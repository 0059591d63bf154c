//! The front for what operators ask of a running server: decode, one call of a service, encode. Backups are in `backup`.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use watchfire_engine::check::{Example, Fault, Repaired, Report};
use watchfire_model::DatabaseName;
use watchfire_wire::pb::watchfire;
use watchfire_wire::pb::watchfire::admin_server::{Admin, AdminServer};

use crate::databases::Databases;
use crate::error::Error;
use crate::front::backup::Backups;
use crate::service::check::{self, Checked};
use crate::status::REQUEST_SIZE_MAX;

/// Checks that one server does at the same time. Each reads a whole database; a further one is refused.
const CHECKS_MAX: usize = 1;

/// The service, for the transport. Checks end when `shutdown` is cancelled.
pub fn service(
    databases: Arc<Databases>,
    backups: Backups,
    shutdown: CancellationToken,
) -> AdminServer<Checks> {
    AdminServer::new(Checks {
        databases,
        backups,
        shutdown,
        running: Semaphore::new(CHECKS_MAX),
    })
    .max_decoding_message_size(REQUEST_SIZE_MAX)
}

/// The methods of the service.
pub struct Checks {
    databases: Arc<Databases>,
    backups: Backups,
    shutdown: CancellationToken,
    running: Semaphore,
}

#[tonic::async_trait]
impl Admin for Checks {
    async fn check(
        &self,
        request: Request<watchfire::CheckRequest>,
    ) -> Result<Response<watchfire::CheckResponse>, Status> {
        let watchfire::CheckRequest { database, repair } = request.into_inner();
        let name = DatabaseName::parse(&database).map_err(Error::from)?;
        let _running = self.running.try_acquire().map_err(|_| check::busy())?;
        let database = self.databases.get(&name).await?;
        let checked = check::run(&database, repair, &self.shutdown).await?;
        Ok(Response::new(encode_checked(checked)))
    }

    async fn backup(
        &self,
        request: Request<watchfire::BackupRequest>,
    ) -> Result<Response<watchfire::BackupResponse>, Status> {
        self.backups.backup(request).await
    }
}

fn encode_checked(checked: Checked) -> watchfire::CheckResponse {
    let Checked { found, repaired } = checked;
    let (repaired, left) = repaired.unzip();
    watchfire::CheckResponse {
        found: Some(encode_report(found)),
        repaired: repaired
            .map(|Repaired { put, deleted }| watchfire::CheckRepaired { put, deleted }),
        left: left.map(encode_report),
    }
}

fn encode_report(report: Report) -> watchfire::CheckReport {
    let Report {
        documents,
        entries,
        missing,
        wrong,
        surplus,
        unreadable,
        examples,
    } = report;
    watchfire::CheckReport {
        documents,
        entries,
        missing,
        wrong,
        surplus,
        unreadable,
        examples: examples.into_iter().map(encode_example).collect(),
    }
}

fn encode_example(example: Example) -> watchfire::CheckExample {
    use watchfire::check_example::Fault as Said;
    let Example {
        fault,
        document,
        index,
        key,
    } = example;
    let fault = match fault {
        Fault::Missing => Said::Missing,
        Fault::Wrong => Said::Wrong,
        Fault::Surplus => Said::Surplus,
        Fault::Unreadable => Said::Unreadable,
    };
    watchfire::CheckExample {
        fault: fault.into(),
        document: document.map_or_else(String::new, |path| path.to_string()),
        index,
        key: key.to_vec(),
    }
}
