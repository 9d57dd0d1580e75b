use std::io::{self, ErrorKind};

use serde_json::{Value, json};
use tokio::signal::unix::SignalKind;

use super::about::About;
use super::advice::{Hint, Personality};
use super::given::Given;

use tapster::archive::ArchiveError;
use tapster::conninfo::ConnInfoError;
use tapster::postgres::PostgresError;
use tapster::receiver::ReceiveError;
use tapster::types::{Advice, SqlState, WithCauses};
use tapster::{ConnectFailure, Error};

/// Why a command failed, and the exit code that says so.
#[derive(Debug)]
pub(super) struct Failure {
    kind: Kind,
    /// What is wrong, for people.
    message: String,
    /// The same with the exact text of a server, for documents, if it differs.
    exact: Option<String>,
    sqlstate: Option<SqlState>,
    /// What to do about it.
    hint: Option<Hint>,
    /// The server that the command was about.
    server: Option<Box<About>>,
    /// What the user gave to the command, which hints repeat.
    given: Option<Box<Given>>,
    /// Whether the failure was printed already, so that only the exit code is left.
    is_reported: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Other,
    Usage,
    Connection,
    Authentication,
    Refused,
    Storage,
    /// The result could not be written.
    Unwritten,
    /// The reader of the result closed the pipe: it has read enough.
    Unread,
    Damage,
    /// No archive has the file (only `wal get`).
    Missing,
    /// It is unknown whether an archive has the file (only `wal get`).
    Unclear,
    /// A result of `check`, with its exit code.
    Check(u8),
    /// Ended by the signal with this number.
    Interrupted(u8),
}

impl Kind {
    /// The word in `--json`, and the exit code.
    const fn word_and_code(self) -> (&'static str, u8) {
        match self {
            Self::Other => ("other", 1),
            Self::Usage => ("usage", 2),
            Self::Connection => ("connection", 3),
            Self::Authentication => ("authentication", 4),
            Self::Refused => ("refused", 5),
            Self::Storage | Self::Unwritten => ("storage", 6),
            Self::Unread => ("unread", 0),
            Self::Damage => ("damage", 7),
            Self::Missing => ("missing", 1),
            Self::Unclear => ("unclear", 255),
            Self::Check(code) => ("check", code),
            Self::Interrupted(signal) => ("interrupted", 128 + signal),
        }
    }
}

impl Failure {
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub(super) fn storage(message: impl Into<String>) -> Self {
        Self::new(Kind::Storage, message)
    }

