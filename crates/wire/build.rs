//! Compiles the protocol's definitions into Rust. The compiler for them is a library, so that a
//! build needs nothing installed. Server and client are both made: the client serves the tests and
//! the client library.

#[path = "build/json.rs"]
mod json;

use std::error::Error;
use std::path::PathBuf;

/// Every file that is compiled; imports are found below `proto`.
const FILES: [&str; 11] = [
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
    "google/type/latlng.proto",
    "google/firestore/v1/document.proto",
    "google/firestore/v1/write.proto",
    "google/firestore/v1/query.proto",
    "google/firestore/v1/firestore.proto",
    "google/longrunning/operations.proto",
    "google/firestore/admin/v1/operation.proto",
    "google/firestore/admin/v1/firestore_admin.proto",
    "watchfire/v1/admin.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let folder = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(folder.join("json.rs"), json::source(&descriptors))?;
    tonic_prost_build::configure()
        .build_server(true)
        .build_client(true)
        // Sorted maps: the same message has the same bytes every time.
        .btree_map(".")
        .codec_path("crate::codec::WireCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
