//! The generated messages and service, in the packages of the protocol; those of
//! `google.firestore.v1` also directly here, those of its administration in `admin`, those of our own in
//! `watchfire`. Made by `build.rs` from `proto/`; nothing is written by hand.

// Generated code follows the generator's habits, not ours.
#![allow(clippy::all, clippy::unwrap_used, clippy::indexing_slicing)]

/// The root of the packages.
pub mod google {
    /// `google.firestore`.
    pub mod firestore {
        /// `google.firestore.v1`.
        pub mod v1 {
            tonic::include_proto!("google.firestore.v1");
        }
        /// `google.firestore.admin`.
        pub mod admin {
            /// `google.firestore.admin.v1`.
            pub mod v1 {
                tonic::include_proto!("google.firestore.admin.v1");
            }
        }
    }
    /// `google.longrunning`.
    pub mod longrunning {
        tonic::include_proto!("google.longrunning");
    }
    /// `google.rpc`.
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
    /// `google.type`.
    pub mod r#type {
        tonic::include_proto!("google.r#type");
    }
}

/// `watchfire.v1`: what the protocol has no words for.
pub mod watchfire {
    tonic::include_proto!("watchfire.v1");
}

pub use google::firestore::admin::v1 as admin;
pub use google::firestore::v1::*;
pub use google::longrunning;
pub use google::rpc::Status;
pub use google::r#type::LatLng;
