//! Which failures of a connection are followed by another attempt, and how soon.

use core::time::Duration;
use std::io::ErrorKind;

use super::ReceiveError;
use crate::archive::ArchiveError;
use crate::client::{ConnectFailure, Error};
use crate::types::SqlState;

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// The server was there and comes back by itself: it starts up, shuts down, or its host refuses the port meanwhile.
    Soon,
    /// A person or a cluster manager mends it, on the server: a line in `pg_hba.conf`, a password, a certificate, a slot
    /// that is not there yet on a server that was just promoted, a limit that is reached.
    Later,
    /// It cannot heal without a change of the command or the archive.
    Never,
}

/// The table: what a failure is, and what follows it.
///
/// Before the first WAL of a run, `has_streamed`, what a person would have to mend may be a mistake in the command, so it
/// ends the run.
pub(super) fn after(error: &ReceiveError, has_streamed: bool) -> Retry {
    match error {
        ReceiveError::Connection(error) if !has_streamed && may_be_a_mistake(error) => Retry::Never,
        ReceiveError::ServerShutdown => Retry::Soon,
        ReceiveError::Damage(_) => Retry::Later,
        ReceiveError::Connection(error) => after_connection(error),
        // Space may become free: a history, or the note of a gap, waits for space as WAL does. A file that another
        // process changed or moved away is fetched again.
        ReceiveError::Archive(ArchiveError::Changed { .. }) => Retry::Later,
        ReceiveError::Archive(error) if error.is_out_of_space() => Retry::Later,
        ReceiveError::Archive(_) | ReceiveError::Refused(_) | ReceiveError::Internal(_) => Retry::Never,
    }
}

/// Whether the command may name the wrong role, password, database, certificate or slot.
fn may_be_a_mistake(error: &Error) -> bool {
    error.is_authentication() || error.sqlstate() == Some(SqlState::UNDEFINED_OBJECT)
}

fn after_connection(error: &Error) -> Retry {
    let Some(state) = error.sqlstate() else {
        return match error {
            Error::ConnInfo(_) | Error::Usage(_) | Error::Encode(_) => Retry::Never,
            Error::Io { .. } | Error::Timeout { .. } | Error::Closed => Retry::Soon,
            // One host that comes back by itself is enough: the next attempt tries all of them.
            Error::Connect(attempts)
                if !error.is_authentication()
                    && attempts.iter().any(|it| comes_back_by_itself(&it.failure)) =>
            {
                Retry::Soon
            }
            _ => Retry::Later,
        };
    };
    match state {
        SqlState::CANNOT_CONNECT_NOW | SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN => Retry::Soon,
        // No slot can have that name.
        SqlState::INVALID_NAME => Retry::Never,
        _ => Retry::Later,
    }
}

/// Whether a server that starts or stops explains the failure. A name without an address and a host without a route are
/// mended by a person, and a name server is not asked every second for nothing. A connection that breaks during the TLS
/// handshake stays here: a server that crashes does that.
fn comes_back_by_itself(failure: &ConnectFailure) -> bool {
    match failure {
        ConnectFailure::Io(error) => {
            !matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable)
        }
        ConnectFailure::Host(_) | ConnectFailure::NameLookup(_) => false,
        _ => true,
    }
}

/// The first wait after a lost connection. Each later wait is twice as long, up to the longest.
pub(super) const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(15);
/// The longest wait for a server that comes back by itself, while the outage is short: a crash recovery or a restart.
const LONGEST_OF_SHORT_OUTAGE: Duration = Duration::from_secs(1);
const SHORT_OUTAGE: Duration = Duration::from_secs(180);

/// The waits between the attempts of one outage.
#[derive(Debug)]
pub(super) struct Waits {
    next: Duration,
    waited: Duration,
}

impl Waits {
    pub(super) const fn new() -> Self {
        Self { next: FIRST, waited: Duration::ZERO }
    }

