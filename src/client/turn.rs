//! Whose turn it is: whether a command may be sent now, and how much of an answer is still to come.

use super::error::Error;

/// Where the conversation stands.
#[derive(Debug)]
pub(super) struct Turn {
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The server waits for a command.
    Ready,
    /// An answer is under way.
    Busy(Answer),
    /// Closed, or out of step with the server; never used again.
    Closed,
}

/// The part of an answer that is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// How many `ReadyForQuery` are still to come; the last one completes the answer.
    ends: u32,
    /// Whether the command was sent in the extended protocol.
    is_extended: bool,
    /// Whether the server has asked for the data of a COPY and now waits for them.
    awaits_copy: bool,
}

impl Answer {
    /// The answer to a simple query.
    pub(super) const SIMPLE: Self = Self { ends: 1, is_extended: false, awaits_copy: false };

    /// The answer to `ends` statements of the extended protocol, each with its own `Sync`.
    pub(super) const fn extended(ends: u32) -> Self {
        Self { ends, is_extended: true, awaits_copy: false }
    }
}

/// How to end a COPY for whose data the server waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AwaitedCopy {
    /// Whether a `Sync` has to follow: the server skipped the one that was sent with the statement, because
    /// it arrived during the COPY.
    pub(super) needs_sync: bool,
}

impl Turn {
    /// A new session, which waits for a command.
    pub(super) const fn new() -> Self {
        Self { phase: Phase::Ready }
    }

    pub(super) const fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) const fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Busy(_))
    }

    pub(super) const fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Closed)
    }

    /// # Errors
    /// [`Error::Closed`] if the connection is closed.
    pub(super) const fn check_open(&self) -> Result<(), Error> {
        if self.is_open() { Ok(()) } else { Err(Error::Closed) }
    }

    /// Records that a command was sent, and the answer that is due.
    pub(super) const fn expect(&mut self, answer: Answer) {
        self.phase = Phase::Busy(answer);
    }

    /// Records a `CopyInResponse`: the server waits for data.
    pub(super) const fn begin_copy_in(&mut self) {
        if let Phase::Busy(answer) = &mut self.phase {
            answer.awaits_copy = true;
        }
    }

    /// The COPY for whose data the server waits, if there is one.
    pub(super) const fn awaited_copy(&self) -> Option<AwaitedCopy> {
        match self.phase {
            Phase::Busy(Answer { awaits_copy: true, is_extended, .. }) => {
                Some(AwaitedCopy { needs_sync: is_extended })
            }
            _ => None,
        }
    }

    /// Records that the data of the awaited COPY were ended.
    pub(super) const fn end_copy_in(&mut self) {
        if let Phase::Busy(answer) = &mut self.phase {
            answer.awaits_copy = false;
        }
    }

    /// Records a `ReadyForQuery`. Returns false if no answer was under way.
    pub(super) const fn end_answer(&mut self) -> bool {
        let Phase::Busy(answer) = &mut self.phase else { return false };
        answer.awaits_copy = false;
        answer.ends = answer.ends.saturating_sub(1);
        if answer.ends == 0 {
            self.phase = Phase::Ready;
        }
        true
    }

    /// Records that the connection must not be used any more.
    pub(super) const fn close(&mut self) {
        self.phase = Phase::Closed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ready_for_query_ends_the_answer() {
        let mut turn = Turn::new();
        turn.expect(Answer::extended(2));
        assert!(turn.end_answer() && turn.is_busy());
        assert!(turn.end_answer());
        assert_eq!(turn.phase(), Phase::Ready);
        assert!(!turn.end_answer(), "nothing was asked");
    }

    #[test]
    fn a_copy_is_awaited_within_an_answer_until_it_is_ended() {
        let mut turn = Turn::new();
        turn.begin_copy_in();
        assert_eq!(turn.awaited_copy(), None);
        for (answer, needs_sync) in [(Answer::SIMPLE, false), (Answer::extended(1), true)] {
            turn.expect(answer);
            assert_eq!(turn.awaited_copy(), None);
            turn.begin_copy_in();
            assert_eq!(turn.awaited_copy(), Some(AwaitedCopy { needs_sync }));
            turn.end_copy_in();
            assert_eq!(turn.awaited_copy(), None);
            // An error ends the COPY too: ReadyForQuery follows.
            turn.begin_copy_in();
            assert!(turn.end_answer());
            assert_eq!((turn.awaited_copy(), turn.phase()), (None, Phase::Ready));
        }
    }

    #[test]
    fn a_closed_connection_stays_closed() {
        let mut turn = Turn::new();
        turn.close();
        turn.begin_copy_in();
        assert!(!turn.end_answer() && !turn.is_open());
        assert!(matches!(turn.check_open(), Err(Error::Closed)));
    }
}
