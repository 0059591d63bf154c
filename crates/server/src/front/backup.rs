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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tonic::Code;
    use watchfire_model::Timestamp;

    use super::*;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::EPOCH
        }
    }

    async fn code(peer: Option<&str>) -> Code {
        let backups = Backups::new(None, Arc::new(Still), CancellationToken::new());
        let mut request = Request::new(watchfire::BackupRequest::default());
        if let Some(peer) = peer {
            let address: SocketAddr = peer.parse().unwrap();
            request.extensions_mut().insert(TcpConnectInfo {
                local_addr: None,
                remote_addr: Some(address),
            });
        }
        backups.backup(request).await.unwrap_err().code()
    }

    #[tokio::test]
    async fn only_the_same_machine_may_ask() {
        // There is nothing to back up, which is said to those who may ask.
        for peer in ["127.0.0.1:7", "[::1]:7", "[::ffff:127.0.0.1]:7"] {
            assert_eq!(code(Some(peer)).await, Code::FailedPrecondition, "{peer}");
        }
        for peer in ["192.0.2.1:7", "[2001:db8::1]:7", "[::ffff:192.0.2.1]:7"] {
            assert_eq!(code(Some(peer)).await, Code::PermissionDenied, "{peer}");
        }
        assert_eq!(code(None).await, Code::PermissionDenied);
    }
}
