//! The house as README and docs/architecture.md draw it: each module imports only those above it.
//!
//! The test reads the `use` lines and paths of the source, without the tests in it. To give a module a new import is
//! to change the table here, where a reviewer sees it; to add a module is to add a row here and in the README.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A module of the crate, and the modules that it may import.
struct Module {
    name: &'static str,
    imports: &'static [&'static str],
}

const fn module(name: &'static str, imports: &'static [&'static str]) -> Module {
    Module { name, imports }
}

/// From the lowest layer up: a module imports nothing that stands below its own row.
const HOUSE: &[Module] = &[
    module("types", &[]),
    module("codec", &["types"]),
    module("wal", &["types"]),
    module("auth", &["types"]),
    module("session", &["auth", "codec", "types"]),
    module("conninfo", &["auth", "codec", "types"]),
    module("compression", &[]),
    module("random", &[]),
    module("storage", &["random", "types"]),
    module("archive", &["compression", "storage", "types", "wal"]),
    module("deadline", &[]),
    module("net", &["conninfo"]),
    module("client", &["auth", "codec", "conninfo", "deadline", "net", "random", "session", "types"]),
    module("replication", &["client", "codec", "conninfo", "deadline", "session", "types"]),
    module(
        "receiver",
        &[
            "archive",
            "client",
            "compression",
            "conninfo",
            "deadline",
            "random",
            "replication",
            "storage",
            "types",
            "wal",
        ],
    ),
    module("postgres", &["client", "codec", "conninfo", "deadline", "replication", "types"]),
    module("test_server", &["codec"]),
    // The program. It is a crate of its own, which imports the library as `tapster`.
    module("cli", &[]),
];

/// Private helpers, which the README does not list.
const PRIVATE: [&str; 2] = ["deadline", "random"];

/// `no_std`: no clock, randomness, I/O, environment or log in them.
const NO_STD: [&str; 5] = ["types", "codec", "wal", "auth", "session"];

/// No module may hold this many percent of the source, tests included. A larger one is several.
const LARGEST_SHARE: usize = 20;

#[test]
fn every_module_imports_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for file in sources() {
        let allowed = HOUSE.iter().find(|module| module.name == file.module).map(|module| module.imports);
        let allowed = allowed.unwrap_or_else(|| panic!("{} is of no module in HOUSE", file.path.display()));
        for (line, text) in file.lines() {
            for import in imports(text) {
                if import != file.module && !allowed.contains(&import.as_str()) {
                    wrong.push(format!("{}:{line}: {} imports {import}", file.path.display(), file.module));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "not allowed by HOUSE:\n{}", wrong.join("\n"));
}

#[test]
fn no_arrow_rises() {
    for (row, module) in HOUSE.iter().enumerate() {
        for import in module.imports {
            let below = HOUSE[..row].iter().any(|lower| lower.name == *import);
            assert!(below, "{} may import {import}, which does not stand before it in HOUSE", module.name);
        }
    }
}

#[test]
fn the_table_has_exactly_the_modules_of_the_source() {
    let entries = fs::read_dir(root().join("src")).unwrap().map(|entry| entry.unwrap().path());
    let mut of_source: Vec<String> = entries
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "lib" && name != "main")
        .collect();
    let mut of_table: Vec<_> = HOUSE.iter().map(|module| module.name).collect();
    of_source.sort();
    of_table.sort_unstable();
    assert_eq!(of_source, of_table);
}

#[test]
fn the_readme_draws_the_same_house() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, house) = readme.split_once("\n## The house\n").expect("README.md has the section");
    let table =
        house.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let of_readme: Vec<_> = table.skip(2).map(|row| row.split('`').nth(1).expect(row)).collect();
    let of_table: Vec<_> =
        HOUSE.iter().map(|module| module.name).filter(|name| !PRIVATE.contains(name)).collect();
    assert_eq!(of_readme, of_table);
}

#[test]
fn the_lowest_layers_have_no_std() {
    for file in sources().into_iter().filter(|file| NO_STD.contains(&file.module.as_str())) {
        for (line, text) in file.lines() {
            // A conversion from a type of std, behind the feature, spells its path out.
            assert!(!text.trim_start().starts_with("use std::"), "{}:{line}: {text}", file.path.display());
        }
    }
}

