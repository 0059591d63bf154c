//! Plans in words: what is read, in which order, and what is known without looking further.

use std::fmt::Write;

use watchfire_model::order::{decode_path, encode_path_prefix, encoded_len};
use watchfire_model::{FieldPath, Query};
use watchfire_storage::{Direction, Range};

use crate::definition::Scope;
use crate::index::key::{Place, invert, next_column};
use crate::planner::{Branch, Column, Held, IndexScan, Plan, SortPart, Source, field_orders};

/// How names stand in keys.
#[derive(Copy, Clone)]
struct Names<'a> {
    base: &'a [u8],
    inverted: bool,
}

const PATHS: Names<'static> = Names {
    base: &[],
    inverted: false,
};

/// Characters of a text, and of bytes that mean nothing.
const SHOWN_MAX: usize = 12;
const LONG_MAX: usize = 60;

pub(super) fn describe(plan: &Plan, query: &Query, fields: &[FieldPath]) -> Vec<String> {
    let orders = field_orders(query, fields);
    let mut lines = Vec::new();
    if plan.branches.is_empty() {
        lines.push("nothing matches".to_owned());
    }
    if plan.ordered < orders.len() {
        lines.push(format!("ordered by {} of {}", plan.ordered, orders.len()));
    }
    if let Some(missing) = &plan.missing {
        let scope = match missing.definition.scope() {
            Scope::Collection => "",
            Scope::Group => "group ",
        };
        let building = missing
            .building
            .map_or(String::new(), |id| format!(", building as {id}"));
        let several = if missing.several_inequalities {
            ", several inequalities"
        } else {
            ""
        };
        lines.push(format!(
            "missing {scope}{} {}{building}{several}",
            missing.definition.group(),
            missing.definition
        ));
    }
    for used in &plan.indexes_used {
        lines.push(format!("uses {:?} {}", used.scope, used.properties));
    }
    for branch in &plan.branches {
        lines.extend(describe_branch(branch, fields));
    }
    lines
}

fn describe_branch(branch: &Branch, fields: &[FieldPath]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut whole = String::from(match branch.direction {
        Direction::Forward => "forward",
        Direction::Backward => "backward",
    });
    if branch.covered {
        whole.push_str(", covered");
    }
    whole.push_str(", sorted by");
    for part in &branch.sort {
        match part {
            SortPart::Fixed(_) => whole.push_str(" fixed"),
            SortPart::Column { column, .. } => write!(whole, " column {column}").unwrap(),
            SortPart::Name { .. } => whole.push_str(" name"),
        }
    }
    if branch.sort.is_empty() {
        whole.push_str(" nothing");
    }
    lines.push(whole);
    match &branch.source {
        Source::Documents(paths) => {
            let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
            lines.push(format!("  documents {}", paths.join(" ")));
        }
        Source::Stored(range) => {
            lines.push(format!("  stored {}", show(range, 1, &[], Some(PATHS))))
        }
        Source::Group { range, start_len } => {
            lines.push(format!(
                "  group {}",
                show(range, *start_len, &[], Some(PATHS))
            ));
        }
        Source::Entries(scans) => {
            for scan in scans {
                lines.push(format!("  scan {}", describe_scan(scan)));
            }
            if let Some(scan) = scans.first().filter(|scan| !scan.columns.is_empty()) {
                let columns: Vec<String> = scan
                    .columns
                    .iter()
                    .map(|column| {
                        let sign = if column.inverted { "~" } else { "" };
                        format!("{sign}{}", column.field)
                    })
                    .collect();
                lines.push(format!("  columns {}", columns.join(" ")));
            }
        }
    }
    for test in &branch.tests {
        let plain = [Column {
            field: FieldPath::document_name(),
            inverted: false,
        }];
        let ranges: Vec<String> = test
            .ranges
            .iter()
            .map(|range| show(range, 0, &plain, None))
            .collect();
        lines.push(format!(
            "  test column {}: {}",
            test.column,
            ranges.join(", ")
        ));
    }
    if !branch.names.start.is_empty() || branch.names.end.is_some() {
        lines.push(format!(
            "  names {}",
            show(&branch.names, 0, &[], Some(PATHS))
        ));
    }
    if let Some(collection) = &branch.children_of {
        lines.push(format!("  children of {collection}"));
    }
    for field in fields {
        let held = match branch.held(field) {
            None => "nowhere".to_owned(),
            Some(Held::Column(column)) => format!("in column {column}"),
            Some(Held::Fixed { scan, fixed }) => {
                format!("fixed by scan {scan} at {}", fixed.position)
            }
        };
        lines.push(format!("  {field} {held}"));
    }
    lines
}

