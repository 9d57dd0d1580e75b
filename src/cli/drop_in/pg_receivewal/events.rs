use tapster::Error;
use tapster::receiver::{ReceiveError, ReceiverEvent};
use tapster::types::{SqlState, TimelineId};

use crate::cli::drop_in::messages::{Messages, refused, server_words};
use crate::cli::failure::{Failure, with_causes};

/// Reports a receiver's events in the words of `pg_receivewal`.
#[derive(Debug)]
pub(super) struct Events<'a> {
    messages: &'a Messages,
    /// The timeline to which the stream has just switched; the switch was reported.
    switched_to: Option<TimelineId>,
    /// Whether there was a working connection.
    pub(super) was_connected: bool,
}

impl<'a> Events<'a> {
    pub(super) fn new(messages: &'a Messages) -> Self {
        Self { messages, switched_to: None, was_connected: false }
    }

    pub(super) fn report(&mut self, event: &ReceiverEvent<'_>) {
        match event {
            ReceiverEvent::Connected { .. } => self.was_connected = true,
            ReceiverEvent::ArchiveWarning(warning) => self.messages.warning(warning),
            ReceiverEvent::Starting { start, timeline } => {
                let is_reported = self.switched_to.take() == Some(*timeline);
                if !is_reported {
                    self.messages
                        .detail(format_args!("starting log streaming at {start} (timeline {timeline})"));
                }
            }
            ReceiverEvent::SegmentFinished(segment) => {
                let (end, timeline) = (segment.end(), segment.timeline());
                self.messages.detail(format_args!("finished segment at {end} (timeline {timeline})"));
            }
            ReceiverEvent::SegmentLeft(segment) => {
                self.messages
                    .info(format_args!("not renaming \"{segment}.partial\", segment is not complete"));
            }
            ReceiverEvent::TimelineSwitched { timeline, switchpoint } => {
                self.switched_to = Some(*timeline);
                self.messages.detail(format_args!("switched to timeline {timeline} at {switchpoint}"));
            }
            ReceiverEvent::Damage { damage, .. } => {
                self.messages
                    .warning(format_args!("the server sent damaged WAL: {damage}; fetching it again"));
            }
            ReceiverEvent::NotLocked(error) => self.messages.warning(format_args!("{}", with_causes(*error))),
            ReceiverEvent::SlotUnknown { slot, error } => self.messages.warning(format_args!(
                "could not find out what slot \"{slot}\" keeps: {}",
                with_causes(*error)
            )),
            ReceiverEvent::ArchiveDamage { segment, damage } => {
                self.messages.warning(format_args!(
                    "segment {segment} of the archive is damaged: {damage}; it is received again"
                ));
            }
            ReceiverEvent::NotCompressed { error, .. } => {
                self.messages.warning(format_args!("{}; trying again", with_causes(*error)));
            }
            ReceiverEvent::Unchecked(version) => {
                self.messages
                    .warning(format_args!("WAL of PostgreSQL {version} is stored without being checked"));
            }
            ReceiverEvent::OutOfSpace { error, retry_in } => {
                self.messages.error(&Failure::from(*error));
                self.messages.info(format_args!("waiting {} seconds to try again", retry_in.as_secs()));
            }
            ReceiverEvent::Disconnected { error, retry_in } => {
                self.messages.error(&describe(error));
                let seconds = retry_in.as_secs_f64();
                self.messages.info(format_args!("disconnected; waiting {seconds:.1} seconds to try again"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::advice::Personality;
    use tapster::codec::BackendMessage;

    #[test]
    fn a_message_of_the_server_is_not_searched_for_hints() {
        let fields = b"SERROR\0VERROR\0C42704\0Mbad value\nhint: x\n  y\0\0";
        let Ok(BackendMessage::ErrorResponse(fields)) = BackendMessage::parse(b'E', fields) else { panic!() };
        let said = Error::Server(Box::new(fields.to_server_error()));
        let failure = describe(&ReceiveError::Connection(said));
        assert_eq!(failure.message(), "bad value\nhint: x\n  y");
        let hint = failure.hint(Personality::PgReceivewal);
        assert_eq!(hint.as_deref(), Some("create the slot with --create-slot"));
        assert!(!failure.is_refusal(), "its lines would be taken for details of ours");
    }
}
