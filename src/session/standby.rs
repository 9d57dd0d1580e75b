use core::fmt;
use core::time::Duration;

use crate::codec::{PrimaryKeepalive, StandbyStatusUpdate};
use crate::types::{Lsn, PgTimestamp};

/// The default of `wal_receiver_status_interval` and of pg_receivewal.
const DEFAULT_STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// How soon the same positions are sent again to a server that keeps asking.
const REPEAT_AFTER: Duration = Duration::from_millis(100);

/// The duties of a standby while it streams: which positions it may report to its server, and when.
///
/// It has no clock. `now` is the time since a moment that the driver chooses once, by a clock that never goes
/// back; [`deadline`](Self::deadline) counts from the same moment. The driver
///
/// - passes what the server sends to [`receive_to`](Self::receive_to) and [`keepalive`](Self::keepalive),
/// - passes what its caller has written, flushed and applied to [`report`](Self::report),
/// - sends a [`status`](Self::status) whenever one [`is_due`](Self::is_due), and else waits for the server,
///   at most until the deadline.
///
/// ```
/// use core::time::Duration;
/// use tapster::session::{Positions, Standby};
/// use tapster::types::{Lsn, PgTimestamp};
///
/// let (start, end) = (Lsn::new(0x100_0000), Lsn::new(0x100_2000));
/// let mut standby = Standby::new(start, Duration::ZERO);
/// standby.receive_to(end);
/// // Nothing is acknowledged that was not reported.
/// let status = standby.status(Duration::ZERO, PgTimestamp::from_micros(0), false);
/// assert_eq!((status.written, status.flushed), (Lsn::INVALID, Lsn::INVALID));
/// standby.report(Positions { written: end, flushed: start, applied: Lsn::INVALID })?;
/// // The next update is due when the interval is over.
/// assert_eq!(standby.deadline(), Some(Duration::from_secs(10)));
/// # Ok::<(), tapster::session::NotReceived>(())
/// ```
#[derive(Clone, Debug)]
pub struct Standby {
    received: Lsn,
    server_end: Lsn,
    /// The positions that the caller has reported.
    reported: Positions,
    status_interval: Option<Duration>,
    /// When to send a status even if nothing else happens.
    due: Option<Duration>,
    /// The positions last sent, and when.
    sent: Option<(Positions, Duration)>,
}

/// How far a standby has processed the WAL that it received. An invalid position reports nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    /// The end of the WAL that was written to a file.
    pub written: Lsn,
    /// The end of the WAL that would survive a power cut.
    pub flushed: Lsn,
    /// The end of the WAL that was applied. A receiver that only stores WAL leaves it invalid.
    pub applied: Lsn,
}

impl Positions {
    /// Nothing to report.
    pub const NONE: Self = Self { written: Lsn::INVALID, flushed: Lsn::INVALID, applied: Lsn::INVALID };

    /// Checks that no position is beyond `received`. A standby checks its own positions before it reports
    /// them; a server checks a standby's against the end of the WAL that it has sent.
    ///
    /// # Errors
    /// If `written` is beyond `received`, or another position is beyond `written`.
    pub fn check(&self, received: Lsn) -> Result<(), NotReceived> {
        if self.written > received || self.flushed > self.written || self.applied > self.written {
            return Err(NotReceived(()));
        }
        Ok(())
    }
}

/// A position was reported that has not been received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotReceived(());

impl fmt::Display for NotReceived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a position was reported that has not been received")
    }
}

impl core::error::Error for NotReceived {}

impl Standby {
    /// A standby that streams from `start`. The first status is due at once, the others every 10 s.
    #[must_use]
    pub const fn new(start: Lsn, now: Duration) -> Self {
        Self {
            received: start,
            server_end: Lsn::INVALID,
            reported: Positions::NONE,
            status_interval: Some(DEFAULT_STATUS_INTERVAL),
            due: Some(now),
            sent: None,
        }
    }

    /// Sets how often a status is due even if the server does not ask; `None` for never. With an interval the
    /// next status is due at once.
    pub fn set_status_interval(&mut self, interval: Option<Duration>, now: Duration) {
        self.status_interval = interval;
        self.due = interval.map(|_| now);
    }

    /// The position after the last byte that was received.
    #[must_use]
    pub const fn received(&self) -> Lsn {
        self.received
    }

    /// The server's own end of WAL as of its last message.
    #[must_use]
    pub const fn server_end(&self) -> Lsn {
        self.server_end
    }

