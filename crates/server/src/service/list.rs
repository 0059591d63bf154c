//! Listings: the documents of a collection and the collections of a document, page by page.
//!
//! A page ends at a position, which the front hides in a token. Positions are the values of the
//! listing's complete order (for a plain listing that is the name), so that a listing goes on at the
//! right place whatever was written between two pages.

use std::sync::Arc;

use watchfire_engine::View;
use watchfire_model::{
    CollectionPath, Cursor, Direction, Document, DocumentName, DocumentPath, FieldMask, Order,
    Parent, Query, QueryParts, Selector, Value,
};

use crate::databases::Database;
use crate::error::Error;
use crate::service::read::{Consistency, Reading, masked, open};

/// Length of a page when the caller names none.
pub const PAGE_LEN_DEFAULT: usize = 100;

/// The longest page, whatever the caller names.
pub const PAGE_LEN_MAX: usize = 300;

/// A page ends after the document with which it passes this size, in bytes.
const PAGE_SIZE_MAX: usize = 8 * 1024 * 1024;

/// Collections read for one page when the collection is not named.
const COLLECTIONS_PER_CALL: usize = 100;

/// A listing of documents.
pub struct Listing {
    pub parent: Parent,
    /// All collections below the parent when absent.
    pub collection: Option<CollectionPath>,
    /// Empty for the order of names.
    pub order: Vec<Order>,
    pub mask: Option<FieldMask>,
    pub show_missing: bool,
    pub page_len: usize,
    /// Where the page before ended.
    pub after: Option<Vec<Value>>,
}

/// One page. A document that does not exist but has others below it has no contents.
pub struct ListedPage {
    pub documents: Vec<(DocumentPath, Option<Document>)>,
    /// Where the page ends, if the listing goes on.
    pub next: Option<Vec<Value>>,
}

/// The page length for what the caller wrote: 0 means the default.
pub fn page_len(requested: i32) -> Result<usize, Error> {
    match usize::try_from(requested) {
        Ok(0) => Ok(PAGE_LEN_DEFAULT),
        Ok(len) => Ok(len.min(PAGE_LEN_MAX)),
        Err(_) => Err(Error::invalid(format!(
            "page_size must not be negative, but is {requested}"
        ))),
    }
}

/// Lists documents.
pub async fn documents(
    database: &Database,
    listing: Listing,
    consistency: Consistency,
) -> Result<ListedPage, Error> {
    let ordered = listing.order.first().is_some_and(|order| {
        !order.field.is_document_name() || order.direction == Direction::Descending
    });
    if ordered && listing.show_missing {
        return Err(Error::invalid(
            "show_missing cannot be combined with order_by: a missing document has no fields",
        ));
    }
    let Reading { view, begun: _ } = open(database, consistency).await?;
    if ordered {
        by_query(database, &view, listing).await
    } else {
        by_name(database, &view, listing).await
    }
}

async fn by_query(database: &Database, view: &View, listing: Listing) -> Result<ListedPage, Error> {
    let Some(collection) = listing.collection else {
        return Err(Error::invalid("order_by needs a collection_id"));
    };
    let query = |order: Vec<Order>, start| {
        Query::new(QueryParts {
            database: database.name.clone(),
            parent: listing.parent.clone(),
            selector: Selector::Collection(collection.id().to_owned()),
            filter: None,
            order,
            start,
            end: None,
            offset: 0,
            limit: Some(u32::try_from(listing.page_len.saturating_add(1)).unwrap_or(u32::MAX)),
            projection: None,
        })
    };
    // The complete order comes from the query itself, so that a position always ends with the name.
    let order = query(listing.order.clone(), None)?.order().to_vec();
    let start = listing.after.map(|values| Cursor {
        values,
        before: false,
    });
    let (found, _) = view.query(&query(order.clone(), start)?).await?;
    let mut page = PageBuilder::new(listing.page_len);
    for document in found {
        let values = position(database, &order, &document);
        if !page.push(
            document.path.clone(),
            Some(document),
            values,
            listing.mask.as_ref(),
        ) {
            break;
        }
    }
    Ok(page.finish(false))
}

