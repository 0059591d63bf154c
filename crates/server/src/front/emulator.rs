//! What tools ask an emulator for beside the protocol: `/emulator/v1`.
//!
//! Only `watchfire emulator` has it; a server answers that it is not there. Databases are emptied and exported, rules are
//! kept and given back. What is not there yet is said each time, and nothing is done silently. Pages of other sites, which
//! may use the database of an emulator, may not use this: it empties databases, and writes to folders of this machine.
//!
//! # What is not done
//!
//! Rules are not enforced, so that nothing of them is covered. Triggers of functions are refused.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tonic::body::Body;
use tonic::{Code, Status};
use watchfire_model::{Clock, DatabaseName};

use crate::client::exchange::export;
use crate::client::exchange::progress::Progress;
use crate::config::{Asked, Export, Remote};
use crate::databases::Databases;
use crate::error::Error;
use crate::front::http::HttpFront;
use crate::front::pages;
use crate::origin::AllowedOrigins;
use crate::service::clear::clear;

/// What every address of it begins with.
const PREFIX: &str = "/emulator/v1/";

/// The size of a body, in bytes: that of rules, whatever way their text is escaped.
const BODY_BYTES_MAX: usize = 4 << 20;

/// The size of the rules of a project, those of all files and with their names, in bytes. It is that of the real service.
pub const RULES_BYTES_MAX: usize = 256 * 1024;

/// Files of the rules of a project. The real service has one.
const RULES_FILES_MAX: usize = 100;

/// Projects whose rules are kept; those of one more are refused.
const PROJECTS_MAX: usize = 1_000;

/// What is said of rules, wherever they come from.
pub const RULES_NOT_ENFORCED: &str =
    "Watchfire does not enforce security rules yet: they are kept, and every request is allowed.";

const OPEN_RULES: &str = "rules_version = '2';
service cloud.firestore {
  match /databases/{database}/documents {
    match /{document=**} {
      allow read, write: if true;
    }
  }
}
";

/// The answer of a server that is no emulator.
pub struct NoControl;

impl HttpFront for NoControl {
    fn takes(&self, request: &Request<Body>) -> bool {
        request.uri().path().starts_with("/emulator/")
    }

    fn answer(&self, _: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let text = "Only `watchfire emulator` has /emulator/v1, and this is a server.";
        future::ready(pages::refusal(StatusCode::NOT_FOUND, "NOT_FOUND", text)).boxed()
    }
}

/// The control of an emulator.
pub struct Control {
    parts: Arc<Parts>,
}

struct Parts {
    databases: Arc<Databases>,
    /// Where the emulator itself can be asked, by which it exports.
    address: SocketAddr,
    /// The rules that all projects begin with.
    first_rules: Value,
    /// Invariant: at most `PROJECTS_MAX`.
    rules: Mutex<BTreeMap<String, Value>>,
}

impl Control {
    /// `rules` are the name and the text of the file that was named at the start.
    pub fn new(
        databases: Arc<Databases>,
        address: SocketAddr,
        rules: Option<(String, String)>,
    ) -> Self {
        let (name, content) =
            rules.unwrap_or_else(|| ("OPEN_RULES".to_owned(), OPEN_RULES.to_owned()));
        Self {
            parts: Arc::new(Parts {
                databases,
                address,
                first_rules: json!({ "files": [{ "name": name, "content": content }] }),
                rules: Mutex::default(),
            }),
        }
    }
}

impl HttpFront for Control {
    fn takes(&self, request: &Request<Body>) -> bool {
        request.uri().path().starts_with("/emulator/")
    }

    fn answer(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        if let Some(origin) = strange_page(&request) {
            let text = format!(
                "Pages of the origin {origin} may not use /emulator/v1. Only pages of this machine and of the emulator itself may."
            );
            let refusal = pages::refusal(StatusCode::FORBIDDEN, "PERMISSION_DENIED", &text);
            return future::ready(refusal).boxed();
        }
        let parts = Arc::clone(&self.parts);
        async move {
            match parts.answered(request).await {
                Ok(answer) => answer,
                Err(Refused { status, name, text }) => pages::refusal(status, name, &text),
            }
        }
        .boxed()
    }
}

/// The origin of the page that asks, if it is neither of this machine nor of the address that it asks.
fn strange_page<B>(request: &Request<B>) -> Option<String> {
    let mut origins = request.headers().get_all(header::ORIGIN).iter();
    let origin = origins.next()?;
    let authority = request
        .uri()
        .authority()
        .map(|authority| authority.as_str())
        .or_else(|| request.headers().get(header::HOST)?.to_str().ok());
    let is_allowed = origins.next().is_none()
        && origin
            .to_str()
            .is_ok_and(|origin| AllowedOrigins::new(&[], true).allow(origin, authority));
    (!is_allowed).then(|| String::from_utf8_lossy(origin.as_bytes()).into_owned())
}

