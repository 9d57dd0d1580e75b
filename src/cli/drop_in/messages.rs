use core::fmt::Display;

use tapster::codec::ServerError;
use tapster::types::PrintableLines;

use crate::cli::advice::Personality;
use crate::cli::failure::Failure;
use crate::cli::output;

/// Writes to stderr as PostgreSQL's programs do: each line begins with the program's name.
#[derive(Clone, Debug)]
pub(super) struct Messages {
    program: String,
    verbose: bool,
}

impl Messages {
    pub(super) fn new(program: &str) -> Self {
        Self { program: program.into(), verbose: false }
    }

    pub(super) fn set_verbose(&mut self, verbose: bool) {
        self.verbose = verbose;
    }

    /// A line that is printed only with `--verbose`.
    pub(super) fn detail(&self, text: impl Display) {
        if self.verbose {
            self.info(text);
        }
    }

    pub(super) fn info(&self, text: impl Display) {
        output::note(&format!("{}: {text}", self.program));
    }

    pub(super) fn warning(&self, text: impl Display) {
        self.info(format_args!("warning: {text}"));
    }

    pub(super) fn hint(&self, text: impl Display) {
        self.info(format_args!("hint: {text}"));
    }

    /// Prints the details of our refusals, and hints, on lines of their own, as PostgreSQL's programs do. A server's
    /// message is printed unchanged.
    pub(super) fn error(&self, failure: &Failure) {
        let mut lines = failure.message().lines();
        self.info(format_args!("error: {}", lines.next().unwrap_or_default()));
        for line in lines {
            match line.strip_prefix("  ").filter(|_| failure.is_refusal()) {
                Some(detail) => self.info(format_args!("detail: {detail}")),
                None => output::note(line),
            }
        }
        if let Some(hint) = failure.hint(Personality::PgReceivewal) {
            self.hint(hint);
        }
    }
}

/// A command that the server refused.
pub(super) fn refused(command: &str, said: &ServerError) -> String {
    format!("could not send replication command \"{command}\": {}", server_words(said))
}

/// An error as libpq shows it, but safe for terminals and logs.
pub(super) fn server_words(said: &ServerError) -> String {
    let mut words = format!("{}:  {}", said.severity, PrintableLines(&said.message));
    for (name, text) in [("DETAIL", &said.detail), ("HINT", &said.hint)] {
        if let Some(text) = text {
            words.push_str(&format!("\n{name}:  {}", PrintableLines(text)));
        }
    }
    words
}