async fn by_name(database: &Database, view: &View, listing: Listing) -> Result<ListedPage, Error> {
    let after = match listing.after.as_deref() {
        None => None,
        Some([Value::Reference(name)]) => Some(name.path.clone()),
        Some(_) => return Err(Error::invalid("Invalid page token.")),
    };
    let mut page = PageBuilder::new(listing.page_len);
    let mut more = false;
    match &listing.collection {
        Some(collection) => {
            more = fill(
                database,
                view,
                collection,
                after.as_ref(),
                &listing,
                &mut page,
            )
            .await?;
        }
        None => {
            // Collections in the order of their ids, beginning with the one in which the page before ended.
            let mut resumed = after.as_ref().map(|path| path.collection());
            let mut last_id = resumed
                .as_ref()
                .map(|collection| collection.id().to_owned());
            if let Some(collection) = resumed.take() {
                more = fill(
                    database,
                    view,
                    &collection,
                    after.as_ref(),
                    &listing,
                    &mut page,
                )
                .await?;
            }
            while !more {
                let (ids, more_ids) = view
                    .collection_ids(&listing.parent, last_id.as_deref(), COLLECTIONS_PER_CALL)
                    .await?;
                for id in ids {
                    let collection = listing.parent.collection(&id)?;
                    more = page.is_full()
                        || fill(database, view, &collection, None, &listing, &mut page).await?;
                    if more {
                        break;
                    }
                    last_id = Some(id);
                }
                if !more_ids {
                    break;
                }
            }
        }
    }
    Ok(page.finish(more))
}

/// Adds a collection's documents; whether the collection has more than the page could take.
async fn fill(
    database: &Database,
    view: &View,
    collection: &CollectionPath,
    after: Option<&DocumentPath>,
    listing: &Listing,
    page: &mut PageBuilder,
) -> Result<bool, Error> {
    let listed = view
        .list_documents(collection, after, page.room().max(1), listing.show_missing)
        .await?;
    for (path, document) in listed.documents {
        let name = DocumentName {
            database: database.name.clone(),
            path: path.clone(),
        };
        if !page.push(
            path,
            document,
            vec![Value::Reference(name)],
            listing.mask.as_ref(),
        ) {
            return Ok(true);
        }
    }
    Ok(listed.more)
}

fn position(database: &Database, order: &[Order], document: &Document) -> Vec<Value> {
    order
        .iter()
        .map(|order| {
            if order.field.is_document_name() {
                Value::Reference(DocumentName {
                    database: database.name.clone(),
                    path: document.path.clone(),
                })
            } else {
                order
                    .field
                    .get(&document.fields)
                    .cloned()
                    .unwrap_or(Value::Null)
            }
        })
        .collect()
}

/// Collects a page up to its two bounds.
struct PageBuilder {
    len_max: usize,
    size: usize,
    documents: Vec<(DocumentPath, Option<Document>)>,
    last: Option<Vec<Value>>,
    cut: bool,
}

impl PageBuilder {
    fn new(len_max: usize) -> Self {
        Self {
            len_max,
            size: 0,
            documents: Vec::new(),
            last: None,
            cut: false,
        }
    }

    fn room(&self) -> usize {
        self.len_max.saturating_sub(self.documents.len())
    }

    fn is_full(&self) -> bool {
        self.room() == 0 || self.size >= PAGE_SIZE_MAX
    }

    /// Takes one more, unless the page is full: false then, and the listing goes on after the last one taken.
    fn push(
        &mut self,
        path: DocumentPath,
        document: Option<Arc<Document>>,
        position: Vec<Value>,
        mask: Option<&FieldMask>,
    ) -> bool {
        if self.is_full() {
            self.cut = true;
            return false;
        }
        self.size = self
            .size
            .saturating_add(document.as_ref().map_or(0, |document| document.size()));
        self.documents
            .push((path, document.map(|document| masked(&document, mask))));
        self.last = Some(position);
        true
    }

    fn finish(self, more: bool) -> ListedPage {
        ListedPage {
            documents: self.documents,
            next: self.last.filter(|_| more || self.cut),
        }
    }
}

/// Ids of the collections below the parent, and the id after which the next page begins.
pub async fn collection_ids(
    database: &Database,
    parent: &Parent,
    after: Option<&str>,
    page_len: usize,
    consistency: Consistency,
) -> Result<(Vec<String>, Option<String>), Error> {
    let Reading { view, begun: _ } = open(database, consistency).await?;
    let (ids, more) = view.collection_ids(parent, after, page_len).await?;
    let next = ids.last().filter(|_| more).cloned();
    Ok((ids, next))
}
