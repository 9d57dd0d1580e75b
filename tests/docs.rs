//! The pages against the tree: what they link to and name is there.
//!
//! A page names a file by its path from the root, `src/lib.rs`, and a thing in a file as `src/lib.rs::NAME`: a function,
//! a type or a constant. In the test programs, `tests/FILE.rs::NAME` is a test. Words in capitals are placeholders.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What the repository's own paths begin with.
const FOLDERS: [&str; 7] = ["src/", "tests/", "docs/", "benches/", "fuzz/", "examples/", ".ci/"];

/// How an item is defined, before its name.
const DEFINITIONS: [&str; 8] = ["fn", "struct", "enum", "trait", "const", "static", "type", "mod"];

#[test]
fn what_the_pages_name_is_there() {
    let (mut wrong, mut named) = (Vec::new(), 0);
    for page in pages() {
        let text = read(&page);
        let names = names(&text);
        named += names.len();
        let complaints = names.iter().filter_map(|name| complaint(&page, name));
        wrong.extend(complaints.map(|complaint| format!("{page}: {complaint}")));
    }
    assert!(wrong.is_empty(), "{} mistakes:\n{}", wrong.len(), wrong.join("\n"));
    assert!(named > 300, "only {named} names were found in the pages");
}

#[test]
fn the_pages_that_a_reader_looks_for_are_linked_from_the_readme() {
    let readme = read("README.md");
    for page in pages().iter().filter(|page| *page != "README.md") {
        assert!(readme.contains(&format!("]({page})")), "README.md has no link to {page}");
    }
}

#[test]
fn a_wrong_name_would_be_seen() {
    let wrong = [
        "[a page](docs/none.md)",
        "[a place](README.md#no-such-heading)",
        "[from there](../nowhere.md)",
        "`src/none.rs`",
        "`src/none/`",
        "`docs/man/*.none`",
        "`src/lib.rs::none`",
        "`tests/docs.rs::complaint`",
        "`tests/run.sh --only none`",
        "```sh\ntests/none.sh\n```",
        "```sh\ntests/run.sh --only none\n```",
        "```sh\ncargo test --test none\n```",
        "```sh\ncargo test --test docs none_of_these\n```",
        "```sh\ncargo test --features none\n```",
        "```sh\ncargo bench --bench none\n```",
        "```sh\ncargo run --example none\n```",
        "```sh\ntapster none service=db1\n```",
    ];
    for text in wrong {
        let seen = names(text).iter().filter_map(|name| complaint("README.md", name)).count();
        assert_eq!(seen, 1, "{text}");
    }
    let right = [
        "[a page](docs/operating.md), [a place](README.md#the-house), [elsewhere](https://example.org/none)",
        "`src/lib.rs`, `src/`, `docs/man/*.1`, `tests/docs.rs::a_wrong_name_would_be_seen`, `cargo`, `db1/wal`",
        "`tests/run.sh --only STEP`, `tests/run.sh --only clippy`",
        "```sh\ncargo test --test docs a_wrong_name  # src/none.rs is no word of the command\n```",
        "```sh\ncargo test --test TEST NAME; cargo check --features auth,session\n```",
        "```sh\ntapster status service=db1\n```",
        "```rust\nlet path = \"src/none.rs\";\n```",
    ];
    for text in right {
        let complaints: Vec<_> = names(text).iter().filter_map(|name| complaint("README.md", name)).collect();
        assert!(complaints.is_empty(), "{text}: {complaints:?}");
    }
}

#[test]
fn what_a_page_of_the_package_links_to_is_in_the_package() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let list = ["package", "--list", "--allow-dirty", "--offline"];
    let output = Command::new(cargo).args(list).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let packaged = String::from_utf8(output.stdout).unwrap();
    let packaged: Vec<&str> = packaged.lines().collect();
    for page in pages().iter().chain([&"CHANGELOG.md".to_owned()]) {
        assert!(packaged.contains(&page.as_str()), "{page} is not in the package");
        let folder = Path::new(page).parent().unwrap();
        for name in names(&read(page)) {
            let Name::Link(target) = name else { continue };
            let Some(path) = target.split('#').next().filter(|path| !path.is_empty()) else { continue };
            // A page in a folder may link to one in the folder above.
            let path = path.strip_prefix("../").map_or_else(|| folder.join(path), |path| path.into());
            let path = path.to_str().unwrap();
            assert!(packaged.contains(&path), "{page} links to {path}, which is not in the package");
        }
    }
}

