//! `GET /metrics` beside the protocol, on the same port.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, header};
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::databases::Databases;
use crate::health::Health;
use crate::metrics::{self, Wanted};

const PATH: &str = "/metrics";

/// Puts `Collected` around a service.
#[derive(Clone)]
pub struct MetricsLayer {
    databases: Arc<Databases>,
    health: Health,
}

impl MetricsLayer {
    pub fn new(databases: Arc<Databases>, health: Health) -> Self {
        Self { databases, health }
    }
}

impl<S> Layer<S> for MetricsLayer {
    type Service = Collected<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Collected {
            inner,
            databases: Arc::clone(&self.databases),
            health: self.health.clone(),
        }
    }
}

/// A service whose counts can be collected.
#[derive(Clone)]
pub struct Collected<S> {
    inner: S,
    databases: Arc<Databases>,
    health: Health,
}

impl<S> Service<Request<Body>> for Collected<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != PATH || request.method() != Method::GET {
            return Box::pin(self.inner.call(request));
        }
        let databases = Arc::clone(&self.databases);
        let condition = self.health.condition();
        Box::pin(async move {
            let text = metrics::render(databases.metrics(), wanted(&databases).await, condition);
            let mut answer = Response::new(Body::new(text));
            answer.headers_mut().insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static(metrics::CONTENT_TYPE),
            );
            Ok(answer)
        })
    }
}

/// What every open database wants. One that cannot be read just now is left out.
async fn wanted(databases: &Databases) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for database in databases.opened() {
        if let Ok(missing) = database.engine.missing_indexes().await {
            wanted.push(Wanted {
                database: database.name.to_string(),
                queries: missing.queries,
                shapes: missing.shapes.len() as u64,
            });
        }
    }
    wanted
}