    /// Records that everything before `end` was received. The position never goes back.
    pub fn receive_to(&mut self, end: Lsn) {
        self.received = self.received.max(end);
    }

    /// Records the server's own end of WAL. This acknowledges nothing.
    pub fn see_server_end(&mut self, end: Lsn) {
        self.server_end = end;
    }

    /// Records a keepalive. If it requests a reply, a status is due at once; but if the same positions were
    /// sent less than 100 ms ago, it is due 100 ms after them. A server that shuts down asks again the moment
    /// it has an answer that does not satisfy it.
    pub fn keepalive(&mut self, keepalive: &PrimaryKeepalive, now: Duration) {
        self.see_server_end(keepalive.wal_end);
        if !keepalive.reply_requested {
            return;
        }
        let reply_at = match self.sent {
            Some((positions, at)) if positions == self.reported => at.saturating_add(REPEAT_AFTER).max(now),
            _ => now,
        };
        self.due = Some(self.due.map_or(reply_at, |due| due.min(reply_at)));
    }

    /// Sets the positions that every status reports from now on. No status becomes due by this.
    ///
    /// # Errors
    /// If a position was not received; the positions then stay as they were.
    pub fn report(&mut self, positions: Positions) -> Result<(), NotReceived> {
        positions.check(self.received)?;
        self.reported = positions;
        Ok(())
    }

    /// When the next status is due; `None` if only a message of the server can make one due.
    #[must_use]
    pub const fn deadline(&self) -> Option<Duration> {
        self.due
    }

    /// Whether a status is due.
    #[must_use]
    pub fn is_due(&self, now: Duration) -> bool {
        self.due.is_some_and(|due| now >= due)
    }

