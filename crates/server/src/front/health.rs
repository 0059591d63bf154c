//! Health for those who watch the server: `GET /health` beside the protocol, and the gRPC health service.
//!
//! Both say "well" only when nothing is wrong, so that nobody overlooks that writes are refused.
//! Whoever only wants to know whether to send requests at all asks the gRPC service by the protocol's name, which is well as long as reads are answered.

use http::{Response, StatusCode};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthProtocol, HealthServer};
use tonic_health::server::HealthReporter;

use crate::front::pages::{self, Page};
use crate::health::{Health, Standing};

/// The whole server, in the words of the gRPC health protocol.
const SERVER: &str = "";

/// The service whose health is that of reads.
const PROTOCOL: &str = "google.firestore.v1.Firestore";

/// The gRPC health service, and the task that keeps it up to date until `shutdown`, when it says that nothing is
/// served any more, and ends the streams of those who watch: the server would wait for them.
pub fn service(
    mut health: Health,
    shutdown: CancellationToken,
) -> (
    HealthServer<impl HealthProtocol>,
    impl Future<Output = ()> + Send + 'static,
) {
    let (mut reporter, service) = tonic_health::server::health_reporter();
    let follow = async move {
        loop {
            let (standing, _) = health.standing();
            tell(&reporter, standing == Standing::Ok, standing.reads()).await;
            tokio::select! {
                () = health.changed() => {}
                () = shutdown.cancelled() => {
                    tell(&reporter, false, false).await;
                    for watched in [SERVER, PROTOCOL] {
                        reporter.clear_service_status(watched).await;
                    }
                    return;
                }
            }
        }
    };
    (service, follow)
}

async fn tell(reporter: &HealthReporter, well: bool, reads: bool) {
    let status = |serving| match serving {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    };
    reporter.set_service_status(SERVER, status(well)).await;
    reporter.set_service_status(PROTOCOL, status(reads)).await;
}

/// How the server stands, at `/health`.
pub fn page(health: Health) -> Page {
    Page::new("/health", move || std::future::ready(answer(&health)))
}

fn answer(health: &Health) -> Response<Body> {
    let (standing, reason) = health.standing();
    let text = match reason {
        Some(reason) => serde_json::json!({ "status": standing.name(), "reason": reason }),
        None => serde_json::json!({ "status": standing.name() }),
    };
    let mut answer = pages::text("application/json", text.to_string());
    *answer.status_mut() = match standing {
        Standing::Ok => StatusCode::OK,
        Standing::Damaged | Standing::ReadOnly | Standing::Unavailable => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    answer
}
