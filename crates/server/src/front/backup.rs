//! The front for backups of a running server: decode, one call of a service, encode.
//!
//! There is no access control yet: only callers on the same machine may ask for one, since it writes to the server's disk.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpConnectInfo;
use tonic::{Request, Response, Status};
use watchfire_model::Clock;
use watchfire_wire::pb::watchfire;

use crate::backup::manifest::Manifest;
use crate::error::Error;
use crate::service::backup::{self, TakeBackup};

/// Backups that one server makes at the same time. Each reads everything; a further one is refused.
const BACKUPS_MAX: usize = 1;

/// What the method needs.
pub struct Backups {
    take_backup: Arc<Option<TakeBackup>>,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
    running: Arc<Semaphore>,
}

impl Backups {
    /// `take_backup` is absent when nothing is kept. Backups end when `shutdown` is cancelled.
    pub fn new(
        take_backup: Option<TakeBackup>,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            take_backup: Arc::new(take_backup),
            clock,
            shutdown,
            running: Arc::new(Semaphore::new(BACKUPS_MAX)),
        }
    }

    /// The method.
    pub async fn backup(
        &self,
        request: Request<watchfire::BackupRequest>,
    ) -> Result<Response<watchfire::BackupResponse>, Status> {
        let peer = request.extensions().get::<TcpConnectInfo>();
        let address = peer.and_then(TcpConnectInfo::remote_addr);
        if !address.is_some_and(|address| address.ip().to_canonical().is_loopback()) {
            return Err(backup::from_elsewhere().into());
        }
        let watchfire::BackupRequest { directory } = request.into_inner();
        let running = Arc::clone(&self.running);
        let running = running.try_acquire_owned().map_err(|_| backup::busy())?;
        let take_backup = Arc::clone(&self.take_backup);
        let (now, shutdown) = (self.clock.now(), self.shutdown.clone());
        // A caller who hangs up takes nothing away from others who count on the backup.
        let task = tokio::spawn(async move {
            let _running = running;
            let take_backup = take_backup.as_ref().as_ref();
            backup::run(take_backup, PathBuf::from(directory), now, shutdown).await
        });
        let manifest = task.await.map_err(|_| Error::ShuttingDown)??;
        Ok(Response::new(encode_manifest(manifest)))
    }
}

fn encode_manifest(manifest: Manifest) -> watchfire::BackupResponse {
    let bytes = manifest.bytes();
    let databases = manifest.databases.into_iter();
    watchfire::BackupResponse {
        databases: databases
            .map(|(name, version)| watchfire::BackupDatabase { name, version })
            .collect(),
        files: manifest.files.len() as u64,
        bytes,
    }
}
