//! A check by a running server, over gRPC.

use watchfire_engine::check::{Example, Fault, Repaired, Report};
use watchfire_model::{DatabaseName, DocumentPath};
use watchfire_wire::Refusal;
use watchfire_wire::pb::watchfire;
use watchfire_wire::pb::watchfire::admin_client::AdminClient;

use crate::client::connect::{RemoteError, connect};
use crate::config::Asked;
use crate::service::check::Checked;

/// Lets the server check one of its databases, however long that takes.
pub async fn check(
    server: &Asked,
    database: &DatabaseName,
    repair: bool,
) -> Result<Checked, RemoteError> {
    let request = watchfire::CheckRequest {
        database: database.to_string(),
        repair,
    };
    let mut admin = AdminClient::new(connect(server).await?);
    let watchfire::CheckResponse {
        found,
        repaired,
        left,
    } = admin.check(request).await?.into_inner();
    let found = found.ok_or_else(|| Refusal::invalid("found must be set."))?;
    let repaired = match (repaired, left) {
        (None, None) => None,
        (Some(watchfire::CheckRepaired { put, deleted }), Some(left)) => {
            Some((Repaired { put, deleted }, decode_report(left)?))
        }
        _ => return Err(Refusal::invalid("repaired and left must be set together.").into()),
    };
    Ok(Checked {
        found: decode_report(found)?,
        repaired,
    })
}

fn decode_report(report: watchfire::CheckReport) -> Result<Report, RemoteError> {
    let watchfire::CheckReport {
        documents,
        entries,
        missing,
        wrong,
        surplus,
        unreadable,
        examples,
    } = report;
    let examples: Result<Vec<Example>, RemoteError> =
        examples.into_iter().map(decode_example).collect();
    Ok(Report {
        documents,
        entries,
        missing,
        wrong,
        surplus,
        unreadable,
        examples: examples?,
    })
}

fn decode_example(example: watchfire::CheckExample) -> Result<Example, RemoteError> {
    use watchfire::check_example::Fault as Said;
    let watchfire::CheckExample {
        fault,
        document,
        index,
        key,
    } = example;
    Ok(Example {
        fault: match Said::try_from(fault) {
            Ok(Said::Missing) => Fault::Missing,
            Ok(Said::Wrong) => Fault::Wrong,
            Ok(Said::Surplus) => Fault::Surplus,
            Ok(Said::Unreadable) => Fault::Unreadable,
            Ok(Said::Unspecified) | Err(_) => {
                return Err(Refusal::invalid(format!("fault has no value {fault}.")).into());
            }
        },
        document: match document.as_str() {
            "" => None,
            path => Some(DocumentPath::parse(path)?),
        },
        index,
        key: key.into(),
    })
}
