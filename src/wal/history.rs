use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::types::{Lsn, TimelineId};

/// The ancestors of a timeline: what its history file says.
///
/// Each line of the file is `<parent>\t<switchpoint>\t<reason>`; `#` begins a comment line. A timeline's bytes
/// are those from its parent's switchpoint up to its own. Timeline 1 has no history file:
/// [`TimelineHistory::first`] stands for it.
///
/// Source: `readTimeLineHistory` in PostgreSQL's timeline.c says what a server accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineHistory {
    timeline: TimelineId,
    /// Oldest first; parents strictly increase and are below `timeline`.
    entries: Vec<HistoryEntry>,
}

/// One line of a history file: where a timeline ended, as seen from a descendant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The timeline that was left.
    pub parent: TimelineId,
    /// Its last byte + 1: where the next timeline begins.
    pub switchpoint: Lsn,
    /// Why, in the server's words; for people only.
    pub reason: String,
}

impl TimelineHistory {
    /// The longest file that is parsed, in bytes: some ten thousand promotions.
    pub const MAX_LEN: usize = 1 << 20;

    /// The history of a timeline without ancestors.
    #[must_use]
    pub const fn first() -> Self {
        Self { timeline: TimelineId::FIRST, entries: Vec::new() }
    }

    /// Parses the history file of `timeline`.
    ///
    /// # Errors
    /// If it is longer than [`Self::MAX_LEN`], a line does not begin with a timeline and a position, or the
    /// timelines do not strictly increase towards `timeline`. Switchpoints may go back: a recovery that stops
    /// before its target timeline branched off leaves such a file (seen with 15).
    pub fn parse(timeline: TimelineId, file: &[u8]) -> Result<Self, HistoryError> {
        if file.len() > Self::MAX_LEN {
            return Err(HistoryError { line: 0, kind: HistoryErrorKind::TooLong });
        }
        let mut entries: Vec<HistoryEntry> = Vec::new();
        for (line, number) in file.split(|&b| b == b'\n').zip(1..) {
            let err = |kind| HistoryError { line: number, kind };
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let entry = HistoryEntry::parse(line).map_err(err)?;
            if entries.last().is_some_and(|last| last.parent >= entry.parent) || entry.parent >= timeline {
                return Err(err(HistoryErrorKind::NotIncreasing));
            }
            entries.push(entry);
        }
        Ok(Self { timeline, entries })
    }

    /// The timeline whose history this is.
    #[must_use]
    pub const fn timeline(&self) -> TimelineId {
        self.timeline
    }

    /// Its ancestors, the oldest first.
    #[must_use]
    pub fn entries(&self) -> &[HistoryEntry] {
        &self.entries
    }

    /// Where this history left the ancestor `timeline`; `None` if it is no ancestor.
    ///
    /// It is the switchpoint of a later ancestor if that lies before, since nothing after that is part of the
    /// history.
    #[must_use]
    pub fn switchpoint_of(&self, timeline: TimelineId) -> Option<Lsn> {
        let ancestor = self.entries.iter().position(|entry| entry.parent == timeline)?;
        self.entries.iter().skip(ancestor).map(|entry| entry.switchpoint).min()
    }

    /// Where the timeline itself began; `None` if it has no ancestors.
    #[must_use]
    pub fn began_at(&self) -> Option<Lsn> {
        self.entries.last().map(|entry| entry.switchpoint)
    }

    /// The timeline that the byte at `lsn` belongs to in this history.
    #[must_use]
    pub fn timeline_of(&self, lsn: Lsn) -> TimelineId {
        // The newest first, as servers look: it counts where switchpoints went back.
        let mut child = self.timeline;
        for entry in self.entries.iter().rev() {
            if lsn >= entry.switchpoint {
                break;
            }
            child = entry.parent;
        }
        child
    }

    /// Whether an archive that has `timeline` up to `end` (last byte + 1) can continue along this history.
    ///
    /// False means that what was received beyond the switchpoint is not part of this history, or that
    /// `timeline` is unknown to it.
    #[must_use]
    pub fn contains(&self, timeline: TimelineId, end: Lsn) -> bool {
        timeline == self.timeline || self.switchpoint_of(timeline).is_some_and(|switch| end <= switch)
    }
}

impl HistoryEntry {
    /// Parses a line that is neither blank nor a comment.
    fn parse(line: &[u8]) -> Result<Self, HistoryErrorKind> {
        let (parent, rest) = split_word(line);
        let (switchpoint, reason) = split_word(rest);
        let text = |word| core::str::from_utf8(word).unwrap_or_default();
        Ok(Self {
            parent: text(parent).parse().map_err(|_| HistoryErrorKind::NotATimeline)?,
            switchpoint: text(switchpoint).parse().map_err(|_| HistoryErrorKind::NotAPosition)?,
            reason: String::from_utf8_lossy(reason).into_owned(),
        })
    }
}

/// The bytes before the first blank, and those after the blanks that follow.
fn split_word(line: &[u8]) -> (&[u8], &[u8]) {
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    (word, rest.trim_ascii_start())
}

