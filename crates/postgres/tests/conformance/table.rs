//! The table of conformance in the documents names every test here, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn tests_of(subject: &str, text: &str) -> Vec<String> {
    let after = text.split("#[test]\nfn ").skip(1);
    after.map(|rest| format!("{subject}::{}", rest.split('(').next().unwrap())).collect()
}

#[test]
fn the_table_names_every_test() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = fs::read_dir(here.join("tests/conformance")).unwrap().map(|e| e.unwrap().path());
    let there: BTreeSet<String> = files
        .filter(|path| path.is_file() && !path.ends_with("table.rs"))
        .flat_map(|path| {
            tests_of(path.file_stem().unwrap().to_str().unwrap(), &fs::read_to_string(&path).unwrap())
        })
        .collect();
    let table = fs::read_to_string(here.join("../../docs/conformance.md")).unwrap();
    let named: BTreeSet<String> = table
        .split('`')
        .filter(|word| {
            word.split_once("::").is_some_and(|(subject, _)| there.iter().any(|t| t.starts_with(subject)))
        })
        .map(ToString::to_string)
        .collect();
    assert_eq!(named, there);
}
