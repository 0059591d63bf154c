//! The walls and the style that a machine can check.
//!
//! - crates import only what the table below allows (read from the manifests);
//! - no circles between the top-level modules of a crate (read from `crate::` paths, comments and tests left out;
//!   a name that `lib.rs` re-exports counts as the module that defines it);
//! - every Rust file opens with a module comment, and no forbidden word stands in product code;
//! - every limit in `limits.rs` is documented; relative links in documents lead somewhere;
//! - the licences of all dependencies are on a closed list.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::build::cargo;

/// Who may import whom. A crate that is not in the table may not exist.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("storage", &[]),
    ("wire", &["model"]),
    ("exchange", &["model"]),
    ("engine", &["model", "storage"]),
    ("realtime", &["model", "engine"]),
    (
        "server",
        &["model", "storage", "wire", "exchange", "engine", "realtime"],
    ),
    // Never shipped.
    (
        "sim",
        &[
            "model", "storage", "wire", "exchange", "engine", "realtime", "server",
        ],
    ),
];

/// Outside libraries that only some crates may name.
const OUTSIDE_WALLS: &[(&str, &[&str])] = &[
    ("prost", &["wire", "exchange", "server"]),
    ("tonic", &["wire", "server"]),
    ("rocksdb", &["storage"]),
    ("tokio", &["storage", "engine", "realtime", "server", "sim"]),
];

/// Modules that see generated protocol types: in `wire` all do, in `server` one answers and one asks.
const PROTOCOL_MODULES: (&str, &[&str]) = ("server", &["front", "client"]);

/// In product code, outside tests and comments.
const FORBIDDEN_WORDS: &[&str] = &[
    "dbg!(",
    "todo!(",
    "unimplemented!(",
    ".unwrap()",
    "mod utils",
    "mod helpers",
];

/// Licences that dependencies may carry (one of the alternatives of each must be here).
const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unlicense",
    "CC0-1.0",
    "BSL-1.0",
    "Unicode-3.0",
    "MIT-0",
];

/// Runs every check and fails with all complaints at once.
pub fn tidy(root: &Path) -> Result<()> {
    let mut complaints = check(root)?;
    complaints.extend(check_licences()?);
    if complaints.is_empty() {
        println!("xtask: tidy");
        return Ok(());
    }
    bail!(
        "{} complaints:\n{}",
        complaints.len(),
        complaints.join("\n")
    )
}

/// All checks that need no other program.
fn check(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    let mut crates: Vec<PathBuf> = std::fs::read_dir(root.join("crates"))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("Cargo.toml").is_file())
        .collect();
    crates.sort();
    for folder in &crates {
        let name = folder
            .file_name()
            .context("a crate folder has a name")?
            .to_string_lossy()
            .into_owned();
        complaints.extend(check_manifest(
            &name,
            &std::fs::read_to_string(folder.join("Cargo.toml"))?,
        ));
        let modules = modules_of(&folder.join("src"))?;
        complaints.extend(check_circles(&name, &modules));
        complaints.extend(check_protocol(&name, &modules));
    }
    for file in files_with(root, "rs")? {
        let text = std::fs::read_to_string(&file)?;
        let shown = file
            .strip_prefix(root)
            .unwrap_or(&file)
            .display()
            .to_string();
        complaints.extend(check_source(&shown, &text));
        if shown.ends_with("limits.rs") {
            complaints.extend(check_documented(&shown, &text));
        }
    }
    for file in files_with(root, "md")? {
        complaints.extend(check_links(root, &file, &std::fs::read_to_string(&file)?));
    }
    Ok(complaints)
}

