//! Queries of the whole language, made around documents that are there, so that most have an answer.

use watchfire_model::{
    Aggregation, AggregationOperator, CollectionPath, Cursor, DatabaseName, Direction,
    DistanceMeasure, Document, DocumentName, DocumentPath, FieldMask, FieldOperator, FieldPath,
    Filter, Nearest, Order, Parent, Query, QueryParts, Selector, UnaryOperator, Value,
};

use crate::choices::Choices;
use crate::data::{self, FIELDS, GROUPS, Taste, database, reference};

/// How often parts are made until they are a query that may be asked.
const ATTEMPTS_MAX: usize = 50;

pub struct Maker<'a> {
    pub choices: &'a mut Choices,
    pub taste: Taste,
    pub documents: &'a [&'a Document],
}

impl<'a> Maker<'a> {
    pub fn query(&mut self) -> Query {
        for _ in 0..ATTEMPTS_MAX {
            let parts = self.parts();
            if let Ok(query) = Query::new(parts) {
                return query;
            }
        }
        Query::new(self.bare(Parent::Root, Selector::Group("c".to_owned()))).unwrap()
    }

    /// A group in order of its names, and nothing else.
    pub fn group(&mut self) -> Query {
        let parent = if self.choices.percent(70) {
            Parent::Root
        } else {
            self.ancestor()
        };
        let group = self.choices.word(&GROUPS).to_owned();
        let mut parts = self.bare(parent, Selector::Group(group));
        parts.order = vec![Order {
            field: FieldPath::document_name(),
            direction: Direction::Ascending,
        }];
        Query::new(parts).unwrap()
    }

    pub fn aggregations(&mut self) -> Vec<Aggregation> {
        (0..self.choices.between(1, 4))
            .map(|number| Aggregation {
                alias: format!("x{number}"),
                operator: match self.choices.weighted(&[4, 3, 3]) {
                    0 => AggregationOperator::Count {
                        up_to: match self.choices.below(3) {
                            0 => Some(self.choices.between(1, 20) as u64),
                            _ => None,
                        },
                    },
                    1 => AggregationOperator::Sum(self.number_field()),
                    _ => AggregationOperator::Average(self.number_field()),
                },
            })
            .collect()
    }

    /// Any search that may be asked for.
    pub fn nearest(&mut self) -> Nearest {
        for _ in 0..ATTEMPTS_MAX {
            let len = *self.choices.pick(&[1, 2, 2, 2, 2]);
            let vector = (0..len)
                .map(|_| *self.choices.pick(&[-1.0, -0.0, 0.0, 0.5, 1.0, 3.0]))
                .collect();
            let measure = *self.choices.pick(&[
                DistanceMeasure::Euclidean,
                DistanceMeasure::Cosine,
                DistanceMeasure::DotProduct,
            ]);
            let limit = u32::try_from(self.choices.between(1, 12)).unwrap();
            let threshold = if self.choices.percent(30) {
                Some(
                    *self
                        .choices
                        .pick(&[-1.0, 0.0, 0.5, 1.0, 2.0, f64::INFINITY]),
                )
            } else {
                None
            };
            let field = data::field("v");
            if let Ok(nearest) = Nearest::new(field, vector, measure, limit, None, threshold) {
                return nearest;
            }
        }
        panic!("no search was valid");
    }

    fn number_field(&mut self) -> FieldPath {
        data::field(self.choices.word(&["n", "n", "a", "m.x", "s", "m.y.z"]))
    }

    fn bare(&self, parent: Parent, selector: Selector) -> QueryParts {
        QueryParts {
            database: database(),
            parent,
            selector,
            filter: None,
            order: Vec::new(),
            start: None,
            end: None,
            offset: 0,
            limit: None,
            projection: None,
        }
    }

    fn parts(&mut self) -> QueryParts {
        let (parent, selector) = self.whence();
        let everything = matches!(selector, Selector::Everything);
        let mut parts = self.bare(parent, selector);
        let witnesses = self.selected(&parts);
        if self.choices.percent(85) {
            parts.filter = Some(self.filter(&witnesses, everything));
        }
        parts.order = self.orders(parts.filter.as_ref(), &witnesses, everything);
        parts.start = self.cursor(&parts.order, &witnesses);
        parts.end = self.cursor(&parts.order, &witnesses);
        if self.choices.percent(20) {
            parts.offset = u32::try_from(self.choices.weighted(&[1, 6, 3, 2, 1, 1])).unwrap();
        }
        if self.choices.percent(45) {
            parts.limit =
                Some(u32::try_from(self.choices.weighted(&[1, 5, 5, 3, 3, 2, 1, 1, 1])).unwrap());
        }
        if self.choices.percent(25) {
            let paths = (0..self.choices.between(1, 3))
                .map(|_| self.field(true, None))
                .collect();
            parts.projection = Some(FieldMask::new(paths));
        }
        parts
    }