/// Something that a page names.
#[derive(Debug)]
enum Name {
    /// The target of a link.
    Link(String),
    /// A path from the root.
    Path(String),
    /// A thing in a file.
    Item { path: String, item: String },
    /// A step of tests/run.sh.
    Step(String),
    /// A target of cargo: the option that chooses it, its name, and for a test which of its tests.
    Target { kind: &'static str, name: String, filter: Option<String> },
    /// A feature of the crate.
    Feature(String),
    /// A command of the program.
    Command(String),
}

/// The pages that are checked.
fn pages() -> Vec<String> {
    let docs = fs::read_dir(root().join("docs")).unwrap();
    let docs = docs.map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap()));
    let mut pages: Vec<_> = docs.filter(|name| name.ends_with(".md")).collect();
    pages.sort();
    pages.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(str::to_owned));
    pages
}

/// Everything that a page names.
fn names(text: &str) -> Vec<Name> {
    let mut names = Vec::new();
    for (i, part) in text.split("```").enumerate() {
        // Every other part is a block, which begins with its language.
        if i % 2 == 0 {
            of_prose(part, &mut names);
        } else if let Some(("sh", commands)) = part.split_once('\n') {
            commands.lines().for_each(|line| {
                of_command(line.split(" #").next().unwrap_or_default(), &mut names);
            });
        }
    }
    names
}

fn of_prose(text: &str, names: &mut Vec<Name>) {
    // Every other part stands in backquotes.
    for (i, part) in text.split('`').enumerate() {
        if i % 2 == 0 {
            links(part, names);
        } else {
            of_command(part, names);
        }
    }
}

fn links(text: &str, names: &mut Vec<Name>) {
    for target in text.split("](").skip(1) {
        let target = target.split(')').next().unwrap_or_default();
        if !target.contains("://") {
            names.push(Name::Link(target.to_owned()));
        }
    }
}

/// The names in a command line, or in what stands in backquotes.
fn of_command(command: &str, names: &mut Vec<Name>) {
    let words: Vec<_> = command.split([' ', '\n', ';', '=']).filter(|word| !word.is_empty()).collect();
    for (i, word) in words.iter().enumerate() {
        let (next, second) = (words.get(i + 1), words.get(i + 2));
        let is_name = |word: &&&str| word.starts_with(|c: char| c.is_ascii_lowercase());
        match *word {
            "--only" => names.extend(next.filter(is_name).map(|step| Name::Step((*step).to_owned()))),
            "--features" => {
                let features = next.filter(is_name).into_iter().flat_map(|features| features.split(','));
                names.extend(features.map(|feature| Name::Feature(feature.to_owned())));
            }
            "tapster" if i == 0 => {
                names.extend(next.filter(is_name).map(|name| Name::Command((*name).to_owned())));
            }
            _ => {}
        }
        for kind in ["--test", "--bench", "--example"] {
            if *word == kind
                && let Some(name) = next.filter(is_name)
            {
                let filter = second.filter(is_name).filter(|_| kind == "--test");
                let filter = filter.map(|filter| (*filter).to_owned());
                names.push(Name::Target { kind, name: (*name).to_owned(), filter });
            }
        }
        of_word(word, names);
    }
}

fn of_word(word: &str, names: &mut Vec<Name>) {
    let (path, item) = word.split_once("::").unwrap_or((word, ""));
    let is_path = FOLDERS.iter().any(|folder| path.starts_with(folder)) || root().join(path).is_file();
    if !is_path || has_placeholder(path) || item == "NAME" {
        return;
    }
    let path = path.to_owned();
    names.push(match item {
        "" => Name::Path(path),
        item => Name::Item { path, item: item.to_owned() },
    });
}

/// Whether a part of a path stands for something else.
fn has_placeholder(path: &str) -> bool {
    let mut parts = path.split(['/', '.', '-', '_']);
    parts.any(|part| part.len() > 1 && part != "README" && part.chars().all(|c| c.is_ascii_uppercase()))
}

