//! The messages of a record: Datastore's entity in its third version, as the field numbers of the protocol say it.
//!
//! Only what Firestore uses; other fields are passed over, those that would change the meaning are here to be refused.
//! None of them holds itself, so that decoding is not recursive: a map within a document is bytes of another entity.

/// What a property's value means beyond its type. Those of Firestore.
pub mod meaning {
    /// An integer is microseconds since 1970.
    pub const TIMESTAMP: i32 = 7;
    /// A point is a place on earth.
    pub const GEO_POINT: i32 = 9;
    /// A string is any bytes.
    pub const BLOB: i32 = 14;
    /// A string is text, however long.
    pub const TEXT: i32 = 15;
    /// A string is any bytes, few of them.
    pub const BYTE_STRING: i32 = 16;
    /// A string is an entity: a map.
    pub const ENTITY: i32 = 19;
    /// There is an array, and it is empty.
    pub const EMPTY_LIST: i32 = 24;
    /// The doubles of this name are a vector.
    pub const VECTOR: i32 = 31;
}

/// A document, or a map.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EntityProto {
    #[prost(message, optional, tag = "13")]
    pub key: Option<Reference>,
    /// Indexed.
    #[prost(message, repeated, tag = "14")]
    pub property: Vec<Property>,
    /// Not indexed; Firestore knows that by other means, and puts nearly everything here.
    #[prost(message, repeated, tag = "15")]
    pub raw_property: Vec<Property>,
    /// The first element of the key.
    #[prost(message, optional, tag = "16")]
    pub entity_group: Option<Path>,
}

/// A name.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Reference {
    /// A mark of where it ran, `~`, and the project.
    #[prost(string, optional, tag = "13")]
    pub app: Option<String>,
    #[prost(message, optional, tag = "14")]
    pub path: Option<Path>,
    #[prost(string, optional, tag = "20")]
    pub name_space: Option<String>,
    /// Absent for `(default)`.
    #[prost(string, optional, tag = "23")]
    pub database_id: Option<String>,
}

/// Collections and documents.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Path {
    #[prost(group, repeated, tag = "1")]
    pub element: Vec<Element>,
}

/// A document in its collection.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Element {
    /// The id of the collection.
    #[prost(string, optional, tag = "2")]
    pub kind: Option<String>,
    /// A numeric id.
    #[prost(int64, optional, tag = "3")]
    pub id: Option<i64>,
    #[prost(string, optional, tag = "4")]
    pub name: Option<String>,
}

/// One value of a field.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Property {
    #[prost(int32, optional, tag = "1")]
    pub meaning: Option<i32>,
    #[prost(string, optional, tag = "3")]
    pub name: Option<String>,
    /// The value is an element of an array.
    #[prost(bool, optional, tag = "4")]
    pub multiple: Option<bool>,
    #[prost(message, optional, tag = "5")]
    pub value: Option<PropertyValue>,
}

/// A value; null when nothing is set.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PropertyValue {
    #[prost(int64, optional, tag = "1")]
    pub int64: Option<i64>,
    #[prost(bool, optional, tag = "2")]
    pub boolean: Option<bool>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub string: Option<Vec<u8>>,
    #[prost(double, optional, tag = "4")]
    pub double: Option<f64>,
    #[prost(group, optional, tag = "5")]
    pub point: Option<PointValue>,
    /// Datastore's, not Firestore's.
    #[prost(group, optional, tag = "8")]
    pub user: Option<UserValue>,
    #[prost(group, optional, tag = "12")]
    pub reference: Option<ReferenceValue>,
}

/// A place.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct PointValue {
    #[prost(double, optional, tag = "6")]
    pub x: Option<f64>,
    #[prost(double, optional, tag = "7")]
    pub y: Option<f64>,
}

/// Seen, and refused.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct UserValue {}

/// A name as a value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReferenceValue {
    #[prost(string, optional, tag = "13")]
    pub app: Option<String>,
    #[prost(group, repeated, tag = "14")]
    pub path_element: Vec<PathElement>,
    #[prost(string, optional, tag = "20")]
    pub name_space: Option<String>,
    #[prost(string, optional, tag = "23")]
    pub database_id: Option<String>,
}

/// A document in its collection, within a value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PathElement {
    #[prost(string, optional, tag = "15")]
    pub kind: Option<String>,
    #[prost(int64, optional, tag = "16")]
    pub id: Option<i64>,
    #[prost(string, optional, tag = "17")]
    pub name: Option<String>,
}
