//! The progress of a verification.

use core::time::Duration;
use std::io::{IsTerminal as _, stderr};
use std::time::Instant;

use tapster::archive::VerifyProgress;

use super::receive_wal::When;
use super::{output, stderr};

/// How often the line on a terminal is redrawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);
/// How often a line is printed where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Progress {
    is_wanted: bool,
    in_place: bool,
    shown_at: Instant,
}

impl Progress {
    /// For a document, progress has to be asked for.
    pub(super) fn new(when: When, json: bool) -> Self {
        let is_wanted = match when {
            When::Auto => !json,
            When::Always => true,
            When::Never => false,
        };
        let in_place = stderr().is_terminal() && !output::is_dumb_terminal();
        Self { is_wanted, in_place, shown_at: Instant::now() }
    }

    /// Shows how far it has come, if that is due.
    pub(super) fn show(&mut self, at: VerifyProgress) {
        let interval = if self.in_place { DRAW_INTERVAL } else { LINE_INTERVAL };
        if !self.is_wanted || self.shown_at.elapsed() < interval {
            return;
        }
        self.shown_at = Instant::now();
        let percent = at.done * 100 / at.total.max(1);
        let line = format!("verifying {}: {} of {} segments, {percent} %", at.segment, at.done, at.total);
        match self.in_place {
            // Short enough for every terminal.
            true => stderr::set_last_line(format!(" {line}")),
            false => stderr::line(&line),
        }
    }

    /// Clears the line.
    pub(super) fn finish(&self) {
        if self.is_wanted && self.in_place {
            stderr::set_last_line(String::new());
        }
    }
}