/// Why nothing was done.
struct Refused {
    status: StatusCode,
    name: &'static str,
    text: String,
}

impl Refused {
    fn invalid(text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            name: "INVALID_ARGUMENT",
            text: text.into(),
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let status = Status::from(error);
        let (code, name) = match status.code() {
            Code::InvalidArgument => (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT"),
            Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
        };
        Self {
            status: code,
            name,
            text: status.message().to_owned(),
        }
    }
}

impl Parts {
    async fn answered(&self, request: Request<Body>) -> Result<Response<Body>, Refused> {
        let (head, body) = request.into_parts();
        let path = percent_decode_str(head.uri.path())
            .decode_utf8()
            .map_err(|_| Refused::invalid("the address is no UTF-8"))?
            .into_owned();
        let nowhere = || Refused {
            status: StatusCode::NOT_FOUND,
            name: "NOT_FOUND",
            text: format!("Nothing is found at {} {path}.", head.method),
        };
        let inside = path
            .strip_prefix(PREFIX)
            .and_then(|inside| inside.strip_prefix("projects/"))
            .ok_or_else(nowhere)?;
        if let Some((project, action)) = inside.split_once(':')
            && !project.contains('/')
        {
            return match (&head.method, action) {
                (&Method::GET, "securityRules") => Ok(found(&self.rules_of(project))),
                (&Method::PUT, "securityRules") => self.put_rules(project, &read(body).await?),
                (&Method::GET, "ruleCoverage") => Ok(found(&self.rules_of(project))),
                (&Method::GET, "ruleCoverage.html") => Ok(no_coverage()),
                (&Method::POST, "export") => self.export(&read(body).await?).await,
                _ => Err(nowhere()),
            };
        }
        let names: Vec<&str> = inside.split('/').collect();
        match (&head.method, names.as_slice()) {
            (&Method::DELETE, [project, "databases", database, "documents"]) => {
                let name = DatabaseName::new(project, database).map_err(Error::from)?;
                let database = self.databases.get(&name).await?;
                let cleared = clear(&database).await?;
                tracing::debug!(database = %name, documents = cleared, "a database was cleared");
                Ok(found(&json!({})))
            }
            (_, [_, "triggers", ..] | [_, "eventarcTrigger"]) => Err(Refused {
                status: StatusCode::NOT_IMPLEMENTED,
                name: "UNIMPLEMENTED",
                text: "Triggers of functions are not supported by this emulator: nothing would be called."
                    .to_owned(),
            }),
            _ => Err(nowhere()),
        }
    }

    fn rules_of(&self, project: &str) -> Value {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        json!({ "rules": rules.get(project).unwrap_or(&self.first_rules) })
    }

    /// Keeps the rules, and says of each file that it is not enforced.
    fn put_rules(&self, project: &str, asked: &Value) -> Result<Response<Body>, Refused> {
        let files = files(asked)?;
        let issues: Vec<Value> = files
            .iter()
            .map(|file| {
                json!({
                    "sourcePosition": { "fileName": file["name"], "line": 1, "column": 1 },
                    "description": RULES_NOT_ENFORCED,
                    "severity": "WARNING",
                })
            })
            .collect();
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if rules.len() >= PROJECTS_MAX && !rules.contains_key(project) {
            return Err(Refused::invalid(format!(
                "the rules of {PROJECTS_MAX} projects are kept already"
            )));
        }
        rules.insert(project.to_owned(), json!({ "files": files }));
        tracing::warn!(%project, "{RULES_NOT_ENFORCED}");
        Ok(found(&json!({ "issues": issues })))
    }

