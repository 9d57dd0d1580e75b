//! The page `docs/barman.md` against the code.

#![cfg(feature = "cli")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Rows of the page, each a list of cells; a cell is the names in back quotes.
fn rows() -> Vec<Vec<Vec<String>>> {
    let page = fs::read_to_string(root().join("docs/barman.md")).unwrap();
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Barman "));
    rows.map(|row| row.trim_matches('|').split('|').map(names).collect()).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).into()
}

/// The sources in a folder, one text.
fn sources(folder: &str) -> String {
    let entries = fs::read_dir(root().join(folder)).unwrap().flatten().map(|entry| entry.path());
    let files = entries.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// The names after `keyword` in a text, such as those of functions.
fn defined(text: &str, keyword: &str) -> BTreeSet<String> {
    let after = text.match_indices(keyword).map(|(at, _)| &text[at + keyword.len()..]);
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    after.map(|rest| rest.chars().take_while(|&c| is_part(c)).collect()).collect()
}

#[test]
fn the_table_of_barmans_members_is_true() {
    let classes = sources("src/postgres");
    let members = [defined(&classes, "fn "), defined(&classes, "const ")].concat_sets();
    let tests = defined(&(sources("tests") + &classes), "fn ");
    let rows = rows();
    assert!(rows.len() > 80, "{}", rows.len());
    let mut told = BTreeSet::new();
    for row in rows.iter().filter(|row| row.len() == 3) {
        for name in &row[1] {
            let name = name.rsplit("::").next().unwrap();
            assert!(members.contains(name), "{name} is not in src/postgres");
            told.insert(name.to_owned());
        }
        assert_eq!(row[2].len(), 1, "{row:?}");
        assert!(tests.contains(&row[2][0]), "there is no test {}", row[2][0]);
    }

    // Whatever a class can do is told.
    let files = [
        "low_level_backup.rs",
        "connection.rs",
        "fetch_status.rs",
        "commands.rs",
        "keep_alive.rs",
        "registry.rs",
        "read.rs",
        "slots.rs",
        "standby.rs",
        "streaming.rs",
        "wal_senders.rs",
    ];
    for file in files {
        let text = fs::read_to_string(root().join("src/postgres").join(file)).unwrap();
        for name in [defined(&text, "pub fn "), defined(&text, "pub async fn ")].concat_sets() {
            assert!(told.contains(&name), "{name} of {file} is not on the page");
        }
    }
    let base = fs::read_to_string(root().join("src/postgres/postgresql.rs")).unwrap();
    let (_, trait_text) = base.split_once("pub trait PostgreSQL").unwrap();
    let (trait_text, _) = trait_text.split_once("\n}\n").unwrap();
    for name in defined(trait_text, "\n    fn ") {
        assert!(told.contains(&name), "{name} of the trait is not on the page");
    }
}

#[test]
fn the_table_of_exceptions_is_that_of_the_error() {
    let error = fs::read_to_string(root().join("src/postgres/error.rs")).unwrap();
    let (_, class) = error.split_once("pub fn class").unwrap();
    let (class, _) = class.split_once("\n    }\n").unwrap();
    let variants = defined(class, "Self::");
    let classes: BTreeSet<String> = class.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    let rows = rows();
    let two_columns = || rows.iter().filter(|row| row.len() == 2);
    let names = |column: usize| two_columns().flat_map(|row| row[column].clone()).collect::<BTreeSet<_>>();
    assert_eq!(names(0), classes);
    assert_eq!(names(1), variants);
    for row in two_columns() {
        for variant in &row[1] {
            let line = format!("{}\"", row[0][0]);
            let arm = class.split(",\n").find(|arm| arm.contains(&line)).expect("it is a class");
            assert!(arm.contains(&format!("Self::{variant}")), "{variant} is no {}", row[0][0]);
        }
    }
}

trait ConcatSets {
    fn concat_sets(self) -> BTreeSet<String>;
}

impl ConcatSets for [BTreeSet<String>; 2] {
    fn concat_sets(self) -> BTreeSet<String> {
        self.into_iter().flatten().collect()
    }
}