    /// The next wait, without jitter.
    pub(super) fn next(&mut self, retry: Retry) -> Duration {
        let is_short = retry == Retry::Soon && self.waited < SHORT_OUTAGE;
        let wait = self.next.min(if is_short { LONGEST_OF_SHORT_OUTAGE } else { LONGEST });
        self.waited += wait;
        self.next = wait.saturating_mul(2);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::super::Refusal;
    use super::*;
    use crate::client::ConnectAttempt;
    use crate::codec::BackendMessage;
    use crate::session::HandshakeError;
    use crate::storage::StorageError;
    use crate::types::SystemId;
    use std::boxed::Box;
    use std::format;
    use std::io;
    use std::vec::Vec;

    /// An error with this SQLSTATE, while connecting and on a connection.
    fn said(sqlstate: &str) -> [ReceiveError; 2] {
        let fields = format!("SFATAL\0VFATAL\0C{sqlstate}\0Mno\0\0");
        let Ok(BackendMessage::ErrorResponse(fields)) = BackendMessage::parse(b'E', fields.as_bytes()) else {
            unreachable!("it is an error");
        };
        let error = Box::new(fields.to_server_error());
        let failure = ConnectFailure::Handshake(HandshakeError::Server(error.clone()));
        [connect(failure), ReceiveError::Connection(Error::Server(error))]
    }

    fn connect(failure: ConnectFailure) -> ReceiveError {
        let attempt =
            ConnectAttempt { server: "db1".into(), failure, note: None, client: None, replication: true };
        ReceiveError::Connection(Error::Connect(Vec::from([attempt])))
    }

    #[test]
    fn every_cause_is_followed_by_what_can_mend_it() {
        for (sqlstate, expected) in [
            ("57P01", Retry::Soon),
            ("57P02", Retry::Soon),
            ("57P03", Retry::Soon),
            // pg_hba.conf, a role that is not there or may not log in, a password, a database, a privilege.
            ("28000", Retry::Later),
            ("28P01", Retry::Later),
            ("3D000", Retry::Later),
            ("42501", Retry::Later),
            // The slot: not there, in use, none free.
            ("42704", Retry::Later),
            ("55006", Retry::Later),
            ("53400", Retry::Later),
            ("53300", Retry::Later),
            ("XX000", Retry::Later),
            ("42602", Retry::Never),
        ] {
            for error in said(sqlstate) {
                assert_eq!(after(&error, true), expected, "{error}");
            }
        }
        let io = |kind: ErrorKind| io::Error::from(kind);
        let lost = Error::Io { during: "streaming WAL", source: io(ErrorKind::ConnectionReset) };
        let storage = |kind| {
            let (operation, path) = ("write", "x".into());
            ReceiveError::Archive(StorageError::Io { operation, path, source: io(kind) }.into())
        };
        let system_id = SystemId::new(1);
        let refusal = Refusal::OtherCluster { archive: system_id, server: system_id, file: None };
        for (error, expected) in [
            (ReceiveError::ServerShutdown, Retry::Soon),
            (ReceiveError::Connection(lost), Retry::Soon),
            (connect(ConnectFailure::Io(io(ErrorKind::ConnectionRefused))), Retry::Soon),
            (connect(ConnectFailure::NameLookup(io(ErrorKind::Other))), Retry::Later),
            (connect(ConnectFailure::Io(io(ErrorKind::HostUnreachable))), Retry::Later),
            (connect(ConnectFailure::Io(io(ErrorKind::NetworkUnreachable))), Retry::Later),
            (connect(ConnectFailure::Handshake(HandshakeError::NoPassword)), Retry::Later),
            (connect(ConnectFailure::Handshake(HandshakeError::TlsRefused)), Retry::Later),
            (ReceiveError::Connection(Error::Usage("wrong")), Retry::Never),
            (storage(ErrorKind::StorageFull), Retry::Later),
            (storage(ErrorKind::PermissionDenied), Retry::Never),
            (refusal.into(), Retry::Never),
            (ReceiveError::Internal("panic".into()), Retry::Never),
        ] {
            assert_eq!(after(&error, true), expected, "{error}");
        }
    }

    #[test]
    fn before_the_first_wal_a_mistake_in_the_command_ends_the_run() {
        for (sqlstate, expected) in [
            ("28000", Retry::Never),
            ("28P01", Retry::Never),
            ("42704", Retry::Never),
            ("57P03", Retry::Soon),
            ("55006", Retry::Later),
        ] {
            let [connecting, connected] = said(sqlstate);
            assert_eq!(after(&connecting, false), expected, "{connecting}");
            if sqlstate == "42704" {
                assert_eq!(after(&connected, false), expected, "{connected}");
            }
        }
    }

    #[test]
    fn a_server_that_comes_back_by_itself_is_tried_every_second_for_three_minutes() {
        let mut waits = Waits::new();
        let seconds: Vec<f32> = (0..5).map(|_| waits.next(Retry::Soon).as_secs_f32()).collect();
        assert_eq!(seconds, [0.5, 1.0, 1.0, 1.0, 1.0]);
        while waits.waited < SHORT_OUTAGE {
            assert!(waits.next(Retry::Soon) <= LONGEST_OF_SHORT_OUTAGE);
        }
        let seconds: Vec<f32> = (0..5).map(|_| waits.next(Retry::Soon).as_secs_f32()).collect();
        assert_eq!(seconds, [2.0, 4.0, 8.0, 15.0, 15.0]);
        let mut waits = Waits::new();
        let seconds: Vec<f32> = (0..7).map(|_| waits.next(Retry::Later).as_secs_f32()).collect();
        assert_eq!(seconds, [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]);
    }
}
