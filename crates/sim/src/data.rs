//! The documents of the world, and what is asked about them: few documents, so that everybody meets everybody.

use std::collections::BTreeMap;
use std::sync::Arc;

use watchfire_model::watch::Target;
use watchfire_model::{
    CollectionPath, DatabaseName, Direction, Document, DocumentName, DocumentPath, FieldOperator,
    FieldPath, Fields, Filter, Order, Parent, Query, QueryParts, Selector, Value,
};

use crate::chance::Chance;

/// Accounts, between which money is moved.
pub const ACCOUNTS: u64 = 5;
/// What each account has at first.
pub const BALANCE: i64 = 100;
/// Names that are registered, each for one user at a time.
const NAMES: u64 = 3;
const COUNTERS: u64 = 2;
const LISTS: u64 = 2;
const LIST_ITEMS: u64 = 7;
const MISCELLANEOUS: u64 = 4;
const USERS: u64 = 6;

/// The database of the world.
#[must_use]
pub fn database() -> DatabaseName {
    DatabaseName::new("sim", "(default)").expect("the name is well-formed")
}

/// A path that is known to be one.
#[must_use]
pub fn path(text: &str) -> DocumentPath {
    DocumentPath::parse(text).expect("the path is well-formed")
}

/// The whole name of a document of the world.
#[must_use]
pub fn full_name(path: &DocumentPath) -> String {
    let name = DocumentName {
        database: database(),
        path: path.clone(),
    };
    name.to_string()
}

/// A field that is known to be one.
#[must_use]
pub fn field(text: &str) -> FieldPath {
    FieldPath::parse(text).expect("the field path is well-formed")
}

/// An account by its number.
#[must_use]
pub fn account(number: u64) -> DocumentPath {
    path(&format!("accounts/a{number}"))
}

/// Any account.
pub fn any_account(chance: &mut Chance) -> DocumentPath {
    account(chance.below(ACCOUNTS))
}

/// Any counter.
pub fn any_counter(chance: &mut Chance) -> DocumentPath {
    path(&format!("counters/c{}", chance.below(COUNTERS)))
}

/// Any document that is written in every way.
pub fn any_miscellaneous(chance: &mut Chance) -> DocumentPath {
    path(&format!("misc/m{}", chance.below(MISCELLANEOUS)))
}

/// Any entry of any list.
pub fn any_item(chance: &mut Chance) -> DocumentPath {
    let list = chance.below(LISTS);
    path(&format!(
        "lists/l{list}/items/i{}",
        chance.below(LIST_ITEMS)
    ))
}

/// Any user.
pub fn any_user(chance: &mut Chance) -> DocumentPath {
    path(&format!("users/u{}", chance.below(USERS)))
}

/// Any document of the world, there or not.
pub fn any_document(chance: &mut Chance) -> DocumentPath {
    match chance.below(6) {
        0 => any_account(chance),
        1 => any_counter(chance),
        2 => any_user(chance),
        3 => any_miscellaneous(chance),
        _ => any_item(chance),
    }
}

/// A name for a user.
pub fn any_name(chance: &mut Chance) -> String {
    format!("n{}", chance.below(NAMES))
}

/// Contents for an entry of a list.
pub fn item_fields(chance: &mut Chance) -> Fields {
    let mut fields = Fields::from([
        ("rank".to_owned(), integer(chance.below(10))),
        ("done".to_owned(), Value::Boolean(chance.happens(400))),
    ]);
    if chance.happens(600) {
        let tags = (0..chance.within(0, 3)).map(|_| tag(chance)).collect();
        fields.insert("tags".to_owned(), Value::Array(tags));
    }
    if chance.happens(300) {
        let map = BTreeMap::from([("x".to_owned(), integer(chance.below(3)))]);
        fields.insert("map".to_owned(), Value::Map(map));
    }
    if chance.happens(100) {
        fields.insert("rank".to_owned(), Value::Null);
    }
    fields
}

/// A value of any of the usual kinds.
pub fn any_value(chance: &mut Chance) -> Value {
    match chance.below(6) {
        0 => Value::Null,
        1 => Value::Boolean(chance.happens(500)),
        2 => Value::Double(0.5 + f64::from(u8::try_from(chance.below(10)).unwrap_or(0))),
        3 => Value::String("s".repeat(usize::try_from(chance.within(0, 12)).unwrap_or(0))),
        4 => Value::Array((0..chance.below(3)).map(|_| tag(chance)).collect()),
        _ => integer(chance.below(10)),
    }
}

/// A small text.
pub fn tag(chance: &mut Chance) -> Value {
    Value::String((*chance.pick(&["a", "b", "c"])).to_owned())
}

