//! Queries and aggregations: protocol ↔ model. Reads what the caller wrote; what a query means, which
//! orders it implies and which combinations are forbidden is decided by the model's `Query::new`.

use std::collections::{BTreeSet, HashSet};

use watchfire_model::limits::AGGREGATIONS_MAX;
use watchfire_model::path::{check_collection_id, parse_parent};
use watchfire_model::value::check_field_name;
use watchfire_model::{
    Aggregation, AggregationOperator, Cursor, Direction, DistanceMeasure, FieldMask, FieldOperator,
    FieldPath, Filter, Invalid, Nearest, Order, Query, QueryParts, Selector, UnaryOperator, Value,
};

use crate::pb;
use crate::pb::structured_aggregation_query as pb_aggregation;
use crate::pb::structured_query as pb_query;
use crate::refusal::Refusal;
use crate::value::{decode_value, encode_value};

/// Reads a query below `parent` (`…/documents` or a document's full name).
/// Refused: more than one collection, negative limit or offset, anything unset that must be set,
/// nearest-neighbour search, and what the model refuses.
pub fn decode_query(parent: &str, query: pb::StructuredQuery) -> Result<Query, Refusal> {
    match decode_search(parent, query)? {
        (query, None) => Ok(query),
        (_, Some(_)) => Err(Refusal::invalid(
            "StructuredQuery.find_nearest can only be used in RunQuery.",
        )),
    }
}

/// As [`decode_query`], with the nearest-neighbour search over the query's result, if one is asked for.
/// Refused there: anything unset that must be set, and what the model's `Nearest::new` refuses.
pub fn decode_search(
    parent: &str,
    query: pb::StructuredQuery,
) -> Result<(Query, Option<Nearest>), Refusal> {
    let pb::StructuredQuery {
        select,
        from,
        r#where,
        order_by,
        start_at,
        end_at,
        offset,
        limit,
        find_nearest,
    } = query;
    let (database, parent) = parse_parent(parent)?;
    let parts = QueryParts {
        database,
        parent,
        selector: decode_selector(from)?,
        filter: r#where.map(decode_filter).transpose()?,
        order: order_by
            .into_iter()
            .map(decode_order)
            .collect::<Result<_, _>>()?,
        start: start_at.map(decode_cursor).transpose()?,
        end: end_at.map(decode_cursor).transpose()?,
        offset: u32::try_from(offset).map_err(|_| {
            Refusal::invalid(format!("offset must not be negative, but was {offset}."))
        })?,
        limit: limit
            .map(|limit| {
                u32::try_from(limit).map_err(|_| {
                    Refusal::invalid(format!("limit must not be negative, but was {limit}."))
                })
            })
            .transpose()?,
        projection: select.map(decode_projection).transpose()?.flatten(),
    };
    let nearest = find_nearest.map(decode_nearest).transpose()?;
    Ok((Query::new(parts)?, nearest))
}

fn decode_nearest(nearest: pb_query::FindNearest) -> Result<Nearest, Refusal> {
    use pb_query::find_nearest::DistanceMeasure as Measure;
    let pb_query::FindNearest {
        vector_field,
        query_vector,
        distance_measure,
        limit,
        distance_result_field,
        distance_threshold,
    } = nearest;
    let field = decode_field(vector_field, "FindNearest.vector_field")?;
    let query_vector =
        query_vector.ok_or_else(|| Refusal::invalid("FindNearest.query_vector must be set."))?;
    let vector = decode_numbers(decode_value(query_vector)?)?;
    let measure = match Measure::try_from(distance_measure) {
        Ok(Measure::Euclidean) => DistanceMeasure::Euclidean,
        Ok(Measure::Cosine) => DistanceMeasure::Cosine,
        Ok(Measure::DotProduct) => DistanceMeasure::DotProduct,
        Ok(Measure::Unspecified) | Err(_) => {
            return Err(Refusal::invalid(
                "FindNearest.distance_measure must be EUCLIDEAN, COSINE or DOT_PRODUCT.",
            ));
        }
    };
    let limit = limit.ok_or_else(|| Refusal::invalid("FindNearest.limit must be set."))?;
    let limit = u32::try_from(limit).map_err(|_| {
        Refusal::invalid(format!(
            "FindNearest.limit must not be negative, but was {limit}."
        ))
    })?;
    let distance_field = if distance_result_field.is_empty() {
        None
    } else {
        Some(FieldPath::parse(&distance_result_field)?)
    };
    Ok(Nearest::new(
        field,
        vector,
        measure,
        limit,
        distance_field,
        distance_threshold,
    )?)
}