    /// Writes the documents of a database to a folder of this machine.
    async fn export(&self, asked: &Value) -> Result<Response<Body>, Refused> {
        let text = |name: &str| match &asked[name] {
            Value::String(text) if !text.is_empty() => Ok(text.as_str()),
            _ => Err(Refused::invalid(format!("expected a text as {name}"))),
        };
        let database = DatabaseName::parse(text("database")?).map_err(Error::from)?;
        let directory = PathBuf::from(text("export_directory")?);
        let name = text("export_name")?;
        if Path::new(name).components().count() != 1 || name.starts_with('.') {
            return Err(Refused::invalid("export_name must be the name of a folder"));
        }
        if !directory.is_dir() {
            return Err(Refused {
                status: StatusCode::BAD_REQUEST,
                name: "FAILED_PRECONDITION",
                text: "export_directory must be a directory".to_owned(),
            });
        }
        let clock = Arc::clone(self.databases.clock());
        export_to(
            directory.join(name),
            self.address,
            &database,
            clock.as_ref(),
        )
        .await
        .map_err(|text| Refused {
            status: StatusCode::BAD_REQUEST,
            name: "FAILED_PRECONDITION",
            text,
        })?;
        Ok(found(&json!({})))
    }
}

/// Exports a database of the server at the address, as the command would. Fails with a sentence.
pub async fn export_to(
    directory: PathBuf,
    address: SocketAddr,
    database: &DatabaseName,
    clock: &dyn Clock,
) -> Result<(), String> {
    let settings = Export {
        directory,
        remote: Remote {
            asked: Asked {
                server: address.to_string(),
                tls_ca: None,
            },
            project: None,
            database: database.to_string(),
        },
        collections: Vec::new(),
        read_time: None,
    };
    let mut said = Vec::new();
    let mut progress = Progress::new(std::io::sink());
    let done = export::run(settings, clock, &mut said, &mut progress).await;
    done.map_err(|error| error.to_string())
}

/// The files of rules, with nothing but what is known of them.
fn files(asked: &Value) -> Result<Vec<Value>, Refused> {
    let not_so = || {
        Refused::invalid(
            "expected the rules as {\"rules\":{\"files\":[{\"name\":…,\"content\":…}]}}",
        )
    };
    let asked = asked.pointer("/rules/files").and_then(Value::as_array);
    let asked = asked.ok_or_else(not_so)?;
    if asked.len() > RULES_FILES_MAX {
        return Err(Refused::invalid(format!(
            "expected rules of at most {RULES_FILES_MAX} files, found {}",
            asked.len()
        )));
    }
    let mut bytes = 0;
    let mut files = Vec::with_capacity(asked.len());
    for file in asked {
        let content = file["content"].as_str().ok_or_else(not_so)?;
        let name = match &file["name"] {
            Value::Null => "",
            name => name.as_str().ok_or_else(not_so)?,
        };
        bytes += name.len() + content.len();
        files.push(json!({ "name": name, "content": content }));
    }
    if bytes > RULES_BYTES_MAX {
        return Err(Refused::invalid(format!(
            "expected rules of at most {RULES_BYTES_MAX} bytes in all, found {bytes}"
        )));
    }
    Ok(files)
}

/// The body as JSON.
async fn read(body: Body) -> Result<Value, Refused> {
    let body = Limited::new(body, BODY_BYTES_MAX)
        .collect()
        .await
        .map_err(|_| {
            Refused::invalid(format!("expected a body of at most {BODY_BYTES_MAX} bytes"))
        })?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|error| Refused::invalid(format!("the body is no JSON: {error}")))
}

fn found(value: &Value) -> Response<Body> {
    pages::text("application/json; charset=utf-8", value.to_string())
}

fn no_coverage() -> Response<Body> {
    let text = format!(
        "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>Rule coverage</title>\n<p>{RULES_NOT_ENFORCED} So none was evaluated.</p>\n"
    );
    pages::text("text/html; charset=utf-8", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_strange() {
        let strange = |headers: &[(&str, &str)]| {
            let mut request = Request::builder().uri("/emulator/v1/x");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            strange_page(&request.body(()).unwrap())
        };
        assert_eq!(strange(&[("host", "evil.example")]), None);
        let host = ("host", "db.example:8080");
        for origin in ["http://localhost:5173", "http://db.example:8080"] {
            assert_eq!(strange(&[host, ("origin", origin)]), None);
        }
        for origin in ["https://evil.example", "null", "", "http://db.example"] {
            let found = strange(&[host, ("origin", origin)]);
            assert_eq!(found.as_deref(), Some(origin));
        }
        let twice = [
            ("origin", "http://localhost"),
            ("origin", "http://localhost"),
        ];
        assert!(strange(&twice).is_some());
    }

    #[test]
    fn rules_are_bounded() {
        let files_of = |sizes: &[usize]| {
            let asked: Vec<Value> = sizes
                .iter()
                .map(|size| json!({ "name": "a", "content": "x".repeat(size - 1), "more": 1 }))
                .collect();
            files(&json!({ "rules": { "files": asked } }))
                .map(|files| files.len())
                .map_err(|refused| refused.text)
        };
        let half = RULES_BYTES_MAX / 2;
        assert_eq!(files_of(&[half, half]), Ok(2));
        let refused = files_of(&[half, half + 1]).unwrap_err();
        assert!(
            refused.contains("262144 bytes in all, found 262145"),
            "{refused}"
        );
        assert_eq!(files_of(&[1; RULES_FILES_MAX]), Ok(RULES_FILES_MAX));
        let refused = files_of(&[1; RULES_FILES_MAX + 1]).unwrap_err();
        assert!(
            refused.contains("at most 100 files, found 101"),
            "{refused}"
        );
        assert!(files(&json!({ "rules": { "files": [{ "name": 1, "content": "" }] } })).is_err());
    }
}
