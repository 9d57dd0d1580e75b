//! The manual pages in `docs/man`, from the same definitions as the help. A test writes them instead of the program,
//! to keep the program small.

mod sections;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::{env, fs};

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::{Cli, EXIT_CODES};

/// If this variable is set, the pages are written.
const WRITE: &str = "TAPSTER_WRITE_MAN";

#[test]
fn the_manual_pages_say_what_the_help_says() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/man");
    let pages = pages();
    if env::var_os(WRITE).is_some() {
        drop(fs::remove_dir_all(&directory));
        fs::create_dir(&directory).unwrap();
        pages.iter().for_each(|(name, page)| fs::write(directory.join(name), page).unwrap());
    }
    let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap());
    let here: BTreeMap<_, _> = files
        .map(|file| (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap()))
        .collect();
    let outdated: BTreeSet<_> =
        here.keys().chain(pages.keys()).filter(|&name| here.get(name) != pages.get(name)).collect();
    assert!(outdated.is_empty(), "{outdated:?}; {WRITE}=1 cargo test --bin tapster manual_pages writes them");
}

/// All pages by file name.
fn pages() -> BTreeMap<String, String> {
    // Only the version number: how this test's program was built does not matter.
    let program = Cli::command().version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true);
    // The page describes its environment variables in one sentence.
    let mut program =
        program.mut_subcommand("receive-wal", |command| command.mut_args(|arg| arg.hide_env(true)));
    program.build();
    let mut pages = BTreeMap::new();
    add(&mut pages, &program);
    pages
}

fn add(pages: &mut BTreeMap<String, String>, command: &Command) {
    let page = Man::new(command.clone()).source(concat!("tapster ", env!("CARGO_PKG_VERSION")));
    pages.insert(page.get_filename(), render(&page, command));
    command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .for_each(|command| add(pages, command));
}

fn render(page: &Man, command: &Command) -> String {
    let mut text = Vec::new();
    page.render_title(&mut text).unwrap();
    page.render_name_section(&mut text).unwrap();
    page.render_synopsis_section(&mut text).unwrap();
    page.render_description_section(&mut text).unwrap();
    page.render_options_section(&mut text).unwrap();
    if command.has_subcommands() {
        page.render_subcommands_section(&mut text).unwrap();
    }
    let mut notes = Roff::new();
    for paragraph in after_help(command).split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        match paragraph.split_once(":\n") {
            Some((title, table)) => {
                let title = if title == "Exit codes" { "EXIT STATUS" } else { &title.to_uppercase() };
                let mut section = Roff::new();
                section.control("SH", [title]).control("nf", []).text([roman(table)]).control("fi", []);
                section.to_writer(&mut text).unwrap();
            }
            None => {
                notes.control("PP", []).text([roman(paragraph.trim())]);
            }
        }
    }
    // A page that only lists other pages needs neither.
    if !command.has_subcommands() || command.get_name() == "tapster" {
        for section in [
            sections::section("ENVIRONMENT", sections::environment(command)),
            sections::section("FILES", sections::files(command)),
        ] {
            section.to_writer(&mut text).unwrap();
        }
    }
    if notes != Roff::new() {
        Roff::new().control("SH", ["NOTES"]).to_writer(&mut text).unwrap();
        notes.to_writer(&mut text).unwrap();
    }
    String::from_utf8(text).unwrap().trim_end().to_owned() + "\n"
}

/// The text after the options in the long help; for the program itself, with all exit codes.
fn after_help(command: &Command) -> String {
    let after = command.get_after_long_help().or_else(|| command.get_after_help());
    let after = after.map(ToString::to_string).unwrap_or_default();
    if command.get_name() == "tapster" { format!("{after}\n\n{EXIT_CODES}") } else { after }
}