    /// The status to send now, with exactly the positions that were reported; `sent_at` is the time of day.
    #[must_use]
    pub fn status(
        &mut self,
        now: Duration,
        sent_at: PgTimestamp,
        reply_requested: bool,
    ) -> StandbyStatusUpdate {
        self.due = self.status_interval.map(|interval| now.saturating_add(interval));
        self.sent = Some((self.reported, now));
        let Positions { written, flushed, applied } = self.reported;
        StandbyStatusUpdate { written, flushed, applied, sent_at, reply_requested }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Lsn = Lsn::new(0x100_0000);
    const END: Lsn = Lsn::new(0x100_2000);
    const INTERVAL: Duration = Duration::from_secs(10);
    const NOON: PgTimestamp = PgTimestamp::from_micros(7);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn keepalive_from_server(reply_requested: bool) -> PrimaryKeepalive {
        PrimaryKeepalive { wal_end: END, sent_at: NOON, reply_requested }
    }

    fn stored(written: Lsn, flushed: Lsn) -> Positions {
        Positions { written, flushed, applied: Lsn::INVALID }
    }

    #[test]
    fn no_position_is_invented() {
        let mut standby = Standby::new(START, ms(0));
        standby.receive_to(END);
        standby.keepalive(
            &PrimaryKeepalive { wal_end: Lsn::new(u64::MAX), ..keepalive_from_server(true) },
            ms(1),
        );
        let status = standby.status(ms(1), NOON, true);
        let nothing = StandbyStatusUpdate {
            written: Lsn::INVALID,
            flushed: Lsn::INVALID,
            applied: Lsn::INVALID,
            sent_at: NOON,
            reply_requested: true,
        };
        assert_eq!(status, nothing);
        assert_eq!((standby.received(), standby.server_end()), (END, Lsn::new(u64::MAX)));

        standby.report(Positions { written: END, flushed: START, applied: START }).unwrap();
        let status = standby.status(ms(2), NOON, false);
        let reported = StandbyStatusUpdate { written: END, flushed: START, applied: START, ..nothing };
        assert_eq!(status, StandbyStatusUpdate { reply_requested: false, ..reported });
    }

    #[test]
    fn a_position_that_was_not_received_cannot_be_reported() {
        let mut standby = Standby::new(START, ms(0));
        standby.report(stored(START, START)).unwrap();
        let beyond = Lsn::new(END.get() + 1);
        standby.receive_to(END);
        for wrong in [
            stored(beyond, START),
            stored(START, END),
            Positions { applied: END, ..stored(START, START) },
            stored(Lsn::INVALID, START),
        ] {
            assert_eq!(standby.report(wrong), Err(NotReceived(())), "{wrong:?}");
        }
        let status = standby.status(ms(0), NOON, false);
        assert_eq!((status.written, status.flushed), (START, START), "a refused report changes nothing");
        standby.report(stored(END, END)).unwrap();
    }

    #[test]
    fn the_received_position_never_goes_back() {
        let mut standby = Standby::new(END, ms(0));
        standby.receive_to(START);
        assert_eq!(standby.received(), END);
        standby.receive_to(Lsn::new(u64::MAX));
        assert_eq!(standby.received(), Lsn::new(u64::MAX));
    }

    #[test]
    fn the_first_status_is_due_at_once_and_the_others_when_the_interval_is_over() {
        let mut standby = Standby::new(START, ms(5));
        assert!(standby.is_due(ms(5)));
        let _ = standby.status(ms(6), NOON, false);
        assert_eq!(standby.deadline(), Some(ms(6) + INTERVAL));
        assert!(!standby.is_due(ms(5) + INTERVAL) && standby.is_due(ms(6) + INTERVAL));
        // However late a status is sent, the next one is due an interval after it.
        let _ = standby.status(ms(50_000), NOON, false);
        assert_eq!(standby.deadline(), Some(ms(50_000) + INTERVAL));
        standby.receive_to(END);
        standby.report(stored(END, END)).unwrap();
        standby.keepalive(&keepalive_from_server(false), ms(50_001));
        assert_eq!(standby.deadline(), Some(ms(50_000) + INTERVAL), "none of these calls makes a status due");
    }

    #[test]
    fn a_new_interval_applies_at_once_and_none_is_never() {
        let mut standby = Standby::new(START, ms(0));
        let _ = standby.status(ms(0), NOON, false);
        standby.set_status_interval(Some(ms(100)), ms(30));
        assert!(standby.is_due(ms(30)));
        let _ = standby.status(ms(30), NOON, false);
        assert_eq!(standby.deadline(), Some(ms(130)));
        standby.set_status_interval(None, ms(40));
        assert_eq!(standby.deadline(), None);
        assert!(!standby.is_due(Duration::MAX));
        let _ = standby.status(ms(50), NOON, false);
        assert_eq!(standby.deadline(), None);
    }

    #[test]
    fn a_request_is_answered_at_once_if_there_is_news() {
        let mut standby = Standby::new(START, ms(0));
        standby.set_status_interval(None, ms(0));
        standby.keepalive(&keepalive_from_server(true), ms(1));
        assert!(standby.is_due(ms(1)), "the server never had an answer");
        let _ = standby.status(ms(1), NOON, false);
        assert!(!standby.is_due(ms(1)), "one answer is enough");
        standby.receive_to(END);
        standby.report(stored(END, START)).unwrap();
        standby.keepalive(&keepalive_from_server(true), ms(2));
        assert!(standby.is_due(ms(2)));
    }

    #[test]
    fn a_server_that_keeps_asking_gets_the_same_answer_ten_times_a_second() {
        let mut standby = Standby::new(START, ms(0));
        let mut sent = 0;
        for now in (0..1_000).map(ms) {
            standby.keepalive(&keepalive_from_server(true), now);
            if standby.is_due(now) {
                let _ = standby.status(now, NOON, false);
                sent += 1;
            }
        }
        assert_eq!(sent, 10);
    }

    #[test]
    fn a_delayed_answer_is_not_forgotten_and_an_earlier_status_stays_due() {
        for interval in [None, Some(INTERVAL)] {
            let mut standby = Standby::new(START, ms(0));
            standby.set_status_interval(interval, ms(0));
            let _ = standby.status(ms(10), NOON, false);
            standby.keepalive(&keepalive_from_server(true), ms(20));
            assert_eq!(standby.deadline(), Some(ms(110)), "{interval:?}");
            // A later request does not delay the answer.
            standby.keepalive(&keepalive_from_server(true), ms(109));
            assert_eq!(standby.deadline(), Some(ms(110)), "{interval:?}");
        }
        let mut standby = Standby::new(START, ms(0));
        standby.set_status_interval(Some(ms(50)), ms(0));
        let _ = standby.status(ms(10), NOON, false);
        standby.keepalive(&keepalive_from_server(true), ms(20));
        assert_eq!(standby.deadline(), Some(ms(60)));
    }

    #[test]
    fn times_at_the_end_of_time_do_not_overflow() {
        let mut standby = Standby::new(START, Duration::MAX);
        standby.set_status_interval(Some(Duration::MAX), Duration::MAX);
        let _ = standby.status(Duration::MAX, NOON, false);
        assert_eq!(standby.deadline(), Some(Duration::MAX));
        standby.keepalive(&keepalive_from_server(true), Duration::MAX);
        assert_eq!(standby.deadline(), Some(Duration::MAX));
    }
}