/// A whole number.
#[must_use]
pub fn integer(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// The number in a field, zero for anything else.
#[must_use]
pub fn number(document: Option<&Arc<Document>>, name: &str) -> i64 {
    match document.and_then(|document| document.fields.get(name)) {
        Some(Value::Integer(number)) => *number,
        Some(_) | None => 0,
    }
}

/// Any account with at least so much.
#[must_use]
pub fn accounts_with(balance: i64, direction: Direction, limit: Option<u32>) -> Arc<Query> {
    let mut parts = collection("accounts");
    parts.filter = Some(compare(
        "balance",
        FieldOperator::GreaterThanOrEqual,
        Value::Integer(balance),
    ));
    parts.order = vec![order("balance", direction)];
    parts.limit = limit;
    query(parts)
}

/// All accounts.
#[must_use]
pub fn all_accounts() -> Arc<Query> {
    query(collection("accounts"))
}

/// Users of a name.
#[must_use]
pub fn users_named(name: &str) -> Arc<Query> {
    let mut parts = collection("users");
    parts.filter = Some(compare(
        "name",
        FieldOperator::Equal,
        Value::String(name.to_owned()),
    ));
    query(parts)
}

/// Any query that clients ask.
pub fn any_query(chance: &mut Chance) -> Arc<Query> {
    let ascending = [Direction::Ascending, Direction::Descending];
    let direction = *chance.pick(&ascending);
    let rank = integer(chance.below(10));
    let mut parts = items(chance);
    match chance.below(12) {
        0 => parts.order = vec![order("rank", direction)],
        1 | 2 => {
            parts.order = vec![order("rank", direction)];
            parts.limit = Some(u32::try_from(chance.within(1, 4)).unwrap_or(1));
        }
        3 => {
            parts.filter = Some(compare("done", FieldOperator::Equal, Value::Boolean(false)));
            parts.order = vec![order("rank", direction)];
            parts.limit = chance.happens(500).then_some(2);
        }
        4 => parts.filter = Some(compare("rank", FieldOperator::GreaterThanOrEqual, rank)),
        5 => parts.filter = Some(compare("tags", FieldOperator::ArrayContains, tag(chance))),
        6 => {
            parts.filter = Some(Filter::Or(vec![
                compare("rank", FieldOperator::Equal, rank),
                compare("done", FieldOperator::Equal, Value::Boolean(true)),
            ]));
            parts.limit = chance.happens(300).then_some(3);
        }
        7 => {
            parts.order = vec![order("rank", direction)];
            parts.offset = 1;
            parts.limit = Some(2);
        }
        8 => return accounts_with(50, direction, chance.happens(500).then_some(2)),
        9 => return users_named(&any_name(chance)),
        10 => parts = collection("misc"),
        _ => {
            parts.selector = Selector::Everything;
            parts.parent = Parent::Root;
        }
    }
    query(parts)
}

/// One document by name, among so many that two rarely choose the same.
pub fn named_target(chance: &mut Chance) -> Target {
    Target::Documents(vec![if chance.happens(20) {
        any_document(chance)
    } else {
        path(&format!("crowd/{}", chance.below(1_000_000)))
    }])
}

/// Anything that clients listen to.
pub fn any_target(chance: &mut Chance) -> Target {
    if chance.happens(300) {
        let mut paths: Vec<DocumentPath> = (0..chance.within(1, 3))
            .map(|_| any_document(chance))
            .collect();
        paths.sort();
        paths.dedup();
        return Target::Documents(paths);
    }
    Target::Query(any_query(chance))
}

/// One field compared with a value.
#[must_use]
pub fn compare(name: &str, operator: FieldOperator, value: Value) -> Filter {
    Filter::Field {
        field: field(name),
        operator,
        value,
    }
}

fn items(chance: &mut Chance) -> QueryParts {
    let mut parts = collection("items");
    if chance.happens(250) {
        parts.selector = Selector::Group("items".to_owned());
    } else {
        let list = CollectionPath::parse("lists").expect("the path is well-formed");
        let list = list.document(&format!("l{}", chance.below(LISTS)));
        parts.parent = Parent::Document(list.expect("the path is well-formed"));
    }
    parts
}

fn order(name: &str, direction: Direction) -> Order {
    Order {
        field: field(name),
        direction,
    }
}

fn collection(id: &str) -> QueryParts {
    QueryParts {
        database: database(),
        parent: Parent::Root,
        selector: Selector::Collection(id.to_owned()),
        filter: None,
        order: Vec::new(),
        start: None,
        end: None,
        offset: 0,
        limit: None,
        projection: None,
    }
}

fn query(parts: QueryParts) -> Arc<Query> {
    Arc::new(Query::new(parts).expect("the query may be asked"))
}