/// Files below `root` with this extension, without build output and installed packages.
fn files_with(root: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)?.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if entry.file_type()?.is_dir() {
                if name != "target"
                    && name != "node_modules"
                    && !name.to_string_lossy().starts_with(".git")
                {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn check_manifest(name: &str, manifest: &str) -> Vec<String> {
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(known, _)| *known == name) else {
        return vec![format!("crates/{name}: not in tidy's table of crates")];
    };
    let mut complaints = Vec::new();
    let mut section = "";
    for line in manifest.lines() {
        let line = line.trim();
        if line.starts_with('[') {
            section = line;
        }
        // Tests may look at everything below them: only what is shipped counts.
        if section != "[dependencies]" && section != "[build-dependencies]" {
            continue;
        }
        let Some(dependency) = line.split(['=', '.', ' ']).next() else {
            continue;
        };
        if let Some(ours) = dependency.strip_prefix("watchfire-")
            && !allowed.contains(&ours)
        {
            complaints.push(format!("crates/{name}: may not import {ours}"));
        }
        for (library, homes) in OUTSIDE_WALLS {
            if dependency == *library && !homes.contains(&name) {
                complaints.push(format!("crates/{name}: may not import {library}"));
            }
        }
    }
    complaints
}

/// Top-level modules of a crate with the product text of all their files.
fn modules_of(source: &Path) -> Result<BTreeMap<String, String>> {
    let mut modules: BTreeMap<String, String> = BTreeMap::new();
    for file in files_with(source, "rs")? {
        let relative = file
            .strip_prefix(source)
            .context("the file lies below its crate")?;
        let first = relative
            .components()
            .next()
            .context("a path has a component")?
            .as_os_str()
            .to_string_lossy()
            .trim_end_matches(".rs")
            .to_owned();
        if relative.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        let text = product_text(&std::fs::read_to_string(&file)?);
        modules.entry(first).or_default().push_str(&text);
    }
    Ok(modules)
}

/// The text without comments and without the inline test module.
fn product_text(text: &str) -> String {
    let mut product = String::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("#[cfg(test)]") || trimmed.starts_with("#[cfg(any(test") {
            // By convention nothing but tests follows; a declaration (`mod tests;`) ends there too.
            break;
        }
        if !trimmed.starts_with("//") {
            product.push_str(line);
            product.push('\n');
        }
    }
    product
}

/// What follows each `crate::` in the text, one level of braces opened.
fn crate_paths(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let preceded = text[..at].chars().next_back();
        if preceded.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        if let Some(inside) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut start = 0;
            for (index, c) in inside.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth > 0 => depth -= 1,
                    ',' | '}' if depth == 0 => {
                        found.push(first_name(inside[start..index].trim()));
                        start = index + 1;
                        if c == '}' {
                            break;
                        }
                    }
                    _ => {}
                }
            }
        } else {
            found.push(first_name(rest));
        }
    }
    found
}

fn first_name(path: &str) -> String {
    path.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// Name → module, for what `lib.rs` re-exports.
fn re_exports(lib: &str) -> BTreeMap<String, String> {
    let mut exports = BTreeMap::new();
    for statement in lib.split(';') {
        let Some((_, path)) = statement.split_once("pub use ") else {
            continue;
        };
        let path = path.trim().trim_start_matches("crate::");
        let module = first_name(path);
        for name in path
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .filter(|name| !name.is_empty())
        {
            exports.insert(name.to_owned(), module.clone());
        }
    }
    exports
}

fn check_circles(name: &str, modules: &BTreeMap<String, String>) -> Vec<String> {
    let exports = modules
        .get("lib")
        .map(|lib| re_exports(lib))
        .unwrap_or_default();
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (module, text) in modules {
        if module == "lib" || module == "main" {
            continue;
        }
        for target in crate_paths(text) {
            let target = if modules.contains_key(&target) {
                Some(target.as_str())
            } else {
                exports.get(&target).map(String::as_str)
            };
            let Some((target, _)) = target.and_then(|target| modules.get_key_value(target)) else {
                continue;
            };
            if target != module {
                edges.entry(module).or_default().insert(target);
            }
        }
    }
    let mut complaints = Vec::new();
    for start in edges.keys() {
        if let Some(way) = way_back(start, &edges)
            && way.iter().min() == Some(start)
        {
            complaints.push(format!(
                "crates/{name}: modules in a circle: {} -> {start}",
                way.join(" -> ")
            ));
        }
    }
    complaints
}

/// A shortest way from `start` back to itself.
fn way_back<'a>(
    start: &'a str,
    edges: &BTreeMap<&'a str, BTreeSet<&'a str>>,
) -> Option<Vec<&'a str>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(module) = queue.pop_front() {
        for next in edges.get(module).into_iter().flatten() {
            if *next == start {
                let mut way = vec![module];
                let mut at = module;
                while at != start {
                    at = came_from.get(at)?;
                    way.push(at);
                }
                way.reverse();
                return Some(way);
            }
            if !came_from.contains_key(next) {
                came_from.insert(next, module);
                queue.push_back(next);
            }
        }
    }
    None
}

/// Generated protocol types have the module `pb` of `wire` in their path.
fn check_protocol(name: &str, modules: &BTreeMap<String, String>) -> Vec<String> {
    let (server, allowed) = PROTOCOL_MODULES;
    let names = |text: &str| {
        text.split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|word| word == "pb")
    };
    let seen = modules.iter().filter(|(module, text)| {
        name != "wire" && !(name == server && allowed.contains(&module.as_str())) && names(text)
    });
    seen.map(|(module, _)| format!("{name}: module {module} names generated protocol types (pb)"))
        .collect()
}

