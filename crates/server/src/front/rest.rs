//! The protocol over plain HTTP with JSON: every request becomes the gRPC request that it stands for, and is answered by the
//! same methods, in this process.
//!
//! An address names a method of the protocol and some fields of its request; parameters name more, and a body gives the
//! rest. `routes` is the table of addresses, `template` reads one, `asked` puts a request together, and `answer` writes
//! what the method says: one message as an object, a stream of them as a list that grows while it is sent.
//!
//! What the body is called (`Content-Type`) does not matter: pages call it a text, so that browsers ask less often whether they
//! may send it.
//!
//! **Bounds.** A body has the size that a gRPC request may have, before and after it was unpacked; what comes beyond is
//! read and dropped for a while, so that the refusal is heard. Answers have no bound: a list is written in pieces as the
//! method yields, and a reader who does not read stops the method.
//!
//! **Deadlines.** Who says in `X-Server-Timeout` how many seconds it waits is told when they have passed, as over gRPC.
//!
//! # What is not done
//!
//! `fields`, which asks for parts of an answer, and `prettyPrint` are taken and have no effect: answers are whole, on one
//! line. The streams that go both ways (`Listen`, `Write`) have their own front for pages.

mod answer;
mod asked;
mod gzip;
mod routes;
mod template;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, header};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use crate::databases::Databases;
use crate::front::http::HttpFront;
use crate::front::rest::asked::Asked;
use crate::front::rest::routes::Route;
use crate::front::rest::template::Address;
use crate::front::{admin, grpc};

/// What every address begins with.
const PREFIX: &str = "/v1/";

/// The methods that answer.
pub struct Services {
    firestore: grpc::Grpc,
    admin: admin::Admin,
    operations: admin::LongRunning,
}

/// The front.
pub struct Rest {
    routes: Vec<Route>,
    services: Arc<Services>,
}

impl Rest {
    /// Waiting for operations ends when `shutdown` is cancelled.
    pub fn new(databases: &Arc<Databases>, shutdown: &CancellationToken) -> Self {
        let services = Services {
            firestore: grpc::methods(Arc::clone(databases), shutdown.clone()),
            admin: admin::methods(Arc::clone(databases)),
            operations: admin::operation_methods(Arc::clone(databases), shutdown.clone()),
        };
        Self {
            routes: routes::all(),
            services: Arc::new(services),
        }
    }

    fn answered(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let address = Address::of(path.strip_prefix(PREFIX).unwrap_or_default());
        let mut others = Vec::new();
        for route in &self.routes {
            let Some(found) = route.template.find(&address) else {
                continue;
            };
            if route.method != parts.method {
                others.push(route.method.as_str());
                continue;
            }
            let (call, body_of) = (route.call, route.body_of);
            return call(
                Arc::clone(&self.services),
                Asked::new(parts, found, body_of, body),
            );
        }
        let (status, text) = if others.is_empty() {
            let text = format!("Nothing is found at {path}.");
            (StatusCode::NOT_FOUND, text)
        } else {
            let text = format!("{} is not known at {path}.", parts.method);
            (StatusCode::METHOD_NOT_ALLOWED, text)
        };
        let mut answer = answer::nowhere(status, text);
        if let Ok(others) = HeaderValue::from_str(&others.join(", "))
            && status == StatusCode::METHOD_NOT_ALLOWED
        {
            answer.headers_mut().insert(header::ALLOW, others);
        }
        futures::future::ready(answer).boxed()
    }
}

impl HttpFront for Rest {
    fn takes(&self, request: &Request<Body>) -> bool {
        request.uri().path().starts_with(PREFIX)
    }

    fn answer(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        self.answered(request)
    }
}