#[test]
fn only_the_command_line_prints_and_only_main_ends_the_process() {
    let ends = ["process::exit", "process::abort", "exit_group"];
    let prints = ["print!", "println!", "dbg!", "stdout()", "stderr()"];
    for file in sources() {
        for (line, text) in file.lines() {
            let place = || format!("{}:{line}: {text}", file.path.display());
            assert!(!ends.iter().any(|end| text.contains(end)), "{}", place());
            assert!(file.module == "cli" || !prints.iter().any(|print| text.contains(print)), "{}", place());
        }
    }
}

#[test]
fn no_module_is_a_house_of_its_own() {
    let mut lines = BTreeMap::<String, usize>::new();
    for file in sources() {
        *lines.entry(file.module.clone()).or_default() += file.text.lines().count();
    }
    let all: usize = lines.values().sum();
    for (module, lines) in lines {
        let percent = lines * 100 / all;
        assert!(percent < LARGEST_SHARE, "{module} has {percent} % of the source: split it");
    }
}

#[test]
fn a_rising_arrow_would_be_seen() {
    assert_eq!(imports("use crate::client::Error;"), ["client"]);
    assert_eq!(imports("    let x: crate::net::Stream = crate::types::Lsn::new(0);"), ["net", "types"]);
    assert_eq!(imports("use crate::{client::Error, net::Stream};"), ["client", "net"]);
    assert_eq!(imports("// use crate::client::Error;"), [""; 0]);
    assert_eq!(imports("use crate::Error;"), ["client"], "what the root hands on comes from the client");
}

/// A file of the source.
struct Source {
    path: PathBuf,
    module: String,
    text: String,
}

impl Source {
    /// The lines with their numbers, without comments, up to the tests.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let code = self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        code.lines().enumerate().map(|(i, line)| (i + 1, line.split("//").next().unwrap_or_default()))
    }
}

/// All files of the source but the crates' roots and those that hold only tests.
fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    collect(&root().join("src"), &mut sources);
    assert!(sources.len() > 100, "only {} files were found", sources.len());
    sources
}

fn collect(directory: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            collect(&path, sources);
        } else if !["lib.rs", "main.rs", "tests.rs", "test_support.rs"].contains(&name) {
            let relative = path.strip_prefix(root().join("src")).unwrap();
            let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
            let module = first.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).unwrap();
            sources.push(Source { path, module, text });
        }
    }
}

/// The modules that a line of code names by a path from the crate's root.
fn imports(line: &str) -> Vec<String> {
    let line = line.split("//").next().unwrap_or_default();
    let mut names = Vec::new();
    for path in line.split("crate::").skip(1) {
        match path.strip_prefix('{') {
            Some(group) => {
                let group = group.split('}').next().unwrap_or_default();
                names.extend(group.split(',').map(|one| first_word(one.trim_start())));
            }
            None => names.push(first_word(path)),
        }
    }
    // The root hands on the client's errors, under names that begin with a capital letter.
    names
        .into_iter()
        .map(|name| if name.starts_with(char::is_uppercase) { "client".into() } else { name })
        .collect()
}

fn first_word(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_public_async_function_says_what_becomes_of_its_work() {
    let (mut silent, mut found) = (Vec::new(), 0);
    for file in sources().into_iter().filter(|file| file.module != "cli") {
        let mut docs = String::new();
        for line in file.text.lines().map(str::trim) {
            if let Some(doc) = line.strip_prefix("///") {
                docs.push_str(&doc.to_lowercase());
            } else if !line.starts_with("#[") {
                if line.starts_with("pub async fn ") {
                    found += 1;
                    if !docs.contains("cancel safety") {
                        silent.push(format!("{}: {line}", file.path.display()));
                    }
                }
                docs.clear();
            }
        }
    }
    assert!(silent.is_empty(), "no word about a dropped future:\n{}", silent.join("\n"));
    assert!(found > 90, "only {found} functions were found");
}
