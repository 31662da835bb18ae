//! The page about the facts names each of them, and no other.

use std::fs;
use std::path::Path;

use crate::FACTS;

const PAGE: &str = "docs/envoy-facts.md";

/// A fact as a row of the page tells it: its section, its test, and why it is for the real Envoy only.
type Row = (String, String, Option<String>);

#[test]
fn the_page_names_each_fact_and_no_other() {
    let page = read(PAGE);
    let (facts, _) = split_at_elsewhere(&page);
    let mut section = String::new();
    let mut told: Vec<Row> = Vec::new();
    for line in facts.lines() {
        if let Some(name) = in_backticks(line) {
            name.clone_into(&mut section);
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        // A row begins and ends with a bar. The second cell of a heading is not in backticks.
        let ["", fact, test, versions, ""] = cells[..] else {
            continue;
        };
        let Some(test) = in_backticks(test) else {
            continue;
        };
        assert!(!fact.is_empty() && !versions.is_empty(), "{PAGE}: {line}");
        let only_real = versions.split_once("; real only: ");
        let only_real = only_real.map(|(_, reason)| reason.to_owned());
        told.push((section.clone(), test.to_owned(), only_real));
    }
    let known = FACTS.iter().map(|fact| {
        let only_real = fact.only_real.map(str::to_owned);
        (fact.section.to_owned(), fact.name.to_owned(), only_real)
    });
    let known: Vec<Row> = known.collect();
    let missing: Vec<&Row> = known.iter().filter(|row| !told.contains(row)).collect();
    let unknown: Vec<&Row> = told.iter().filter(|row| !known.contains(row)).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "{PAGE} lacks {missing:#?}\nand has {unknown:#?}"
    );
    assert_eq!(told, known, "in the order of the table in main.rs");
}

#[test]
fn the_tests_that_the_page_names_elsewhere_are_there() {
    let page = read(PAGE);
    let (_, elsewhere) = split_at_elsewhere(&page);
    let mut rows = 0;
    for line in elsewhere.lines() {
        let Some((_, named)) = line.split_once(" | `") else {
            continue;
        };
        let named = named.trim_end_matches("` |").split_once("`: `");
        let (file, test) = named.unwrap_or_else(|| panic!("{PAGE}: {line}"));
        let text = read(&format!("tests/tests/{file}"));
        assert!(
            text.contains(&format!("fn {test}(")),
            "{file} has no {test}"
        );
        rows += 1;
    }
    assert!(rows > 0, "the table is not found");
}

/// The part about this suite, and the part about other tests.
fn split_at_elsewhere(page: &str) -> (&str, &str) {
    let split = page.split_once("\n## What other tests hold\n");
    split.unwrap_or_else(|| panic!("{PAGE} has no part about other tests"))
}

/// The text, if it is one word between backticks and nothing else.
fn in_backticks(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('`')?.strip_suffix('`')?;
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    inner
        .chars()
        .all(is_word)
        .then_some(inner)
        .filter(|word| !word.is_empty())
}

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    match fs::read_to_string(root.join(path)) {
        Ok(text) => text,
        Err(error) => panic!("cannot read {path}: {error}"),
    }
}