/// A vector, or an array of doubles, as some callers write one.
fn decode_numbers(value: Value) -> Result<Vec<f64>, Refusal> {
    let refused =
        || Refusal::invalid("FindNearest.query_vector must be a vector or an array of doubles.");
    match value {
        Value::Vector(numbers) => Ok(numbers),
        Value::Array(values) => values
            .into_iter()
            .map(|value| match value {
                Value::Double(number) => Ok(number),
                _ => Err(refused()),
            })
            .collect(),
        _ => Err(refused()),
    }
}

/// Reads a query that is to be cut into pieces: one collection group, in the order of names.
/// Refused: a query of anything else, and everything by which such a query could be narrowed.
pub fn decode_partition_query(parent: &str, query: pb::StructuredQuery) -> Result<Query, Refusal> {
    let narrowed = [
        ("select", query.select.is_some()),
        ("where", query.r#where.is_some()),
        ("start_at", query.start_at.is_some()),
        ("end_at", query.end_at.is_some()),
        ("offset", query.offset != 0),
        ("limit", query.limit.is_some()),
        ("find_nearest", query.find_nearest.is_some()),
    ];
    if let Some((name, _)) = narrowed.into_iter().find(|(_, is_set)| *is_set) {
        return Err(Refusal::invalid(format!(
            "StructuredQuery.{name} is not supported in a partition query."
        )));
    }
    let query = decode_query(parent, query)?;
    if !matches!(query.selector(), Selector::Group(_)) {
        return Err(Refusal::invalid(
            "A partition query must have one collection selector with a collection_id and all_descendants.",
        ));
    }
    match query.order() {
        [
            Order {
                field,
                direction: Direction::Ascending,
            },
        ] if field.is_document_name() => Ok(query),
        _ => Err(Refusal::invalid(
            "A partition query can only be ordered by __name__ ascending.",
        )),
    }
}

/// Reads an aggregation query: the query, and what is computed over it, each with its alias (those
/// without get `field_1`, `field_2`, …).
/// Refused: none or more than [`AGGREGATIONS_MAX`], an alias twice or that could not be a field's name,
/// a bound on the count below 1.
pub fn decode_aggregation_query(
    parent: &str,
    query: pb::StructuredAggregationQuery,
) -> Result<(Query, Vec<Aggregation>), Refusal> {
    let pb::StructuredAggregationQuery {
        query_type,
        aggregations,
    } = query;
    let Some(pb_aggregation::QueryType::StructuredQuery(structured)) = query_type else {
        return Err(Refusal::invalid(
            "StructuredAggregationQuery.query_type must be set.",
        ));
    };
    if aggregations.is_empty() {
        return Err(Refusal::invalid("Aggregations can not be empty"));
    }
    if aggregations.len() > AGGREGATIONS_MAX {
        return Err(Refusal::Reasoned {
            invalid: Invalid::new(format!(
                "The maximum number of aggregations allowed in an aggregation query is {AGGREGATIONS_MAX}. Received: {}",
                aggregations.len()
            )),
            reason: "TOO_MANY_AGGREGATIONS",
            metadata: vec![
                ("actual_aggregations", aggregations.len().to_string()),
                ("max_aggregations", AGGREGATIONS_MAX.to_string()),
            ],
        });
    }
    let mut aliases = HashSet::with_capacity(aggregations.len());
    let mut unnamed = 0_usize;
    let mut decoded = Vec::with_capacity(aggregations.len());
    for pb_aggregation::Aggregation { operator, alias } in aggregations {
        let alias = if alias.is_empty() {
            unnamed += 1;
            format!("field_{unnamed}")
        } else {
            check_field_name(&alias)?;
            alias
        };
        if !aliases.insert(alias.clone()) {
            return Err(Refusal::invalid(format!(
                "Aggregation aliases contain duplicate alias: {alias}"
            )));
        }
        decoded.push(Aggregation {
            operator: decode_aggregation_operator(operator)?,
            alias,
        });
    }
    Ok((decode_query(parent, structured)?, decoded))
}

fn decode_aggregation_operator(
    operator: Option<pb_aggregation::aggregation::Operator>,
) -> Result<AggregationOperator, Refusal> {
    use pb_aggregation::aggregation::{Avg, Count, Operator, Sum};
    let operator = operator.ok_or_else(|| Refusal::invalid("Aggregation.operator must be set."))?;
    Ok(match operator {
        Operator::Count(Count { up_to }) => AggregationOperator::Count {
            up_to: match up_to {
                None => None,
                Some(bound) => match u64::try_from(bound) {
                    Ok(bound) if bound > 0 => Some(bound),
                    _ => {
                        return Err(Refusal::invalid(format!(
                            "Aggregation.count.up_to must be greater than zero, but was {bound}."
                        )));
                    }
                },
            },
        },
        Operator::Sum(Sum { field }) => {
            AggregationOperator::Sum(decode_field(field, "Aggregation.sum.field")?)
        }
        Operator::Avg(Avg { field }) => {
            AggregationOperator::Average(decode_field(field, "Aggregation.avg.field")?)
        }
    })
}

fn decode_selector(from: Vec<pb_query::CollectionSelector>) -> Result<Selector, Refusal> {
    if from.len() > 1 {
        return Err(Refusal::invalid(format!(
            "StructuredQuery.from cannot have more than one collection selector. Received: {}",
            from.len()
        )));
    }
    let Some(selector) = from.into_iter().next() else {
        return Ok(Selector::Everything);
    };
    let pb_query::CollectionSelector {
        collection_id,
        all_descendants,
    } = selector;
    if collection_id.is_empty() {
        return Ok(Selector::Everything);
    }
    check_collection_id(&collection_id)?;
    Ok(if all_descendants {
        Selector::Group(collection_id)
    } else {
        Selector::Collection(collection_id)
    })
}

fn decode_filter(filter: pb_query::Filter) -> Result<Filter, Refusal> {
    use pb_query::filter::FilterType;
    let pb_query::Filter { filter_type } = filter;
    let filter_type =
        filter_type.ok_or_else(|| Refusal::invalid("Filter.filter_type must be set."))?;
    match filter_type {
        FilterType::CompositeFilter(filter) => decode_composite_filter(filter),
        FilterType::FieldFilter(filter) => decode_field_filter(filter),
        FilterType::UnaryFilter(filter) => decode_unary_filter(filter),
    }
}

fn decode_composite_filter(filter: pb_query::CompositeFilter) -> Result<Filter, Refusal> {
    use pb_query::composite_filter::Operator;
    let pb_query::CompositeFilter { op, filters } = filter;
    let operator = match Operator::try_from(op) {
        Ok(Operator::And) => Filter::And,
        Ok(Operator::Or) => Filter::Or,
        Ok(Operator::Unspecified) | Err(_) => {
            return Err(Refusal::invalid("CompositeFilter.op must be AND or OR."));
        }
    };
    if filters.is_empty() {
        return Err(Refusal::invalid(
            "Composite filter must have at least one sub-filter.",
        ));
    }
    let filters: Result<Vec<Filter>, Refusal> = filters.into_iter().map(decode_filter).collect();
    Ok(operator(filters?))
}

fn decode_field_filter(filter: pb_query::FieldFilter) -> Result<Filter, Refusal> {
    use pb_query::field_filter::Operator;
    let pb_query::FieldFilter { field, op, value } = filter;
    let field = decode_field(field, "FieldFilter.field")?;
    let operator = match Operator::try_from(op) {
        Ok(Operator::LessThan) => FieldOperator::LessThan,
        Ok(Operator::LessThanOrEqual) => FieldOperator::LessThanOrEqual,
        Ok(Operator::GreaterThan) => FieldOperator::GreaterThan,
        Ok(Operator::GreaterThanOrEqual) => FieldOperator::GreaterThanOrEqual,
        Ok(Operator::Equal) => FieldOperator::Equal,
        Ok(Operator::NotEqual) => FieldOperator::NotEqual,
        Ok(Operator::ArrayContains) => FieldOperator::ArrayContains,
        Ok(Operator::In) => FieldOperator::In,
        Ok(Operator::ArrayContainsAny) => FieldOperator::ArrayContainsAny,
        Ok(Operator::NotIn) => FieldOperator::NotIn,
        Ok(Operator::Unspecified) | Err(_) => {
            return Err(Refusal::invalid(format!(
                "FieldFilter.op must be a known operator for '{field}'."
            )));
        }
    };
    let value = value
        .ok_or_else(|| Refusal::invalid(format!("FieldFilter.value must be set for '{field}'.")))?;
    Ok(Filter::Field {
        field,
        operator,
        value: decode_value(value)?,
    })
}

fn decode_unary_filter(filter: pb_query::UnaryFilter) -> Result<Filter, Refusal> {
    use pb_query::unary_filter::{OperandType, Operator};
    let pb_query::UnaryFilter { op, operand_type } = filter;
    let field = match operand_type {
        None => return Err(Refusal::invalid("UnaryFilter.operand_type must be set.")),
        Some(OperandType::Field(field)) => decode_field(Some(field), "UnaryFilter.field")?,
    };
    let operator = match Operator::try_from(op) {
        Ok(Operator::IsNan) => UnaryOperator::IsNan,
        Ok(Operator::IsNull) => UnaryOperator::IsNull,
        Ok(Operator::IsNotNan) => UnaryOperator::IsNotNan,
        Ok(Operator::IsNotNull) => UnaryOperator::IsNotNull,
        Ok(Operator::Unspecified) | Err(_) => {
            return Err(Refusal::invalid(format!(
                "UnaryFilter.op must be a known operator for '{field}'."
            )));
        }
    };
    Ok(Filter::Unary { field, operator })
}

fn decode_order(order: pb_query::Order) -> Result<Order, Refusal> {
    let pb_query::Order { field, direction } = order;
    let field = decode_field(field, "Order.field")?;
    let direction = match pb_query::Direction::try_from(direction) {
        Ok(pb_query::Direction::Unspecified | pb_query::Direction::Ascending) => {
            Direction::Ascending
        }
        Ok(pb_query::Direction::Descending) => Direction::Descending,
        Err(_) => {
            return Err(Refusal::invalid(format!(
                "Order.direction must be a known direction for '{field}'."
            )));
        }
    };
    Ok(Order { field, direction })
}

fn decode_field(
    field: Option<pb_query::FieldReference>,
    place: &str,
) -> Result<FieldPath, Refusal> {
    let field = field.ok_or_else(|| Refusal::invalid(format!("{place} must be set.")))?;
    let pb_query::FieldReference { field_path } = field;
    Ok(FieldPath::parse(&field_path)?)
}

/// `None`: all fields. The name is in every answer anyway; asking for it alone, a mask that names no
/// field of any document, is asking for no fields.
fn decode_projection(projection: pb_query::Projection) -> Result<Option<FieldMask>, Refusal> {
    let pb_query::Projection { fields } = projection;
    if fields.is_empty() {
        return Ok(None);
    }
    let paths: Result<Vec<FieldPath>, Refusal> = fields
        .into_iter()
        .map(|field| decode_field(Some(field), "Projection.fields"))
        .collect();
    Ok(Some(FieldMask::new(paths?)))
}

/// Reads a position in a result.
pub fn decode_cursor(cursor: pb::Cursor) -> Result<Cursor, Refusal> {
    let pb::Cursor { values, before } = cursor;
    let values: Result<Vec<Value>, Refusal> = values.into_iter().map(decode_value).collect();
    Ok(Cursor {
        values: values?,
        before,
    })
}

/// Writes a position in a result.
pub fn encode_cursor(cursor: &Cursor) -> pb::Cursor {
    let Cursor { values, before } = cursor;
    pb::Cursor {
        values: values.iter().map(encode_value).collect(),
        before: *before,
    }
}

/// Writes the results of aggregations by alias.
pub fn encode_aggregation_result(results: &[(String, Value)]) -> pb::AggregationResult {
    pb::AggregationResult {
        aggregate_fields: results
            .iter()
            .map(|(alias, value)| (alias.clone(), encode_value(value)))
            .collect(),
    }
}

/// Reads the text form of orders, such as `priority desc, __name__`. Field paths are in quoted
/// syntax, directions in any case; empty text is no order.
pub fn decode_order_by_text(text: &str) -> Result<Vec<Order>, Refusal> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut seen = BTreeSet::new();
    let mut orders = Vec::new();
    for part in split_outside_quotes(text, |c| c == ',') {
        let words: Vec<&str> = split_outside_quotes(part, char::is_whitespace)
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect();
        let (field, direction) = match words.as_slice() {
            [field] => (*field, Direction::Ascending),
            [field, word] if word.eq_ignore_ascii_case("asc") => (*field, Direction::Ascending),
            [field, word] if word.eq_ignore_ascii_case("desc") => (*field, Direction::Descending),
            _ => {
                return Err(Refusal::invalid(format!(
                    "order_by must be a list of 'field', 'field asc' or 'field desc', but has '{}'.",
                    part.trim()
                )));
            }
        };
        let field = FieldPath::parse(field)?;
        if !seen.insert(field.clone()) {
            return Err(Refusal::invalid(format!(
                "order by clause cannot contain duplicate fields {field}"
            )));
        }
        orders.push(Order { field, direction });
    }
    Ok(orders)
}

/// Splits at the characters that are in no backticks; `\` inside them escapes one character.
fn split_outside_quotes(text: &str, separates: impl Fn(char) -> bool) -> Vec<&str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(|c: char| {
        if escaped {
            escaped = false;
        } else if c == '`' {
            quoted = !quoted;
        } else if quoted {
            escaped = c == '\\';
        } else {
            return separates(c);
        }
        false
    })
    .collect()
}

#[cfg(test)]
mod tests;
