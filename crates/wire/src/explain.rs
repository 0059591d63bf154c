//! What is said about how a query was run. Numbers inside debugging figures travel as text, as the
//! protocol has it.

use std::time::Duration;

use prost_types::value::Kind;
use prost_types::{Struct, Value};

use crate::pb;

/// Which documents an index serves, as explanations name it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum QueryScope {
    /// Those of one collection.
    Collection,
    /// Those of every collection with one id.
    CollectionGroup,
}

/// What running a query cost.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Costs {
    /// Documents, or answers of aggregations.
    pub results_returned: u64,
    /// Time spent on the query; waiting for the reader is not in it.
    pub duration: Duration,
    pub index_entries_scanned: u64,
    pub documents_scanned: u64,
    /// What the real service would charge.
    pub billing: Billing,
}

/// What the real service would charge.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Billing {
    /// Reads altogether.
    pub read_operations: u64,
    pub documents_billable: u64,
    pub index_entries_billable: u64,
    /// Reads charged for a query that found nothing.
    pub min_query_cost: u64,
}

/// Writes what is known: the indexes, each with its fields as in `(a ASC, __name__ ASC)`, and, when
/// the query was run, what it cost.
pub fn encode_explanation<'a>(
    indexes: impl IntoIterator<Item = (QueryScope, &'a str)>,
    costs: Option<&Costs>,
) -> pb::ExplainMetrics {
    let indexes_used = indexes.into_iter().map(|(scope, properties)| {
        let scope = match scope {
            QueryScope::Collection => "Collection",
            QueryScope::CollectionGroup => "Collection Group",
        };
        fields([
            ("query_scope", text(scope)),
            ("properties", text(properties)),
        ])
    });
    pb::ExplainMetrics {
        plan_summary: Some(pb::PlanSummary {
            indexes_used: indexes_used.collect(),
        }),
        execution_stats: costs.map(encode_costs),
    }
}

fn encode_costs(costs: &Costs) -> pb::ExecutionStats {
    let Costs {
        results_returned,
        duration,
        index_entries_scanned,
        documents_scanned,
        billing:
            Billing {
                read_operations,
                documents_billable,
                index_entries_billable,
                min_query_cost,
            },
    } = *costs;
    let billing_details = fields([
        ("documents_billable", number(documents_billable)),
        ("index_entries_billable", number(index_entries_billable)),
        // Reads of names alone are charged like documents.
        ("small_ops", number(0)),
        ("min_query_cost", number(min_query_cost)),
    ]);
    let debug_stats = fields([
        ("indexes_entries_scanned", number(index_entries_scanned)),
        ("documents_scanned", number(documents_scanned)),
        (
            "billing_details",
            Value {
                kind: Some(Kind::StructValue(billing_details)),
            },
        ),
    ]);
    pb::ExecutionStats {
        results_returned: signed(results_returned),
        execution_duration: Some(prost_types::Duration {
            seconds: signed(duration.as_secs()),
            nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
        }),
        read_operations: signed(read_operations),
        debug_stats: Some(debug_stats),
    }
}

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Struct {
    Struct {
        fields: fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    }
}

fn text(text: &str) -> Value {
    Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    }
}

fn number(number: u64) -> Value {
    text(&number.to_string())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<'a>(fields: &'a Struct, name: &str) -> &'a str {
        match &fields.fields.get(name).unwrap().kind {
            Some(Kind::StringValue(text)) => text,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn a_plan_has_no_figures() {
        let indexes = [
            (QueryScope::Collection, "(a ASC, __name__ ASC)"),
            (QueryScope::CollectionGroup, "(__name__ ASC)"),
        ];
        let explained = encode_explanation(indexes, None);
        assert!(explained.execution_stats.is_none());
        let used = explained.plan_summary.unwrap().indexes_used;
        let said: Vec<_> = used
            .iter()
            .map(|used| (said(used, "query_scope"), said(used, "properties")))
            .collect();
        assert_eq!(
            said,
            [
                ("Collection", "(a ASC, __name__ ASC)"),
                ("Collection Group", "(__name__ ASC)")
            ]
        );
    }

    #[test]
    fn figures_are_text() {
        let costs = Costs {
            results_returned: 2,
            duration: Duration::new(1, 5),
            index_entries_scanned: 4,
            documents_scanned: 3,
            billing: Billing {
                read_operations: 9,
                documents_billable: 6,
                index_entries_billable: 7,
                min_query_cost: 8,
            },
        };
        let stats = encode_explanation([], Some(&costs))
            .execution_stats
            .unwrap();
        assert_eq!((stats.results_returned, stats.read_operations), (2, 9));
        let duration = stats.execution_duration.unwrap();
        assert_eq!((duration.seconds, duration.nanos), (1, 5));
        let debug = stats.debug_stats.unwrap();
        assert_eq!(said(&debug, "indexes_entries_scanned"), "4");
        assert_eq!(said(&debug, "documents_scanned"), "3");
        let Some(Kind::StructValue(billing)) = &debug.fields["billing_details"].kind else {
            panic!("{debug:?}");
        };
        let names = [
            "documents_billable",
            "index_entries_billable",
            "small_ops",
            "min_query_cost",
        ];
        assert_eq!(names.map(|name| said(billing, name)), ["6", "7", "0", "8"]);
    }
}