/// What is wrong with a name, if something is.
fn complaint(page: &str, name: &Name) -> Option<String> {
    match name {
        Name::Link(target) => {
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(page).parent().unwrap();
            let file =
                root().join(if path.is_empty() { Path::new(page).to_owned() } else { folder.join(path) });
            let is_there = match heading {
                "" => file.exists(),
                heading => fs::read_to_string(file).is_ok_and(|text| has_heading(&text, heading)),
            };
            (!is_there).then(|| format!("the link {target} leads nowhere"))
        }
        Name::Path(path) => (!exists(path)).then(|| format!("there is no {path}")),
        Name::Item { path, item } => {
            let Ok(text) = fs::read_to_string(root().join(path)) else {
                return Some(format!("there is no {path}"));
            };
            let is_program = path.starts_with("tests/") && !path.starts_with("tests/support/");
            let is_test = is_program && item.starts_with(|c: char| c.is_ascii_lowercase());
            let is_there = if is_test { tests(&text).contains(&item.as_str()) } else { defines(&text, item) };
            (!is_there).then(|| format!("{path} has no {item}"))
        }
        Name::Step(step) => {
            let run = read("tests/run.sh");
            (!run.contains(&format!("\nstep_{step}() {{")))
                .then(|| format!("tests/run.sh has no step {step}"))
        }
        Name::Target { kind, name, filter } => {
            let Some(files) = target(kind, name) else { return Some(format!("there is no {kind} {name}")) };
            let filter = filter.as_deref()?;
            let is_there = files.iter().any(|text| tests(text).iter().any(|test| test.contains(filter)));
            (!is_there).then(|| format!("{kind} {name} has no test {filter}"))
        }
        Name::Feature(feature) => {
            let manifest = read("Cargo.toml");
            (!manifest.contains(&format!("\n{feature} = [")))
                .then(|| format!("there is no feature {feature}"))
        }
        Name::Command(command) => {
            let is_there = command == "help" || exists(&format!("docs/man/tapster-{command}.1"));
            (!is_there).then(|| format!("there is no command {command}"))
        }
    }
}

/// Whether a file or folder is there; with a star in the last part of the path, whether there is one like it.
fn exists(path: &str) -> bool {
    let Some((before, after)) = path.split_once('*') else { return root().join(path).exists() };
    let (folder, start) = before.rsplit_once('/').unwrap_or(("", before));
    let Ok(entries) = fs::read_dir(root().join(folder)) else { return false };
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .any(|name| name.strip_prefix(start).is_some_and(|rest| rest.ends_with(after)))
}

fn has_heading(text: &str, heading: &str) -> bool {
    let mut headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    headings.any(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        title.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).eq(heading.chars())
    })
}

/// Whether a file defines something of this name.
fn defines(text: &str, item: &str) -> bool {
    DEFINITIONS.iter().any(|kind| {
        let definition = format!("{kind} {item}");
        text.match_indices(&definition).any(|(at, _)| {
            let is_end = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            is_end(text[..at].chars().next_back()) && is_end(text[at + definition.len()..].chars().next())
        })
    })
}

/// The names of the tests in a file.
fn tests(text: &str) -> Vec<&str> {
    let mut tests = Vec::new();
    let mut is_next = false;
    for line in text.lines().map(str::trim) {
        is_next |= line.starts_with("#[test") || line.starts_with("#[tokio::test");
        if let Some((_, rest)) = line.split_once("fn ").filter(|_| !line.starts_with("//"))
            && core::mem::take(&mut is_next)
        {
            tests.push(rest.split(['(', '<']).next().unwrap_or_default());
        }
    }
    tests
}

/// The files of a target, if there is such a one.
fn target(kind: &str, name: &str) -> Option<Vec<String>> {
    let folder = root().join(match kind {
        "--test" => "tests",
        "--bench" => "benches",
        _ => "examples",
    });
    if let Ok(text) = fs::read_to_string(folder.join(format!("{name}.rs"))) {
        return Some(vec![text]);
    }
    let files = fs::read_dir(folder.join(name)).ok()?.map(|entry| entry.unwrap().path());
    Some(files.map(|path| fs::read_to_string(path).unwrap_or_default()).collect())
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