fn describe_scan(scan: &IndexScan) -> String {
    let (keyspace, rest) = scan.start.split_first().unwrap();
    let mut text = String::new();
    let rest = if *keyspace == 0x07 {
        let (id, rest) = rest.split_first_chunk::<8>().unwrap();
        write!(text, "index {}", u64::from_be_bytes(*id)).unwrap();
        rest
    } else {
        text.push_str("automatic");
        rest
    };
    let place_end = rest.windows(2).position(|two| two == b"//").unwrap();
    let (place, rest) = rest.split_at(place_end + 2);
    write!(text, " of {}", String::from_utf8_lossy(&place[..place_end])).unwrap();
    let mut rest = rest;
    if *keyspace != 0x07 {
        let kind = if rest[0] == 2 { " contains" } else { "" };
        let end = rest.windows(2).position(|two| two == [0, 2]).unwrap();
        let field = String::from_utf8_lossy(&rest[1..end]).replace("\0\u{1}", ".");
        write!(text, "{kind} {}", field.trim_end_matches('.')).unwrap();
        rest = &rest[end + 2..];
    }
    while !rest.is_empty() {
        let inverted = rest[0] > 0x80;
        let (column, more) = next_column(rest, inverted).unwrap();
        write!(text, " {}", show_value(column, inverted).unwrap()).unwrap();
        rest = more;
    }
    if scan.cut {
        text.push_str(" (cut)");
    }
    let mut base = Vec::new();
    if let Place::Collection(collection) = &scan.place {
        encode_path_prefix(collection.as_str(), &mut base);
    }
    let names = Names {
        base: &base,
        inverted: scan.names_inverted,
    };
    let ranges: Vec<String> = scan
        .ranges
        .iter()
        .map(|range| {
            if *range == Range::prefix(&scan.start) {
                "all".to_owned()
            } else {
                show(range, scan.start.len(), &scan.columns, Some(names))
            }
        })
        .collect();
    if scan.names_inverted {
        text.push_str(", names inverted");
    }
    format!("{text}: {}", ranges.join(", "))
}

/// Bounds of keys of which the first bytes are known, as values and names. What follows a value or a name directly is
/// written `after` and `through` it.
fn show(range: &Range, start_len: usize, columns: &[Column], names: Option<Names<'_>>) -> String {
    let shown = |bytes: &[u8], at: &str, past: &str| match show_point(bytes, columns, names) {
        Some(point) => format!("{at} {point}"),
        None => {
            let point = predecessors(bytes)
                .find_map(|before| show_point(&before, columns, names))
                .unwrap_or_else(|| {
                    let mut text = bytes.escape_ascii().to_string();
                    text.truncate(LONG_MAX);
                    text
                });
            format!("{past} {point}")
        }
    };
    let start = range.start.get(start_len..).unwrap_or_default();
    let start = match start {
        [] => "from the first".to_owned(),
        start => shown(start, "from", "after"),
    };
    let end = range.end.as_ref().and_then(|end| end.get(start_len..));
    let end = match end {
        None | Some([]) => "to the last".to_owned(),
        Some(end) => shown(end, "before", "through"),
    };
    format!("{start} {end}")
}

/// What `successor` may have been made of.
fn predecessors(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut before = bytes.to_vec();
    if let Some(last) = before.last_mut() {
        *last = last.wrapping_sub(1);
    }
    (0..3).map(move |dropped| [before.as_slice(), &[0xFF, 0xFF][..dropped]].concat())
}

fn show_point(mut bytes: &[u8], columns: &[Column], names: Option<Names<'_>>) -> Option<String> {
    let mut parts = Vec::new();
    for column in columns {
        if bytes.is_empty() {
            break;
        }
        if bytes.len() == 1 {
            let tag = if column.inverted { !bytes[0] } else { bytes[0] };
            // The type alone.
            if tag > 0x10 && (tag - 0x10) % 8 == 0 {
                parts.push(format!("type {}", (tag - 0x10) / 8));
                bytes = &[];
                break;
            }
        }
        let (value, rest) = next_column(bytes, column.inverted)?;
        parts.push(show_value(value, column.inverted)?);
        bytes = rest;
    }
    if !bytes.is_empty() {
        let names = names?;
        let mut path = names.base.to_vec();
        path.extend_from_slice(bytes);
        if names.inverted {
            invert(path.iter_mut().skip(names.base.len()));
        }
        let closed = decode_path(&path).filter(|(_, used)| *used == path.len());
        let shown = match closed {
            Some((path, _)) => path.to_string(),
            None => {
                // The beginning of names.
                let mut text = String::new();
                let mut rest = path.as_slice();
                while let Some((2, more)) = rest.split_first().map(|(tag, more)| (*tag, more)) {
                    let end = more.iter().position(|byte| *byte == 0)?;
                    write!(text, "{}/", String::from_utf8_lossy(&more[..end])).unwrap();
                    rest = &more[end + 1..];
                }
                if !rest.is_empty() || text.is_empty() {
                    return None;
                }
                text
            }
        };
        parts.push(shown);
    }
    Some(parts.join(" "))
}

fn show_value(column: &[u8], inverted: bool) -> Option<String> {
    let bytes: Vec<u8> = column
        .iter()
        .map(|byte| if inverted { !byte } else { *byte })
        .collect();
    let (tag, body) = bytes.split_first()?;
    let text = match (tag - 0x10) / 8 {
        0 => "null".to_owned(),
        1 => (body.first() == Some(&1)).to_string(),
        2 => {
            let (double, rest) = body.split_first_chunk::<8>()?;
            if rest != [0x80, 0x00] {
                return None;
            }
            let bits = u64::from_be_bytes(*double);
            match bits {
                0 => "nan".to_owned(),
                bits if bits >> 63 == 1 => f64::from_bits(bits & !(1 << 63)).to_string(),
                bits => f64::from_bits(!bits).to_string(),
            }
        }
        4 => {
            let text = String::from_utf8_lossy(body)
                .trim_end_matches('\0')
                .to_owned();
            let shown: String = text.chars().take(SHOWN_MAX).collect();
            let more = if shown.len() < text.len() { "…" } else { "" };
            if encoded_len(&bytes).is_none() && bytes.len() < 1_500 {
                return None;
            }
            format!("{shown:?}{more}")
        }
        _ => bytes.escape_ascii().to_string(),
    };
    let sign = if inverted { "~" } else { "" };
    Some(format!("{sign}{text}"))
}
