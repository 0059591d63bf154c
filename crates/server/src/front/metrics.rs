//! `GET /metrics` beside the protocol, on the same port.

use std::sync::Arc;

use crate::databases::Databases;
use crate::front::pages::{Page, text};
use crate::health::Health;
use crate::metrics::{self, Wanted};

/// What is counted, at `/metrics`.
pub fn page(databases: Arc<Databases>, health: Health) -> Page {
    Page::new("/metrics", move || {
        let databases = Arc::clone(&databases);
        let condition = health.condition();
        async move {
            let wanted = wanted(&databases).await;
            let rendered = metrics::render(databases.metrics(), wanted, condition);
            text(metrics::CONTENT_TYPE, rendered)
        }
    })
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