    /// The result could not be written. That is a failure of storage; but if the reader closed the pipe, the program
    /// ends with exit code 0.
    pub(super) fn unwritten(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::new(Kind::Unread, "").already_reported(),
            _ => Self::new(Kind::Unwritten, format!("could not write the result: {error}")),
        }
    }

    pub(super) fn damage(message: impl Into<String>) -> Self {
        Self::new(Kind::Damage, message)
    }

    /// The program refuses to go on because WAL would be lost or mixed.
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }

    pub(super) fn missing(message: impl Into<String>) -> Self {
        Self::new(Kind::Missing, message)
    }

    /// Turns every failure of `wal get` into "unclear", except for a file that is certainly missing.
    pub(super) fn or_unclear(self) -> Self {
        match self.kind {
            Kind::Missing | Kind::Unread => self,
            _ => Self { kind: Kind::Unclear, ..self },
        }
    }

    pub(super) fn other(message: impl Into<String>) -> Self {
        Self::new(Kind::Other, message)
    }

    /// Ended by a signal.
    pub(super) fn interrupted(signal: SignalKind) -> Self {
        // SIGINT and SIGTERM are 2 and 15.
        let number = u8::try_from(signal.as_raw_value()).unwrap_or_default().min(127);
        Self::new(Kind::Interrupted(number), "interrupted by a signal")
    }

    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            exact: None,
            sqlstate: None,
            hint: None,
            server: None,
            given: None,
            is_reported: false,
        }
    }

    fn of(kind: Kind, error: &dyn core::error::Error) -> Self {
        let message = with_causes(error);
        let exact = Some(format!("{:#}", WithCauses(error))).filter(|exact| *exact != message);
        Self { exact, ..Self::new(kind, message) }
    }

    /// Ends with this code, without printing anything.
    ///
    /// # Errors
    /// If the code is not 0.
    pub(super) fn exit(code: u8) -> Result<(), Self> {
        if code == 0 { Ok(()) } else { Err(Self::new(Kind::Check(code), "").already_reported()) }
    }

    /// What is wrong, without the hint.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// What is wrong, with the hint unless that is a general one.
    pub(super) fn text(&self) -> String {
        self.text_with(self.hint.as_ref().filter(|hint| !hint.is_general()))
    }

    /// What is wrong, with the hint: for the program's last error.
    pub(super) fn full_text(&self) -> String {
        self.text_with(self.hint.as_ref())
    }

    fn text_with(&self, hint: Option<&Hint>) -> String {
        match hint.and_then(|hint| self.words_of(hint, Personality::Tapster)) {
            Some(hint) => {
                // The details of a refusal are indented, and its hint is with them.
                let indent = if self.is_refusal() { "  " } else { "" };
                format!("{}\n{indent}hint: {hint}", self.message)
            }
            None => self.message.clone(),
        }
    }

    /// What to do about it, in words that fit the program.
    pub(super) fn hint(&self, personality: Personality) -> Option<String> {
        self.hint.as_ref().and_then(|hint| self.words_of(hint, personality))
    }

    fn words_of(&self, hint: &Hint, personality: Personality) -> Option<String> {
        match &self.given {
            Some(given) => hint.text(personality, given),
            None => hint.text(personality, &Given::default()),
        }
    }

    /// The library's advice.
    pub(super) fn advice(&self) -> Option<Advice> {
        match self.hint {
            Some(Hint::Advice(advice)) => Some(advice),
            _ => None,
        }
    }

    /// Whether the result could not be written.
    pub(super) fn is_unwritten(&self) -> bool {
        self.kind == Kind::Unwritten
    }

    /// Whether nobody has got the result, or not all of it.
    pub(super) fn is_untold(&self) -> bool {
        matches!(self.kind, Kind::Unwritten | Kind::Unread)
    }

    /// Whether the role lacks a privilege, or was not let in.
    pub(super) fn lacks_privilege(&self) -> bool {
        self.kind == Kind::Authentication
    }

    /// Whether the server wants a password that is not known.
    pub(super) fn wants_password(&self) -> bool {
        self.advice() == Some(Advice::GivePassword)
    }

    /// Whether the program refused to go on because WAL would be lost or mixed.
    pub(super) fn is_refusal(&self) -> bool {
        self.kind == Kind::Refused
    }

    /// The same failure with another message.
    pub(super) fn reworded(self, message: String) -> Self {
        Self { message, exact: None, ..self }
    }

    /// The server's SQLSTATE.
    pub(super) fn sqlstate(&self) -> Option<SqlState> {
        self.sqlstate
    }

    /// Whether the command line is at fault.
    pub(super) fn is_usage(&self) -> bool {
        self.kind == Kind::Usage
    }

    /// Whether the failure was printed already, so that only the exit code is left.
    pub(super) fn is_reported(&self) -> bool {
        self.is_reported
    }

    /// Whether a file is surely in no archive.
    pub(super) fn is_missing(&self) -> bool {
        self.kind == Kind::Missing
    }

    /// Whether a signal ended the command.
    pub(super) fn is_interruption(&self) -> bool {
        matches!(self.kind, Kind::Interrupted(_))
    }

    /// The same failure, once it was printed.
    pub(super) fn already_reported(self) -> Self {
        Self { is_reported: true, ..self }
    }

    /// The same failure of a command that is about this server, unless more is known already.
    pub(super) fn about(self, server: &About) -> Self {
        if self.server.is_some() { self } else { self.surely_about(server.clone()) }
    }

    /// The same failure of a command that is about this server.
    pub(super) fn surely_about(self, server: About) -> Self {
        Self { server: Some(Box::new(server)), ..self }
    }

    /// The same failure of a command that was given this.
    pub(super) fn given(self, given: &Given) -> Self {
        Self { given: self.given.or_else(|| Some(Box::new(given.clone()))), ..self }
    }

    /// The `server` of a document, if the command got as far as a connection.
    pub(super) fn server(&self) -> Option<Value> {
        self.server.as_deref().map(About::to_json)
    }

    /// The document that a command ends with.
    pub(super) fn document(&self) -> Value {
        let mut document = json!({ "schema": "tapster.error/1", "ok": false });
        if let Some(server) = self.server() {
            document["server"] = server;
        }
        document["error"] = self.to_json();
        document
    }

    /// The `error` of a document.
    pub(super) fn to_json(&self) -> Value {
        let (word, code) = self.kind.word_and_code();
        let message = self.exact.as_ref().unwrap_or(&self.message);
        let hint = self.hint(Personality::Tapster);
        let sqlstate = self.sqlstate.map(|state| state.to_string());
        json!({ "kind": word, "sqlstate": sqlstate, "message": message, "hint": hint, "exit": code })
    }

    /// The same failure with a hint.
    pub(super) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(Hint::Particular(hint.into())), ..self }
    }

    /// The same failure with a hint of these lines.
    pub(super) fn with_lines(self, lines: Vec<String>) -> Self {
        Self { hint: Some(Hint::Lines(lines)), ..self }
    }

    /// The same failure with advice of the library.
    pub(super) fn with_advice(self, advice: Advice) -> Self {
        Self { hint: Some(Hint::Advice(advice)), ..self }
    }

    /// The same failure with a general hint, if the server gave this SQLSTATE.
    pub(super) fn hint_if(self, sqlstate: SqlState, hint: &'static str) -> Self {
        if self.sqlstate == Some(sqlstate) { Self { hint: Some(Hint::General(hint)), ..self } } else { self }
    }

    /// The exit code.
    pub(super) fn code(&self) -> u8 {
        self.kind.word_and_code().1
    }

    /// Whether the server could not be reached or takes no session, or the connection was lost: a later attempt may
    /// succeed.
    pub(super) fn is_connection(&self) -> bool {
        self.kind == Kind::Connection
    }

    /// Whether the server has as many sessions, or as many of this kind, as it admits.
    pub(super) fn is_too_many_connections(&self) -> bool {
        self.sqlstate == Some(SqlState::TOO_MANY_CONNECTIONS)
    }

    /// Whether the server answers but takes no sessions at the moment: it starts up, shuts down, or has too many.
    pub(super) fn is_transient(&self) -> bool {
        let for_now = [SqlState::CANNOT_CONNECT_NOW, SqlState::TOO_MANY_CONNECTIONS];
        self.is_connection() && self.sqlstate.is_some_and(|state| for_now.contains(&state))
    }
}