/// A history file that cannot be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryError {
    /// The line, from 1; 0 if it is about the whole file.
    pub line: usize,
    /// What is wrong there.
    pub kind: HistoryErrorKind,
}

/// What is wrong with a history file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HistoryErrorKind {
    /// The line does not begin with a timeline.
    NotATimeline,
    /// The timeline is not followed by a log position.
    NotAPosition,
    /// The timeline is not above the one before it, or not below the one whose history this is.
    NotIncreasing,
    /// The file is longer than [`TimelineHistory::MAX_LEN`].
    TooLong,
}

impl fmt::Display for HistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            HistoryErrorKind::NotATimeline => "expected a timeline first",
            HistoryErrorKind::NotAPosition => "expected a log position after the timeline",
            HistoryErrorKind::NotIncreasing => "timelines must increase and stay below the file's own",
            HistoryErrorKind::TooLong => return f.write_str("timeline history is longer than 1 MiB"),
        };
        write!(f, "timeline history, line {}: {what}", self.line)
    }
}

impl core::error::Error for HistoryError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(id: u32) -> TimelineId {
        TimelineId::new(id).unwrap()
    }

    fn lsn(text: &str) -> Lsn {
        text.parse().unwrap()
    }

    /// As PostgreSQL 15 writes it after two promotions, blank line included.
    const FILE: &[u8] = b"1\t0/50000A0\tno recovery target specified\n\n2\t0/700016F8\tbefore 2026-07-01\n";

    #[test]
    fn a_servers_file_parses_and_says_who_owns_each_byte() {
        let history = TimelineHistory::parse(timeline(3), FILE).unwrap();
        assert_eq!(history.entries().len(), 2);
        assert_eq!(history.entries()[1].reason, "before 2026-07-01");
        for (position, owner) in
            [("0/0", 1), ("0/500009F", 1), ("0/50000A0", 2), ("0/700016F7", 2), ("0/700016F8", 3)]
        {
            assert_eq!(history.timeline_of(lsn(position)), timeline(owner), "{position}");
        }
        assert_eq!(history.switchpoint_of(timeline(1)), Some(lsn("0/50000A0")));
        assert_eq!(history.switchpoint_of(timeline(3)), None);
    }

    #[test]
    fn a_position_beyond_the_switchpoint_is_not_on_the_history() {
        let history = TimelineHistory::parse(timeline(3), FILE).unwrap();
        assert!(history.contains(timeline(1), lsn("0/50000A0")));
        assert!(!history.contains(timeline(1), lsn("0/50000A1")));
        assert!(history.contains(timeline(3), lsn("F/0")));
        assert!(!history.contains(timeline(4), lsn("0/1")));
    }

    #[test]
    fn comments_blanks_and_carriage_returns_are_no_entries() {
        let file = b"# one\r\n\r\n  \n\t1 \t 0/1  why  not \r\n#2\t0/2\tno";
        let history = TimelineHistory::parse(timeline(2), file).unwrap();
        assert_eq!(history.entries().len(), 1);
        assert_eq!(history.entries()[0].reason, "why  not");
        assert_eq!(TimelineHistory::parse(timeline(1), b""), Ok(TimelineHistory::first()));
    }

    #[test]
    fn the_newest_timeline_counts_where_switchpoints_went_back() {
        // As PostgreSQL 15 wrote it after a recovery with recovery_target_timeline 2 that stopped earlier.
        let file = b"1\t0/2700000\tno recovery target specified\n\n2\t0/84E700\tafter LSN 0/84E6C0\n";
        let history = TimelineHistory::parse(timeline(3), file).unwrap();
        let owners = ["0/84E6FF", "0/84E700", "0/2700000"].map(|at| history.timeline_of(lsn(at)).get());
        assert_eq!(owners, [1, 3, 3]);
        assert_eq!(
            (history.switchpoint_of(timeline(1)), history.began_at()),
            (history.began_at(), Some(lsn("0/84E700")))
        );
        assert!(history.contains(timeline(1), lsn("0/84E700")));
        assert!(!history.contains(timeline(1), lsn("0/84E701")));
    }

    #[test]
    fn broken_lines_are_named() {
        use HistoryErrorKind::{NotAPosition, NotATimeline, NotIncreasing};
        for (file, line, kind) in [
            (&b"one\t0/1\tx\n"[..], 1, NotATimeline),
            (b"0\t0/1\tx\n", 1, NotATimeline),
            (b"\xff\t0/1\tx\n", 1, NotATimeline),
            (b"\n1\n", 2, NotAPosition),
            (b"1\tx\n", 1, NotAPosition),
            (b"2\t0/1\ta\n2\t0/2\tb\n", 2, NotIncreasing),
            (b"2\t0/1\ta\n1\t0/2\tb\n", 2, NotIncreasing),
            (b"9\t0/1\ta\n", 1, NotIncreasing),
        ] {
            assert_eq!(
                TimelineHistory::parse(timeline(9), file),
                Err(HistoryError { line, kind }),
                "{file:?}"
            );
        }
        let long = alloc::vec![b'\n'; TimelineHistory::MAX_LEN + 1];
        assert!(TimelineHistory::parse(timeline(9), &long).is_err());
    }
}
