use core::fmt::Display;

use tapster::Error;
use tapster::codec::ServerError;
use tapster::receiver::{ReceiveError, ReceiverEvent};
use tapster::types::{SqlState, TimelineId};

use crate::cli::advice::Personality;
use crate::cli::failure::{Failure, with_causes};
use crate::cli::output;

/// Writes to stderr as PostgreSQL's programs do: each line begins with the program's name.
#[derive(Clone, Debug)]
pub(super) struct Messages {
    program: String,
    verbose: bool,
    /// The timeline to which the stream has just switched; the switch was reported.
    switched_to: Option<TimelineId>,
    /// Whether there was a working connection.
    pub(super) was_connected: bool,
}

impl Messages {
    pub(super) fn new(program: &str) -> Self {
        Self { program: program.into(), verbose: false, switched_to: None, was_connected: false }
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
        if let Some(hint) = failure.hint().and_then(|hint| hint.text(Personality::PgReceivewal)) {
            self.hint(hint);
        }
    }

    pub(super) fn event(&mut self, event: &ReceiverEvent<'_>) {
        match event {
            ReceiverEvent::Connected { .. } => self.was_connected = true,
            ReceiverEvent::ArchiveWarning(warning) => self.warning(warning),
            ReceiverEvent::Starting { start, timeline } => {
                let is_reported = self.switched_to.take() == Some(*timeline);
                if !is_reported {
                    self.detail(format_args!("starting log streaming at {start} (timeline {timeline})"));
                }
            }
            ReceiverEvent::SegmentFinished(segment) => {
                let (end, timeline) = (segment.end(), segment.timeline());
                self.detail(format_args!("finished segment at {end} (timeline {timeline})"));
            }
            ReceiverEvent::SegmentLeft(segment) => {
                self.info(format_args!("not renaming \"{segment}.partial\", segment is not complete"));
            }
            ReceiverEvent::TimelineSwitched { timeline, switchpoint } => {
                self.switched_to = Some(*timeline);
                self.detail(format_args!("switched to timeline {timeline} at {switchpoint}"));
            }
            ReceiverEvent::Damage { damage, .. } => {
                self.warning(format_args!("the server sent damaged WAL: {damage}; fetching it again"));
            }
            ReceiverEvent::NotLocked(error) => self.warning(format_args!("{}", with_causes(*error))),
            ReceiverEvent::SlotUnknown { slot, error } => self.warning(format_args!(
                "could not find out what slot \"{slot}\" keeps: {}",
                with_causes(*error)
            )),
            ReceiverEvent::ArchiveDamage { segment, damage } => {
                self.warning(format_args!(
                    "segment {segment} of the archive is damaged: {damage}; it is received again"
                ));
            }
            ReceiverEvent::NotCompressed { error, .. } => {
                self.warning(format_args!("{}; trying again", with_causes(*error)));
            }
            ReceiverEvent::Unchecked(version) => {
                self.warning(format_args!("WAL of PostgreSQL {version} is stored without being checked"));
            }
            ReceiverEvent::OutOfSpace { error, retry_in } => {
                self.error(&Failure::from(*error));
                self.info(format_args!("waiting {} seconds to try again", retry_in.as_secs()));
            }
            ReceiverEvent::Disconnected { error, retry_in } => {
                self.error(&describe(error));
                let seconds = retry_in.as_secs_f64();
                self.info(format_args!("disconnected; waiting {seconds:.1} seconds to try again"));
            }
            _ => {}
        }
    }
}

/// The error in the words of PostgreSQL's program.
pub(super) fn describe(error: &ReceiveError) -> Failure {
    let failure = Failure::from(error);
    let ReceiveError::Connection(Error::Server(said)) = error else { return failure };
    let words = if said.severity.ends_connection() {
        format!("unexpected termination of replication stream: {}", server_words(said))
    } else if said.sqlstate == SqlState::UNDEFINED_OBJECT {
        // The slot does not exist. PostgreSQL's program finds out by READ_REPLICATION_SLOT, with this message.
        said.message.clone()
    } else {
        refused("START_REPLICATION", said)
    };
    failure.reworded(words)
}

/// A command that the server refused.
pub(super) fn refused(command: &str, said: &ServerError) -> String {
    format!("could not send replication command \"{command}\": {}", server_words(said))
}

/// An error as libpq shows it.
fn server_words(said: &ServerError) -> String {
    let mut words = format!("{}:  {}", said.severity, said.message);
    for (name, text) in [("DETAIL", &said.detail), ("HINT", &said.hint)] {
        if let Some(text) = text {
            words.push_str(&format!("\n{name}:  {text}"));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapster::codec::BackendMessage;

    #[test]
    fn a_message_of_the_server_is_not_searched_for_hints() {
        let fields = b"SERROR\0VERROR\0C42704\0Mbad value\nhint: x\n  y\0\0";
        let Ok(BackendMessage::ErrorResponse(fields)) = BackendMessage::parse(b'E', fields) else { panic!() };
        let said = Error::Server(Box::new(fields.to_server_error()));
        let failure = describe(&ReceiveError::Connection(said));
        assert_eq!(failure.message(), "bad value\nhint: x\n  y");
        let hint = failure.hint().and_then(|hint| hint.text(Personality::PgReceivewal));
        assert_eq!(hint.as_deref(), Some("create the slot with --create-slot"));
        assert!(!failure.is_refusal(), "its lines would be taken for details of ours");
    }
}
