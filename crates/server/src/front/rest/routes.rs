//! The table: which method answers at which address.
//!
//! The methods that this server does not have stand here too, so that who asks for one is told its name.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use http::{Method, Response};
use tonic::body::Body;
use watchfire_wire::pb::admin::firestore_admin_server::FirestoreAdmin as _;
use watchfire_wire::pb::firestore_server::Firestore as _;
use watchfire_wire::pb::longrunning::operations_server::Operations as _;

use crate::front::rest::Services;
use crate::front::rest::answer;
use crate::front::rest::asked::{Asked, BodyOf};
use crate::front::rest::template::Template;

/// Asks a method and makes an answer of what it says.
type Call = fn(Arc<Services>, Asked) -> BoxFuture<'static, Response<Body>>;

/// One line of the table.
pub struct Route {
    pub method: Method,
    pub template: Template,
    pub body_of: BodyOf,
    pub call: Call,
}

/// A method that says one message.
macro_rules! one {
    ($service:ident.$method:ident) => {
        |services, asked| {
            answer::one(asked, move |request| async move {
                services.$service.$method(request).await
            })
            .boxed()
        }
    };
}

/// A method that streams.
macro_rules! many {
    ($service:ident.$method:ident) => {
        |services, asked| {
            answer::many(asked, move |request| async move {
                services.$service.$method(request).await
            })
            .boxed()
        }
    };
}

/// A method that is not served.
macro_rules! none {
    ($method:literal) => {
        |_, asked| future::ready(answer::unserved(&asked, $method)).boxed()
    };
}

/// Every line. The first that fits answers.
pub fn all() -> Vec<Route> {
    let mut routes = documents();
    routes.extend(administration());
    routes
}