fn check_source(shown: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !text.starts_with("//!") {
        complaints.push(format!(
            "{shown}: does not open with a module comment (//!)"
        ));
    }
    if shown.ends_with("tidy.rs") || shown.contains("/tests") {
        return complaints;
    }
    let product = product_text(text);
    for word in FORBIDDEN_WORDS {
        if product.contains(word) {
            complaints.push(format!("{shown}: contains {word}"));
        }
    }
    complaints
}

fn check_documented(shown: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut before = "";
    for line in text.lines() {
        if line.starts_with("pub const") && !before.starts_with("///") {
            complaints.push(format!("{shown}: undocumented limit: {line}"));
        }
        before = line;
    }
    complaints
}

fn check_links(root: &Path, file: &Path, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (at, _) in text.match_indices("](") {
        let rest = &text[at + 2..];
        let Some(end) = rest.find(')') else { continue };
        let link = &rest[..end];
        let path = link.split('#').next().unwrap_or_default();
        if path.is_empty() || link.contains("://") || link.starts_with("mailto:") {
            continue;
        }
        let folder = file.parent().unwrap_or(root);
        if !folder.join(path).exists() {
            complaints.push(format!(
                "{}: dead link: {link}",
                file.strip_prefix(root).unwrap_or(file).display()
            ));
        }
    }
    complaints
}

fn check_licences() -> Result<Vec<String>> {
    let output = cargo(&[
        "tree",
        "--workspace",
        "--all-features",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}\t{l}",
    ])?
    .output()
    .context("cargo tree")?;
    if !output.status.success() {
        bail!(
            "cargo tree failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let mut complaints = BTreeSet::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some((package, licence)) = line.split_once('\t') else {
            continue;
        };
        let licence = licence.trim_end_matches(" (*)");
        if !licence_allowed(licence) {
            complaints.insert(format!("{package}: licence {licence:?} is not on the list"));
        }
    }
    Ok(complaints.into_iter().collect())
}

/// One of the alternatives of an SPDX expression must be allowed in all its parts.
fn licence_allowed(expression: &str) -> bool {
    expression
        .replace('/', " OR ")
        .replace(['(', ')'], "")
        .split(" OR ")
        .any(|alternative| {
            alternative
                .split(" AND ")
                .all(|part| LICENCES.contains(&part.trim()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkout_is_tidy() {
        let root = crate::build::root().unwrap();
        let complaints = check(&root).unwrap();
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }

    fn modules(texts: &[(&str, &str)]) -> BTreeMap<String, String> {
        texts
            .iter()
            .map(|(name, text)| ((*name).to_owned(), product_text(text)))
            .collect()
    }

    #[test]
    fn a_circle_is_found_also_through_a_re_export() {
        let found = check_circles(
            "x",
            &modules(&[
                ("lib", "pub use b::{Deep, Thing};"),
                ("a", "use crate::{Thing, c};"),
                ("b", "fn f() { crate::a::g() }"),
                ("c", ""),
            ]),
        );
        assert_eq!(found, vec!["crates/x: modules in a circle: a -> b -> a"]);
    }

    #[test]
    fn comments_and_tests_make_no_circle() {
        let found = check_circles(
            "x",
            &modules(&[
                ("a", "use crate::b;"),
                (
                    "b",
                    "// crate::a\n#[cfg(test)]\nmod tests { use crate::a; }",
                ),
            ]),
        );
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn protocol_types_stay_where_the_protocol_is_spoken() {
        let seen = modules(&[
            ("front", "use watchfire_wire::pb::watchfire;"),
            ("service", "use watchfire_wire::{Refusal, pb};"),
            ("status", "fn pbx() {}"),
        ]);
        assert_eq!(check_protocol("wire", &seen).len(), 0);
        let complaints = check_protocol("server", &seen);
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("module service"), "{complaints:?}");
        assert_eq!(check_protocol("engine", &seen).len(), 2);
    }

    #[test]
    fn a_forbidden_import_is_named() {
        let found = check_manifest(
            "model",
            "[dependencies]\nwatchfire-engine = { workspace = true }\ntokio = \"1\"\n",
        );
        assert_eq!(
            found,
            vec![
                "crates/model: may not import engine",
                "crates/model: may not import tokio"
            ]
        );
    }

    #[test]
    fn source_needs_a_module_comment_and_no_forbidden_word() {
        assert_eq!(check_source("a.rs", "fn f() { x.unwrap() }\n").len(), 2);
        assert!(
            check_source(
                "a.rs",
                "//! What it is for.\n#[cfg(test)]\nmod t { fn f() { x.unwrap() } }"
            )
            .is_empty()
        );
    }

    #[test]
    fn licences_are_read_as_expressions() {
        assert!(licence_allowed("MIT/Apache-2.0"));
        assert!(licence_allowed("(MIT OR GPL-3.0) AND Unicode-3.0"));
        assert!(!licence_allowed("GPL-3.0"));
    }
}
