//! Addresses, and the templates that say which fields of a request are in them.
//!
//! A template is written as the protocol writes it: `{name=projects/*/databases/*/documents/**}:verb`. `*` is one part;
//! `**` is pairs of them, a collection and an id each, or none, and stands at most once. What is escaped in an
//! address is read, but an escaped slash stays escaped: it is part of a name, and names have no slashes.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The parts of an address, still escaped.
pub struct Address<'a> {
    parts: Vec<&'a str>,
    /// The last part and what stands behind its last colon, if it has one.
    verb: Option<(&'a str, &'a str)>,
}

impl<'a> Address<'a> {
    /// Of a path, without what all paths begin with.
    pub fn of(path: &'a str) -> Self {
        let parts: Vec<&str> = path.split('/').collect();
        let verb = parts.last().and_then(|last| last.rsplit_once(':'));
        Self { parts, verb }
    }
}

enum Part {
    Word(&'static str),
    One,
    Pairs,
}

struct Variable {
    name: &'static str,
    /// Its parts in the template: from, and to without.
    parts: (usize, usize),
}

/// A template.
pub struct Template {
    parts: Vec<Part>,
    variables: Vec<Variable>,
    verb: Option<&'static str>,
}

/// Fields of a request and their values; none when what is escaped is no text.
pub type Found = Option<Vec<(&'static str, String)>>;

impl Template {
    /// Of its text, which is part of this program and well-formed.
    pub fn of(text: &'static str) -> Self {
        let (path, verb) = match text.rsplit_once(':') {
            Some((path, verb)) => (path, Some(verb)),
            None => (text, None),
        };
        let mut template = Self {
            parts: Vec::new(),
            variables: Vec::new(),
            verb,
        };
        let mut opened: Option<(&'static str, usize)> = None;
        for mut word in path.split('/') {
            if let Some(inner) = word.strip_prefix('{') {
                let (name, first) = inner
                    .split_once('=')
                    .unwrap_or((inner.trim_end_matches('}'), "*}"));
                opened = Some((name, template.parts.len()));
                word = if inner.contains('=') { first } else { "*}" };
            }
            let closes = word.ends_with('}');
            template.parts.push(match word.trim_end_matches('}') {
                "*" => Part::One,
                "**" => Part::Pairs,
                word => Part::Word(word),
            });
            if closes && let Some((name, from)) = opened.take() {
                template.variables.push(Variable {
                    name,
                    parts: (from, template.parts.len()),
                });
            }
        }
        template
    }

    /// The fields in an address, if it is one of this template.
    pub fn find(&self, address: &Address<'_>) -> Option<Found> {
        let (last, verb) = match (self.verb, address.verb) {
            (None, _) => (*address.parts.last()?, None),
            (Some(verb), Some((last, its))) if verb == its => (last, Some(verb)),
            (Some(_), _) => return None,
        };
        debug_assert_eq!(verb, self.verb);
        let single = self
            .parts
            .iter()
            .filter(|part| !matches!(part, Part::Pairs))
            .count();
        let count = address.parts.len();
        let in_pairs = count.checked_sub(single)?;
        let may_have_pairs = single < self.parts.len();
        if in_pairs % 2 != 0 || (in_pairs > 0 && !may_have_pairs) {
            return None;
        }
        let at = |index: usize| {
            if index + 1 == count {
                Some(last)
            } else {
                address.parts.get(index).copied()
            }
        };
        // Where each part of the template begins in the address.
        let mut begins = Vec::with_capacity(self.parts.len() + 1);
        let mut position = 0;
        for part in &self.parts {
            begins.push(position);
            match part {
                Part::Word(word) if at(position) != Some(*word) => return None,
                Part::Word(_) | Part::One => position += 1,
                Part::Pairs => position += in_pairs,
            }
        }
        begins.push(position);
        let mut found = Vec::with_capacity(self.variables.len());
        for variable in &self.variables {
            let (from, to) = variable.parts;
            let mut value = String::new();
            for index in *begins.get(from)?..*begins.get(to)? {
                if !value.is_empty() {
                    value.push('/');
                }
                let Some(part) = unescaped(at(index)?) else {
                    return Some(None);
                };
                value.push_str(&part);
            }
            found.push((variable.name, value));
        }
        Some(Some(found))
    }
}

fn unescaped(part: &str) -> Option<Cow<'_, str>> {
    if !part.contains('%') {
        return Some(Cow::Borrowed(part));
    }
    let part = part.replace("%2F", "%252F").replace("%2f", "%252f");
    let text = percent_decode_str(&part).decode_utf8().ok()?;
    Some(Cow::Owned(text.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(template: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
        Template::of(template).find(&Address::of(path)).flatten()
    }

    #[test]
    fn documents_are_pairs() {
        let document = "{name=projects/*/databases/*/documents/*/*/**}";
        let name = |path: &str| Some(vec![("name", path.to_owned())]);
        for path in [
            "projects/p/databases/(default)/documents/c/d",
            "projects/p/databases/(default)/documents/c/d/e/f:g",
        ] {
            assert_eq!(found(document, path), name(path));
        }
        for path in [
            "projects/p/databases/(default)/documents",
            "projects/p/databases/(default)/documents/c",
            "projects/p/databases/(default)/documents/c/d/e",
            "projects/p/database/(default)/documents/c/d",
            "",
        ] {
            assert_eq!(found(document, path), None, "{path}");
        }
        assert_eq!(
            found(
                document,
                "projects/p/databases/%28default%29/documents/c%20c/a%2Fb"
            ),
            name("projects/p/databases/(default)/documents/c c/a%2Fb")
        );
        assert_eq!(
            found(document, "projects/p/databases/d/documents/c/%ff"),
            None
        );
    }

    #[test]
    fn several_fields_and_verbs() {
        assert_eq!(
            found(
                "{parent=projects/*/databases/*/documents/**}/{collection_id}",
                "projects/p/databases/d/documents/a/b/c"
            ),
            Some(vec![
                ("parent", "projects/p/databases/d/documents/a/b".to_owned()),
                ("collection_id", "c".to_owned())
            ])
        );
        let query = "{parent=projects/*/databases/*/documents/**}:runQuery";
        for parent in [
            "projects/p/databases/d/documents",
            "projects/p/databases/d/documents/a/b:c",
        ] {
            assert_eq!(
                found(query, &format!("{parent}:runQuery")),
                Some(vec![("parent", parent.to_owned())])
            );
            assert_eq!(found(query, parent), None);
            assert_eq!(found(query, &format!("{parent}:commit")), None);
        }
        assert_eq!(
            found(
                "{database=projects/*/databases/*}/documents:commit",
                "projects/p/databases/d/documents:commit"
            ),
            Some(vec![("database", "projects/p/databases/d".to_owned())])
        );
    }
}
