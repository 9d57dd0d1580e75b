//! The grammar of answers: which message may follow which.
//!
//! A server that answers something else than what was asked must not pass for one that has done it: two ends of one
//! statement, rows without columns, an empty statement instead of a checkpoint.

use crate::codec::BackendMessage;

/// Where an answer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grammar {
    stage: Stage,
    is_extended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Before a statement's result.
    Begin,
    /// The server has said that the statement gives no rows (extended protocol).
    NoRows,
    /// Rows of so many columns may come.
    Rows(usize),
    /// Data of COPY come.
    CopyOut,
    /// The server waits for data of COPY, or has sent all of its own: only the end may come.
    CopyEnd,
    /// The statement has ended (extended protocol: there is one).
    Ended,
}

impl Grammar {
    /// An answer to a simple query: any number of statements.
    pub(super) const SIMPLE: Self = Self { stage: Stage::Begin, is_extended: false };
    /// An answer to one statement of the extended protocol.
    pub(super) const EXTENDED: Self = Self { stage: Stage::Begin, is_extended: true };

    /// Takes the next message.
    ///
    /// # Errors
    /// What could have come instead. Errors and `ReadyForQuery` are not for the grammar: either may always come.
    pub(super) fn accept(&mut self, message: &BackendMessage<'_>) -> Result<(), &'static str> {
        use BackendMessage as M;
        let ended = if self.is_extended { Stage::Ended } else { Stage::Begin };
        self.stage = match (self.stage, message) {
            (stage, M::ErrorResponse(_) | M::ReadyForQuery(_)) => stage,
            (Stage::Begin, M::ParseComplete | M::BindComplete | M::CloseComplete) if self.is_extended => {
                Stage::Begin
            }
            (Stage::Begin, M::NoData) if self.is_extended => Stage::NoRows,
            (Stage::Begin, M::RowDescription(description)) => Stage::Rows(description.columns.len()),
            (Stage::Rows(columns), M::DataRow(row)) if row.values.len() == columns => Stage::Rows(columns),
            (Stage::Rows(_), M::DataRow(_)) => return Err("a row with as many values as there are columns"),
            (Stage::Rows(_) | Stage::NoRows | Stage::CopyEnd, M::CommandComplete { .. }) => ended,
            (Stage::NoRows, M::EmptyQueryResponse) => ended,
            (Stage::Begin, M::CommandComplete { .. } | M::EmptyQueryResponse) if !self.is_extended => ended,
            (stage, M::CopyOutResponse(_)) if self.may_copy(stage) => Stage::CopyOut,
            (stage, M::CopyInResponse(_)) if self.may_copy(stage) => Stage::CopyEnd,
            (Stage::CopyOut, M::CopyData(_)) => Stage::CopyOut,
            (Stage::CopyOut, M::CopyDone) => Stage::CopyEnd,
            (Stage::Begin, _) => return Err("the beginning of a result"),
            (Stage::NoRows | Stage::CopyEnd, _) => return Err("the end of a statement"),
            (Stage::Rows(_), _) => return Err("a row, or the end of a statement"),
            (Stage::CopyOut, _) => return Err("data of COPY"),
            (Stage::Ended, _) => return Err("ReadyForQuery"),
        };
        Ok(())
    }

    fn may_copy(self, stage: Stage) -> bool {
        stage == if self.is_extended { Stage::NoRows } else { Stage::Begin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// The messages of these letters, up to the first that is refused, and what was expected instead.
    fn accept(mut grammar: Grammar, letters: &str) -> Result<(), (usize, &'static str)> {
        // `T` describes one column; `D` has one value and `d` two.
        let body = |letter: char| -> (u8, Vec<u8>) {
            match letter {
                'T' => (b'T', b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0".to_vec()),
                'D' => (b'D', b"\0\x01\0\0\0\x01x".to_vec()),
                '2' => (b'D', b"\0\x02\0\0\0\x01x\0\0\0\x01x".to_vec()),
                'C' => (b'C', b"SELECT 1\0".to_vec()),
                'H' | 'G' | 'W' => (letter as u8, b"\0\0\0".to_vec()),
                'd' => (b'd', b"x".to_vec()),
                'Z' => (b'Z', b"I".to_vec()),
                'p' => (b'1', Vec::new()),
                'b' => (b'2', Vec::new()),
                't' => (b't', b"\0\0".to_vec()),
                other => (other as u8, Vec::new()),
            }
        };
        for (at, letter) in letters.chars().enumerate() {
            let (tag, bytes) = body(letter);
            let message = BackendMessage::parse(tag, &bytes).unwrap();
            grammar.accept(&message).map_err(|expected| (at, expected))?;
        }
        Ok(())
    }

    #[test]
    fn every_answer_of_a_server_is_accepted() {
        for letters in ["CZ", "IZ", "TCZ", "TDDDCZ", "TDCTDDCCIZ", "HddcCZ", "GCZ", "Z"] {
            assert_eq!(accept(Grammar::SIMPLE, letters), Ok(()), "{letters}");
        }
        for letters in ["pbTDDCZ", "pbnCZ", "pbnIZ", "bTCZ", "3p", "3bnC", "pbnHddcCZ", "pbnGCZ", "Z"] {
            assert_eq!(accept(Grammar::EXTENDED, letters), Ok(()), "{letters}");
        }
    }

    #[test]
    fn an_answer_that_was_not_asked_for_is_refused_where_it_begins() {
        for (grammar, letters, at) in [
            (Grammar::SIMPLE, "D", 0),
            (Grammar::SIMPLE, "TCD", 2),
            (Grammar::SIMPLE, "T2", 1),
            (Grammar::SIMPLE, "TT", 1),
            (Grammar::SIMPLE, "TI", 1),
            (Grammar::SIMPLE, "THC", 1),
            (Grammar::SIMPLE, "p", 0),
            (Grammar::SIMPLE, "n", 0),
            (Grammar::SIMPLE, "d", 0),
            (Grammar::SIMPLE, "HC", 1),
            (Grammar::SIMPLE, "W", 0),
            (Grammar::SIMPLE, "s", 0),
            (Grammar::EXTENDED, "C", 0),
            (Grammar::EXTENDED, "pbTCC", 4),
            (Grammar::EXTENDED, "pbnCI", 4),
            (Grammar::EXTENDED, "pbnD", 3),
            (Grammar::EXTENDED, "pbTDn", 4),
            (Grammar::EXTENDED, "pbTDI", 4),
            (Grammar::EXTENDED, "pbTH", 3),
            (Grammar::EXTENDED, "pbT2", 3),
            (Grammar::EXTENDED, "pbTs", 3),
            (Grammar::EXTENDED, "t", 0),
            (Grammar::EXTENDED, "pbnCT", 4),
        ] {
            assert_eq!(accept(grammar, letters).map_err(|(found, _)| found), Err(at), "{letters}");
        }
    }
}