impl From<ConnInfoError> for Failure {
    fn from(error: ConnInfoError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let kind = match error {
            Error::ConnInfo(_) | Error::Usage(_) | Error::Encode(_) => Kind::Usage,
            _ if error.is_authentication() => Kind::Authentication,
            Error::Connect(attempts) => match attempts.last().map(|last| &last.failure) {
                // The address is wrong, so no connection was tried.
                Some(ConnectFailure::Host(_)) => Kind::Usage,
                // The peer does not speak the protocol: another attempt would not help.
                Some(ConnectFailure::Handshake(handshake)) if handshake.server_error().is_none() => {
                    Kind::Other
                }
                _ => Kind::Connection,
            },
            Error::Server(server) => match server.sqlstate {
                SqlState::OBJECT_IN_USE | SqlState::TOO_MANY_CONNECTIONS => Kind::Connection,
                _ if server.severity.ends_connection() => Kind::Connection,
                _ => Kind::Other,
            },
            Error::Io { .. } | Error::Timeout { .. } | Error::Closed => Kind::Connection,
            _ => Kind::Other,
        };
        let hint = error.advice().map(Hint::Advice);
        Self { sqlstate: error.sqlstate(), hint, ..Self::of(kind, error) }
    }
}

impl From<PostgresError> for Failure {
    fn from(error: PostgresError) -> Self {
        Self::from(&error)
    }
}

impl From<&PostgresError> for Failure {
    fn from(error: &PostgresError) -> Self {
        let kind = match error {
            PostgresError::Connection(error) => return error.into(),
            PostgresError::Failed { source, .. } => {
                let Self { message, exact, .. } = Self::of(Kind::Other, error);
                return Self { message, exact, ..Self::from(source) };
            }
            PostgresError::Conninfo(_) | PostgresError::AppName(_) => Kind::Usage,
            _ if error.is_authentication() => Kind::Authentication,
            PostgresError::ReconnectForbidden { .. }
            | PostgresError::ConnectionLost { .. }
            | PostgresError::NoConnection => Kind::Connection,
            _ => Kind::Other,
        };
        let hint = error.advice().map(Hint::Advice);
        Self { sqlstate: error.sqlstate(), hint, ..Self::of(kind, error) }
    }
}

impl From<&ArchiveError> for Failure {
    fn from(error: &ArchiveError) -> Self {
        let kind = if error.is_refusal() { Kind::Refused } else { Kind::Storage };
        Self::of(kind, error)
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        Self::from(&error)
    }
}

impl From<ReceiveError> for Failure {
    fn from(error: ReceiveError) -> Self {
        Self::from(&error)
    }
}

impl From<&ReceiveError> for Failure {
    fn from(error: &ReceiveError) -> Self {
        let failure = match error {
            ReceiveError::Connection(error) => error.into(),
            ReceiveError::Archive(error) => error.into(),
            ReceiveError::Refused(_) => Self::of(Kind::Refused, error),
            ReceiveError::ServerShutdown => Self::of(Kind::Connection, error),
            _ => Self::of(Kind::Other, error),
        };
        Self { hint: error.advice().map(Hint::Advice), ..failure }
    }
}

/// The error with everything that caused it, in one sentence for people.
pub(super) fn with_causes(error: &dyn core::error::Error) -> String {
    WithCauses(error).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapster::codec::BackendMessage;

    /// An error of the server with this message.
    fn said(message: &str) -> Error {
        let fields = format!("SERROR\0VERROR\0C42704\0M{message}\0\0");
        match BackendMessage::parse(b'E', fields.as_bytes()) {
            Ok(BackendMessage::ErrorResponse(fields)) => Error::Server(Box::new(fields.to_server_error())),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_of_the_server_is_not_searched_for_hints() {
        let message = "bad value \"hint: x\"\nhint: not ours";
        let failure = Failure::from(said(message));
        assert!(failure.full_text().contains("\"hint: x\"\n| hint: not ours"), "{}", failure.full_text());
        let error = failure.to_json();
        assert!(error["message"].as_str().unwrap().contains(message), "{error}");
        assert_eq!(error["hint"], Value::Null);
        let error = Failure::from(ReceiveError::Connection(said(message))).to_json();
        assert!(error["message"].as_str().unwrap().contains(message), "{error}");
        assert!(error["hint"].as_str().unwrap().starts_with("create the slot with --create-slot"), "{error}");
    }
}