fn documents() -> Vec<Route> {
    use BodyOf::{Field, Nothing, Whole};
    let get = Method::GET;
    let post = Method::POST;
    let patch = Method::PATCH;
    let delete = Method::DELETE;
    let lines: [(&Method, &'static str, BodyOf, Call); 19] = [
        (
            &get,
            "{name=projects/*/databases/*/documents/*/*/**}",
            Nothing,
            one!(firestore.get_document),
        ),
        (
            &get,
            "{parent=projects/*/databases/*/documents/**}/{collection_id}",
            Nothing,
            one!(firestore.list_documents),
        ),
        (
            &patch,
            "{document.name=projects/*/databases/*/documents/*/*/**}",
            Field("document"),
            one!(firestore.update_document),
        ),
        (
            &delete,
            "{name=projects/*/databases/*/documents/*/*/**}",
            Nothing,
            one!(firestore.delete_document),
        ),
        (
            &post,
            "{database=projects/*/databases/*}/documents:batchGet",
            Whole,
            many!(firestore.batch_get_documents),
        ),
        (
            &post,
            "{database=projects/*/databases/*}/documents:beginTransaction",
            Whole,
            one!(firestore.begin_transaction),
        ),
        (
            &post,
            "{database=projects/*/databases/*}/documents:commit",
            Whole,
            one!(firestore.commit),
        ),
        (
            &post,
            "{database=projects/*/databases/*}/documents:rollback",
            Whole,
            one!(firestore.rollback),
        ),
        (
            &post,
            "{database=projects/*/databases/*}/documents:batchWrite",
            Whole,
            one!(firestore.batch_write),
        ),
        (
            &post,
            "{parent=projects/*/databases/*/documents/**}:runQuery",
            Whole,
            many!(firestore.run_query),
        ),
        (
            &post,
            "{parent=projects/*/databases/*/documents/**}:runAggregationQuery",
            Whole,
            many!(firestore.run_aggregation_query),
        ),
        (
            &post,
            "{parent=projects/*/databases/*/documents/**}:partitionQuery",
            Whole,
            one!(firestore.partition_query),
        ),
        (
            &post,
            "{parent=projects/*/databases/*/documents/**}:listCollectionIds",
            Whole,
            one!(firestore.list_collection_ids),
        ),
        (
            &post,
            "{database=projects/*/databases/*}/documents:executePipeline",
            Whole,
            many!(firestore.execute_pipeline),
        ),
        (
            &post,
            "{database=projects/*/databases/*}/documents:listen",
            Whole,
            none!("Listen over REST (gRPC and WebChannel have it)"),
        ),
        (
            &post,
            "{database=projects/*/databases/*}/documents:write",
            Whole,
            none!("Write over REST (gRPC and WebChannel have it)"),
        ),
        // After the verbs: what is no verb is part of the collection's id.
        (
            &post,
            "{parent=projects/*/databases/*/documents/**}/{collection_id}",
            Field("document"),
            one!(firestore.create_document),
        ),
        (
            &get,
            "projects/*/locations",
            Nothing,
            none!("google.cloud.location.Locations.ListLocations"),
        ),
        (
            &get,
            "projects/*/locations/*",
            Nothing,
            none!("google.cloud.location.Locations.GetLocation"),
        ),
    ];
    routes(lines)
}

fn administration() -> Vec<Route> {
    use BodyOf::{Field, Nothing, Whole};
    let get = Method::GET;
    let post = Method::POST;
    let patch = Method::PATCH;
    let delete = Method::DELETE;
    let lines: [(&Method, &'static str, BodyOf, Call); 26] = [
        (
            &post,
            "{parent=projects/*/databases/*/collectionGroups/*}/indexes",
            Field("index"),
            one!(admin.create_index),
        ),
        (
            &get,
            "{parent=projects/*/databases/*/collectionGroups/*}/indexes",
            Nothing,
            one!(admin.list_indexes),
        ),
        (
            &get,
            "{name=projects/*/databases/*/collectionGroups/*/indexes/*}",
            Nothing,
            one!(admin.get_index),
        ),
        (
            &delete,
            "{name=projects/*/databases/*/collectionGroups/*/indexes/*}",
            Nothing,
            one!(admin.delete_index),
        ),
        (
            &get,
            "{parent=projects/*/databases/*/collectionGroups/*}/fields",
            Nothing,
            one!(admin.list_fields),
        ),
        (
            &get,
            "{name=projects/*/databases/*/collectionGroups/*/fields/*}",
            Nothing,
            one!(admin.get_field),
        ),
        (
            &patch,
            "{field.name=projects/*/databases/*/collectionGroups/*/fields/*}",
            Field("field"),
            one!(admin.update_field),
        ),
        (
            &get,
            "{name=projects/*/databases/*}/operations",
            Nothing,
            one!(operations.list_operations),
        ),
        (
            &get,
            "{name=projects/*/databases/*/operations/*}",
            Nothing,
            one!(operations.get_operation),
        ),
        (
            &delete,
            "{name=projects/*/databases/*/operations/*}",
            Nothing,
            one!(operations.delete_operation),
        ),
        (
            &post,
            "{name=projects/*/databases/*/operations/*}:cancel",
            Whole,
            one!(operations.cancel_operation),
        ),
        (
            &post,
            "{name=projects/*/databases/*/operations/*}:wait",
            Whole,
            one!(operations.wait_operation),
        ),
        (
            &post,
            "projects/*/databases/*:exportDocuments",
            Whole,
            none!("FirestoreAdmin.ExportDocuments"),
        ),
        (
            &post,
            "projects/*/databases/*:importDocuments",
            Whole,
            none!("FirestoreAdmin.ImportDocuments"),
        ),
        (
            &post,
            "projects/*/databases/*:bulkDeleteDocuments",
            Whole,
            none!("FirestoreAdmin.BulkDeleteDocuments"),
        ),
        (
            &post,
            "projects/*/databases:clone",
            Whole,
            none!("FirestoreAdmin.CloneDatabase"),
        ),
        (
            &post,
            "projects/*/databases:restore",
            Whole,
            none!("FirestoreAdmin.RestoreDatabase"),
        ),
        (
            &post,
            "projects/*/databases",
            Whole,
            none!("FirestoreAdmin.CreateDatabase"),
        ),
        (
            &get,
            "projects/*/databases",
            Nothing,
            none!("FirestoreAdmin.ListDatabases"),
        ),
        (
            &get,
            "projects/*/databases/*",
            Nothing,
            none!("FirestoreAdmin.GetDatabase"),
        ),
        (
            &patch,
            "projects/*/databases/*",
            Whole,
            none!("FirestoreAdmin.UpdateDatabase"),
        ),
        (
            &delete,
            "projects/*/databases/*",
            Nothing,
            none!("FirestoreAdmin.DeleteDatabase"),
        ),
        (
            &get,
            "projects/*/databases/*/backupSchedules",
            Nothing,
            none!("FirestoreAdmin.ListBackupSchedules"),
        ),
        (
            &post,
            "projects/*/databases/*/backupSchedules",
            Whole,
            none!("FirestoreAdmin.CreateBackupSchedule"),
        ),
        (
            &get,
            "projects/*/databases/*/userCreds",
            Nothing,
            none!("FirestoreAdmin.ListUserCreds"),
        ),
        (
            &get,
            "projects/*/locations/*/backups",
            Nothing,
            none!("FirestoreAdmin.ListBackups"),
        ),
    ];
    routes(lines)
}

fn routes<const N: usize>(lines: [(&Method, &'static str, BodyOf, Call); N]) -> Vec<Route> {
    lines
        .into_iter()
        .map(|(method, template, body_of, call)| Route {
            method: method.clone(),
            template: Template::of(template),
            body_of,
            call,
        })
        .collect()
}