    fn whence(&mut self) -> (Parent, Selector) {
        match self.choices.weighted(&[55, 33, 12]) {
            0 => {
                let collection = match self.documents {
                    [] => CollectionPath::parse("c").unwrap(),
                    _ if self.choices.percent(50) => CollectionPath::parse("c").unwrap(),
                    documents => self.choices.pick(documents).path.collection(),
                };
                (
                    collection.parent(),
                    Selector::Collection(collection.id().to_owned()),
                )
            }
            1 => {
                let parent = if self.choices.percent(60) {
                    Parent::Root
                } else {
                    self.ancestor()
                };
                let group = if self.choices.percent(60) {
                    "c"
                } else {
                    self.choices.word(&GROUPS)
                };
                (parent, Selector::Group(group.to_owned()))
            }
            _ => {
                let parent = if self.choices.percent(50) {
                    Parent::Root
                } else {
                    self.ancestor()
                };
                (parent, Selector::Everything)
            }
        }
    }

    /// A document below which there may be others; it need not exist.
    fn ancestor(&mut self) -> Parent {
        Parent::Document(
            DocumentPath::parse(self.choices.word(&[
                "c/x",
                "c/x",
                "d/y",
                "c/never",
                "c/__id7__",
                "c/__id7__/e/z",
                "c/xy",
            ]))
            .unwrap(),
        )
    }

