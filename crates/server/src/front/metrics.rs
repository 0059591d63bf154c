//! `GET /metrics` beside the protocol on the same port, or on the port of `--admin-listen`.

use std::sync::Arc;

use crate::databases::Databases;
use crate::front::pages::{Page, text};
use crate::health::Health;
use crate::metrics::listen::Listened;
use crate::metrics::{self, Wanted};

/// What is counted, at `/metrics`.
pub fn page(databases: Arc<Databases>, health: Health) -> Page {
    Page::new("/metrics", move || {
        let databases = Arc::clone(&databases);
        let condition = health.condition();
        async move {
            let wanted = wanted(&databases).await;
            let listened = listened(&databases);
            let rendered = metrics::render(databases.metrics(), wanted, listened, condition);
            text(metrics::CONTENT_TYPE, rendered)
        }
    })
}

/// What every open database that was listened to counts of it.
fn listened(databases: &Databases) -> Vec<Listened> {
    let opened = databases.opened().into_iter().map(|database| Listened {
        database: database.name.to_string(),
        counters: database.hub.counters(),
    });
    opened
        .filter(|listened| listened.counters.streams_opened.get() > 0)
        .collect()
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
