//! The result goes to stdout, everything for people to stderr.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use core::time::Duration;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{IsTerminal as _, Write, stdout};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use tapster::types::Printable;

use super::failure::Failure;
use super::readable;
use super::stderr::{self, Level};

/// Writes a line of the result, or several, safely for a terminal.
///
/// # Errors
/// [`Failure::unwritten`].
pub(super) fn print(line: &str) -> Result<(), Failure> {
    print_to(&mut stdout().lock(), &readable::for_people(line))
}

fn print_to(out: &mut impl Write, line: &str) -> Result<(), Failure> {
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| Failure::unwritten(&error))
}

/// The colour of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Green,
    Red,
}

/// Writes a line of the result that begins with a verdict, which is in colour on a terminal.
///
/// # Errors
/// [`Failure::unwritten`].
pub(super) fn print_verdict(word: &str, colour: Colour, rest: &str) -> Result<(), Failure> {
    let is_coloured = is_coloured(&|name| std::env::var_os(name), stdout().is_terminal());
    let code = match colour {
        Colour::Green => 32,
        Colour::Red => 31,
    };
    let word = if is_coloured { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_string() };
    print_to(&mut stdout().lock(), &format!("{word}{}", readable::for_people(rest)))
}

/// Whether the result may have colours: on a terminal that has them, unless the environment says otherwise.
fn is_coloured(variable: &dyn Fn(&str) -> Option<OsString>, is_terminal: bool) -> bool {
    let is_set = |name| variable(name).is_some_and(|value| !value.is_empty());
    if is_set("NO_COLOR") {
        return false;
    }
    let is_forced = is_set("CLICOLOR_FORCE") && variable("CLICOLOR_FORCE").is_some_and(|value| value != "0");
    is_forced || is_terminal && variable("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Whether the terminal has no cursor that could be moved.
pub(super) fn is_dumb_terminal() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// Writes a document, or one event of many, as one line of the result.
pub(super) fn print_json(document: &Value) -> Result<(), Failure> {
    print_to(&mut stdout().lock(), &readable::for_programs(document))
}

/// As [`print_json`], for the events of a long-running command. It does not wait for a reader that hangs; that reader
/// misses events until it reads again.
pub(super) fn print_event(document: &Value) -> Result<(), Failure> {
    static IS_READ: AtomicBool = AtomicBool::new(true);
    let patience = if IS_READ.load(Relaxed) { stderr::PATIENCE } else { Duration::ZERO };
    let is_read = stderr::is_writable(stdout(), patience);
    IS_READ.store(is_read, Relaxed);
    if is_read { print_json(document) } else { Ok(()) }
}

/// Writes a line for people.
pub(super) fn note(line: &str) {
    stderr::line(line);
}

/// Writes a warning for people, once in this process: several connections may give the same.
pub(super) fn warn_once(line: &str) {
    static WRITTEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let is_new = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner).insert(line.to_owned());
    if is_new {
        stderr::log(Level::Warning, &format!("WARNING: {line}"), line, &json!({}));
    }
}

/// Writes rows in columns as wide as their widest cell, the first row being the headings. A cell is one line.
pub(super) fn print_table(rows: &[Vec<String>]) -> Result<(), Failure> {
    let cells = |row: &Vec<String>| row.iter().map(|cell| Printable(cell).to_string()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        print(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, ErrorKind};

    /// Fails every write with this error.
    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn colours_are_for_terminals_that_have_them() {
        let is_coloured = |variables: &[(&str, &str)], is_terminal| {
            let find = |name: &str| variables.iter().find(|variable| variable.0 == name);
            is_coloured(&|name| find(name).map(|variable| variable.1.into()), is_terminal)
        };
        assert!(is_coloured(&[("TERM", "xterm")], true));
        assert!(is_coloured(&[("TERM", "xterm"), ("NO_COLOR", "")], true), "an empty one is not set");
        assert!(is_coloured(&[("CLICOLOR_FORCE", "1")], false));
        for (variables, is_terminal) in [
            (&[("TERM", "xterm")][..], false),
            (&[("TERM", "dumb")], true),
            (&[], true),
            (&[("TERM", "xterm"), ("NO_COLOR", "1")], true),
            (&[("CLICOLOR_FORCE", "0")], false),
            (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        ] {
            assert!(!is_coloured(variables, is_terminal), "{variables:?} {is_terminal}");
        }
    }

    #[test]
    fn a_reader_that_is_gone_has_read_enough_and_a_full_disk_is_a_failure() {
        assert!(print_to(&mut Vec::new(), "x").is_ok());
        let gone = print_to(&mut Broken(ErrorKind::BrokenPipe), "x").unwrap_err();
        assert_eq!((gone.code(), gone.is_reported()), (0, true));
        let full = print_to(&mut Broken(ErrorKind::StorageFull), "x").unwrap_err();
        assert_eq!((full.code(), full.is_reported()), (6, false));
        assert!(full.message().starts_with("could not write the result: "), "{}", full.message());
    }
}