    fn selected(&self, parts: &QueryParts) -> Vec<&'a Document> {
        let query = Query::new(parts.clone()).unwrap();
        let selected = self
            .documents
            .iter()
            .filter(|document| query.selects(&document.path));
        selected.copied().collect()
    }

    /// Mostly one that the document has.
    fn field(&mut self, names: bool, witness: Option<&Document>) -> FieldPath {
        if names && self.choices.percent(10) {
            return FieldPath::document_name();
        }
        if let Some(witness) = witness
            && self.choices.percent(90)
        {
            let present: Vec<FieldPath> = FIELDS
                .iter()
                .map(|name| data::field(name))
                .filter(|field| field.get(&witness.fields).is_some())
                .collect();
            if !present.is_empty() {
                return self.choices.pick(&present).clone();
            }
        }
        // The last one is in no document: seldom.
        let len = if self.choices.percent(5) {
            FIELDS.len()
        } else {
            FIELDS.len() - 1
        };
        data::field(self.choices.word(&FIELDS[..len]))
    }

    fn filter(&mut self, witnesses: &[&'a Document], everything: bool) -> Filter {
        let witness = self.witness(witnesses);
        match self.choices.weighted(&[55, 18, 19, 8]) {
            // One alternative.
            0 => self.clause(witness, witnesses, everything, 4),
            // Several.
            1 => self.alternatives(witness, witnesses, everything),
            // One document is left out that would match.
            3 => {
                let clause = self.clause(witness, witnesses, everything, 1);
                let field = FieldPath::document_name();
                let value = witness.map_or_else(
                    || reference(self.choices),
                    |document| name(database(), document),
                );
                let (operator, value) = if self.choices.percent(50) {
                    (FieldOperator::NotEqual, value)
                } else {
                    let list = self.list(value, &field, witnesses, 3);
                    (FieldOperator::NotIn, list)
                };
                let left_out = Filter::Field {
                    field,
                    operator,
                    value,
                };
                Filter::And(vec![clause, left_out])
            }
            // Something in common, and several.
            _ => {
                let common = self.clause(witness, witnesses, everything, 2);
                let several = self.alternatives(witness, witnesses, everything);
                let mut filters = vec![common, several];
                if self.choices.percent(20) {
                    filters.push(self.alternatives(witness, witnesses, everything));
                }
                Filter::And(filters)
            }
        }
    }

    fn witness(&mut self, witnesses: &[&'a Document]) -> Option<&'a Document> {
        (!witnesses.is_empty()).then(|| *self.choices.pick::<&Document>(witnesses))
    }

    /// Of which the document satisfies one, as far as that is possible.
    fn alternatives(
        &mut self,
        witness: Option<&'a Document>,
        witnesses: &[&'a Document],
        everything: bool,
    ) -> Filter {
        let mut clauses = vec![self.clause(witness, witnesses, everything, 2)];
        for _ in 1..self.choices.between(1, 3) {
            let witness = self.witness(witnesses);
            let at = self.choices.below(clauses.len() + 1);
            clauses.insert(at, self.clause(witness, witnesses, everything, 2));
        }
        Filter::Or(clauses)
    }

    /// Conditions that the document satisfies, as far as that is possible.
    fn clause(
        &mut self,
        witness: Option<&'a Document>,
        witnesses: &[&'a Document],
        everything: bool,
        most: usize,
    ) -> Filter {
        let len = self.choices.between(1, most);
        let mut leaves: Vec<Filter> = (0..len)
            .map(|_| {
                let witness = witness.filter(|_| self.choices.percent(92));
                let field = if everything {
                    FieldPath::document_name()
                } else {
                    self.field(true, witness)
                };
                self.leaf(field, witness, witnesses)
            })
            .collect();
        match leaves.len() {
            1 if self.choices.percent(80) => leaves.remove(0),
            _ => Filter::And(leaves),
        }
    }

    fn leaf(
        &mut self,
        field: FieldPath,
        witness: Option<&Document>,
        others: &[&'a Document],
    ) -> Filter {
        let value = witness.and_then(|witness| stored(&field, witness));
        let Some(value) = value else {
            return self.any_leaf(field, others);
        };
        let unary = |field, operator| Filter::Unary { field, operator };
        let compare = |field, operator, value| Filter::Field {
            field,
            operator,
            value,
        };
        match &value {
            Value::Null if self.choices.percent(94) => return unary(field, UnaryOperator::IsNull),
            Value::Double(double) if double.is_nan() && self.choices.percent(94) => {
                return unary(field, UnaryOperator::IsNan);
            }
            Value::Array(elements) if !elements.is_empty() && self.choices.percent(75) => {
                let element = self.choices.pick(elements).clone();
                if self.choices.percent(60) {
                    return compare(field, FieldOperator::ArrayContains, element);
                }
                let list = self.list(element, &field, others, 4);
                return compare(field, FieldOperator::ArrayContainsAny, list);
            }
            _ => {}
        }
        // Names that are left out cut what would be one range.
        let weights = if field.is_document_name() {
            [20, 30, 12, 18, 18, 2]
        } else {
            [35, 35, 12, 6, 6, 6]
        };
        match self.choices.weighted(&weights) {
            0 => {
                let value = self.same(value);
                compare(field, FieldOperator::Equal, value)
            }
            1 => {
                let limit = self.operand(&field, others);
                let (operator, limit) = if limit.type_rank() != value.type_rank() {
                    let operator = if self.choices.percent(50) {
                        FieldOperator::LessThanOrEqual
                    } else {
                        FieldOperator::GreaterThanOrEqual
                    };
                    (operator, value)
                } else {
                    match value.compare(&limit) {
                        std::cmp::Ordering::Less if self.choices.percent(50) => {
                            (FieldOperator::LessThan, limit)
                        }
                        std::cmp::Ordering::Less => (FieldOperator::LessThanOrEqual, limit),
                        std::cmp::Ordering::Equal => (FieldOperator::GreaterThanOrEqual, limit),
                        std::cmp::Ordering::Greater if self.choices.percent(50) => {
                            (FieldOperator::GreaterThan, limit)
                        }
                        std::cmp::Ordering::Greater => (FieldOperator::GreaterThanOrEqual, limit),
                    }
                };
                compare(field, operator, limit)
            }
            2 => {
                let list = self.list(value, &field, others, 5);
                compare(field, FieldOperator::In, list)
            }
            3 => {
                let other = self.operand(&field, others);
                compare(field, FieldOperator::NotEqual, other)
            }
            4 => {
                let len = self.choices.between(1, 4);
                let list = (0..len).map(|_| self.operand(&field, others)).collect();
                compare(field, FieldOperator::NotIn, Value::Array(list))
            }
            _ if field.is_document_name() => compare(field, FieldOperator::Equal, value),
            _ => {
                let operator = if self.choices.percent(50) {
                    UnaryOperator::IsNotNull
                } else {
                    UnaryOperator::IsNotNan
                };
                unary(field, operator)
            }
        }
    }

    /// A condition without regard to any document.
    fn any_leaf(&mut self, field: FieldPath, others: &[&'a Document]) -> Filter {
        const OPERATORS: [FieldOperator; 10] = [
            FieldOperator::LessThan,
            FieldOperator::LessThanOrEqual,
            FieldOperator::GreaterThan,
            FieldOperator::GreaterThanOrEqual,
            FieldOperator::Equal,
            FieldOperator::NotEqual,
            FieldOperator::ArrayContains,
            FieldOperator::In,
            FieldOperator::ArrayContainsAny,
            FieldOperator::NotIn,
        ];
        const UNARY: [UnaryOperator; 4] = [
            UnaryOperator::IsNan,
            UnaryOperator::IsNull,
            UnaryOperator::IsNotNan,
            UnaryOperator::IsNotNull,
        ];
        if self.choices.percent(15) {
            let operator = *self.choices.pick(&UNARY);
            return Filter::Unary { field, operator };
        }
        let operator = *self.choices.pick(&OPERATORS);
        let value = self.operand(&field, others);
        let value = match operator {
            FieldOperator::In | FieldOperator::NotIn | FieldOperator::ArrayContainsAny => {
                self.list(value, &field, others, 3)
            }
            _ => value,
        };
        Filter::Field {
            field,
            operator,
            value,
        }
    }

    fn list(
        &mut self,
        value: Value,
        field: &FieldPath,
        others: &[&'a Document],
        most: usize,
    ) -> Value {
        let mut list = vec![self.same(value)];
        for _ in 1..self.choices.between(1, most) {
            let at = self.choices.below(list.len() + 1);
            let other = self.operand(field, others);
            list.insert(at, other);
        }
        Value::Array(list)
    }

    /// The value, or one of the other type that equals it.
    fn same(&mut self, value: Value) -> Value {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "only small numbers"
        )]
        match value {
            Value::Integer(integer)
                if integer.unsigned_abs() < 1_000_000 && self.choices.percent(30) =>
            {
                Value::Double(if integer == 0 && self.choices.percent(50) {
                    -0.0
                } else {
                    integer as f64
                })
            }
            Value::Double(double)
                if double.abs() < 1e6 && double.fract() == 0.0 && self.choices.percent(30) =>
            {
                Value::Integer(double as i64)
            }
            other => other,
        }
    }

    /// A value that may be compared with the field, mostly one that some document has.
    fn operand(&mut self, field: &FieldPath, others: &[&'a Document]) -> Value {
        if !others.is_empty() && self.choices.percent(75) {
            match stored(field, self.choices.pick::<&Document>(others)) {
                Some(Value::Array(values)) if !values.is_empty() && self.choices.percent(50) => {
                    return self.choices.pick(&values).clone();
                }
                Some(value) => return value,
                None => {}
            }
        }
        if field.is_document_name() {
            reference(self.choices)
        } else {
            data::value(self.choices, self.taste, true)
        }
    }

    fn orders(
        &mut self,
        filter: Option<&Filter>,
        witnesses: &[&'a Document],
        everything: bool,
    ) -> Vec<Order> {
        let witness = self.witness(witnesses);
        let mut orders: Vec<Order> = Vec::new();
        let direction = if self.choices.percent(60) {
            Direction::Ascending
        } else {
            Direction::Descending
        };
        let add = |orders: &mut Vec<Order>, field: FieldPath, turn: bool| {
            let direction = match (direction, turn) {
                (Direction::Ascending, false) | (Direction::Descending, true) => {
                    Direction::Ascending
                }
                (Direction::Descending, false) | (Direction::Ascending, true) => {
                    Direction::Descending
                }
            };
            if orders.iter().all(|order| order.field != field) {
                orders.push(Order { field, direction });
            }
        };
        if everything {
            if self.choices.percent(50) {
                let field = FieldPath::document_name();
                orders.push(Order {
                    field,
                    direction: Direction::Ascending,
                });
            }
            return orders;
        }
        if let Some(filter) = filter
            && self.choices.percent(60)
        {
            let fields: Vec<&FieldPath> = filter
                .leaves()
                .filter_map(Filter::inequality_field)
                .filter(|field| !field.is_document_name())
                .collect();
            for field in fields {
                if self.choices.percent(80) {
                    let turn = self.choices.percent(25);
                    add(&mut orders, field.clone(), turn);
                }
            }
        }
        if self.choices.percent(45) {
            for _ in 0..self.choices.between(1, 2) {
                let (field, turn) = (self.field(false, witness), self.choices.percent(25));
                add(&mut orders, field, turn);
            }
        }
        if self.choices.percent(25) {
            let turn = self.choices.percent(25);
            add(&mut orders, FieldPath::document_name(), turn);
        }
        orders
    }

    fn cursor(&mut self, orders: &[Order], witnesses: &[&'a Document]) -> Option<Cursor> {
        if orders.is_empty() || !self.choices.percent(22) {
            return None;
        }
        let len = self.choices.between(1, orders.len());
        let whole = (!witnesses.is_empty() && self.choices.percent(70))
            .then(|| *self.choices.pick(witnesses));
        let values = orders[..len]
            .iter()
            .map(|order| {
                whole
                    .and_then(|document| stored(&order.field, document))
                    .map(|value| self.same(value))
                    .unwrap_or_else(|| self.operand(&order.field, witnesses))
            })
            .collect();
        Some(Cursor {
            values,
            before: self.choices.percent(50),
        })
    }
}

fn stored(field: &FieldPath, document: &Document) -> Option<Value> {
    if field.is_document_name() {
        return Some(name(database(), document));
    }
    field.get(&document.fields).cloned()
}

fn name(database: DatabaseName, document: &Document) -> Value {
    Value::Reference(DocumentName {
        database,
        path: document.path.clone(),
    })
}
