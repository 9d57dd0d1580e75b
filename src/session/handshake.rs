mod authentication;
mod other_service;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use zeroize::Zeroizing;

use self::other_service::not_postgres;
use super::config::{Encryption, HandshakeConfig};
use super::error::{HandshakeError, NegotiationFault};
use super::ready::{CancelKey, Session};
use crate::auth::{AuthDone, Nonce, ScramClient, ScramFinal};
use crate::codec::{
    BackendFraming, BackendMessage, EncryptionReply, Need, NegotiateProtocolVersion, ProtocolVersion,
    StartupMessage, StartupPacket,
};

/// What the driver has to do next, after it has sent everything in `out`.
#[derive(Debug)]
#[must_use]
pub enum Action {
    /// Read at least one more byte, append it to the bytes that were not consumed, and call
    /// [`Handshake::receive`] again.
    Read,
    /// Start TLS on the connection, then call [`Handshake::tls_ready`]. No byte of TLS was read ahead.
    StartTls,
    /// The session is ready. The bytes that were not consumed belong to it.
    Done(Box<Session>),
}

/// The result of a call of [`Handshake::receive`].
#[derive(Debug)]
#[must_use]
pub struct Progress {
    /// How many bytes of the input are used up.
    pub consumed: usize,
    /// What to do next.
    pub action: Action,
}

/// A message has a type and a length.
const SHORTEST_MESSAGE: usize = 5;

/// More bytes than any server sends before it is ready, including its notices.
const MAX_TOTAL_BYTES: usize = 1 << 20;
const MAX_NOTICES: usize = 16;
/// As much as all notices of a trigger on login may take. Before the login the short limit holds: whoever sends then
/// is not known yet.
const MAX_NOTICE_AFTER_LOGIN: u32 = 1 << 20;
/// After the login the limit is on what one connection can make the client read, not on strangers.
const MAX_TOTAL_BYTES_AFTER_LOGIN: usize = 16 << 20;

/// The client's side of the beginning of a connection: encryption, protocol version, authentication and
/// settings, up to `ReadyForQuery`.
///
/// See the [module](super) for the loop that drives it.
#[derive(Debug)]
pub struct Handshake {
    /// The message that is due, or the error that ended the handshake.
    state: Result<State, HandshakeError>,
    facts: Facts,
}

/// Everything that the handshake knows beside its state.
#[derive(Debug)]
struct Facts {
    config: HandshakeConfig,
    /// The nonce, until SCRAM takes it.
    nonce: Option<Nonce>,
    tls: Tls,
    total_bytes: usize,
    session: Session,
}

/// What the TLS session offers for channel binding.
#[derive(Debug)]
enum Tls {
    None,
    Hash(Vec<u8>),
    NoHash,
}

#[derive(Debug)]
enum State {
    Start,
    ExpectSslReply,
    ExpectTls,
    ExpectAuthentication { negotiated: bool },
    ExpectScramServerFirst(Box<ScramClient>),
    ExpectScramServerFinal(Box<ScramFinal>),
    ExpectAuthenticationOk(AuthDone),
    ExpectReadyForQuery,
    Finished,
}

impl State {
    const fn expected(&self) -> &'static str {
        match self {
            Self::Start | Self::ExpectSslReply | Self::ExpectTls => "an answer to SSLRequest",
            Self::ExpectAuthentication { .. } => "a request for authentication",
            Self::ExpectScramServerFirst(_) => "AuthenticationSASLContinue",
            Self::ExpectScramServerFinal(_) => "AuthenticationSASLFinal",
            Self::ExpectAuthenticationOk(_) => "AuthenticationOk",
            Self::ExpectReadyForQuery => "ReadyForQuery",
            Self::Finished => "nothing more",
        }
    }
}

impl Handshake {
    /// A handshake that has not begun. Call [`receive`](Self::receive) with no input to begin it.
    ///
    /// `nonce` must be fresh and from a good random source.
    #[must_use]
    pub fn new(config: HandshakeConfig, nonce: Nonce) -> Self {
        let session = Session::new(config.max_version);
        let facts = Facts { config, nonce: Some(nonce), tls: Tls::None, total_bytes: 0, session };
        Self { state: Ok(State::Start), facts }
    }

    /// Takes the bytes that have come from the server and are not consumed yet, appends the bytes to be sent
    /// to `out`, and says what to do next.
    ///
    /// # Errors
    /// The reason why the session cannot be made. Every further call returns the same error.
    pub fn receive(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Progress, HandshakeError> {
        let mut consumed: usize = 0;
        loop {
            let Step { used, action } = self.step(input.get(consumed..).unwrap_or_default(), out)?;
            consumed = consumed.saturating_add(used);
            if let Some(action) = action {
                return Ok(Progress { consumed, action });
            }
        }
    }

    /// Continues after [`Action::StartTls`], inside TLS.
    ///
    /// `certificate_hash` is the server certificate's hash for `tls-server-end-point` (RFC 5929), or `None`
    /// if its signature algorithm has none.
    ///
    /// # Errors
    /// If the handshake did not ask for TLS, if it has failed already, or if the startup packet cannot be
    /// encoded.
    pub fn tls_ready(
        &mut self,
        certificate_hash: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Result<(), HandshakeError> {
        match &self.state {
            Ok(State::ExpectTls) => {}
            Ok(_) => return Err(HandshakeError::Unexpected { expected: "no TLS session", got: "one" }),
            Err(error) => return Err(error.clone()),
        }
        self.facts.tls = certificate_hash.map_or(Tls::NoHash, |hash| Tls::Hash(hash.to_vec()));
        self.state = self.facts.send_startup(out);
        self.state.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    /// Runs one step: takes the state out, and puts back the state that the step returns, or its error.
    fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Step, HandshakeError> {
        let state = core::mem::replace(&mut self.state, Ok(State::Finished));
        match state.and_then(|state| self.facts.on(state, input, out)) {
            Ok((state, step)) => {
                self.state = Ok(state);
                Ok(step)
            }
            Err(error) => {
                self.state = Err(error.clone());
                Err(error)
            }
        }
    }
}

impl Facts {
    /// Handles the input in this state, and gives the next state.
    fn on(&mut self, state: State, input: &[u8], out: &mut Vec<u8>) -> Result<(State, Step), HandshakeError> {
        match state {
            State::Start => self.start(out),
            State::ExpectSslReply => self.ssl_reply(input, out),
            State::ExpectTls => Err(HandshakeError::Unexpected { expected: "a TLS session", got: "none" }),
            State::Finished => Err(HandshakeError::Finished),
            state => self.message(state, input, out),
        }
    }

    fn start(&self, out: &mut Vec<u8>) -> Result<(State, Step), HandshakeError> {
        match self.config.encryption {
            Encryption::Plain => Ok((self.send_startup(out)?, Step::used(0))),
            Encryption::TlsIfOffered | Encryption::Tls => {
                StartupPacket::SslRequest.encode(out)?;
                Ok((State::ExpectSslReply, Step::used(0)))
            }
            Encryption::DirectTls => Ok((State::ExpectTls, Step::START_TLS)),
        }
    }

    fn ssl_reply(&self, input: &[u8], out: &mut Vec<u8>) -> Result<(State, Step), HandshakeError> {
        let Some((&byte, after)) = input.split_first() else {
            return Ok((State::ExpectSslReply, Step::READ));
        };
        if let Some(other) = not_postgres(input) {
            return Err(other);
        }
        match EncryptionReply::parse(byte)? {
            EncryptionReply::Tls if after.is_empty() => {
                Ok((State::ExpectTls, Step { used: 1, ..Step::START_TLS }))
            }
            EncryptionReply::Tls => Err(HandshakeError::BytesBeforeTls),
            EncryptionReply::Refused if self.config.encryption == Encryption::TlsIfOffered => {
                Ok((self.send_startup(out)?, Step::used(1)))
            }
            EncryptionReply::Refused => Err(HandshakeError::TlsRefused),
            EncryptionReply::Error => Err(HandshakeError::ErrorInsteadOfTls),
            EncryptionReply::Gss => Err(HandshakeError::Unexpected {
                expected: "an answer to SSLRequest",
                got: "one to GSSENCRequest",
            }),
        }
    }

    fn send_startup(&self, out: &mut Vec<u8>) -> Result<State, HandshakeError> {
        let parameters = self.config.parameters.as_list();
        StartupPacket::Startup(StartupMessage { version: self.config.max_version, parameters })
            .encode(out)?;
        Ok(State::ExpectAuthentication { negotiated: false })
    }

    /// Handles one message, if the input holds it as a whole.
    fn message(
        &mut self,
        state: State,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(State, Step), HandshakeError> {
        // The short limits hold up to ReadyForQuery: nothing long comes before it, except a trigger's notices.
        let mut framing = BackendFraming { limits: self.config.limits, ready: false };
        let mut max_total_bytes = MAX_TOTAL_BYTES;
        if matches!(state, State::ExpectReadyForQuery) {
            if input.first() == Some(&b'N') {
                framing.limits.startup_error = framing.limits.startup_error.max(MAX_NOTICE_AFTER_LOGIN);
            }
            max_total_bytes = MAX_TOTAL_BYTES_AFTER_LOGIN;
        }
        let is_first =
            matches!(state, State::ExpectAuthentication { negotiated: false }) && self.total_bytes == 0;
        let explain = |error| {
            let other = if is_first { not_postgres(input) } else { None };
            other.unwrap_or(HandshakeError::Decode(error))
        };
        let need = match framing.need(input) {
            // What else it may be shows only in a few bytes more, in whatever pieces they come.
            Err(_) if is_first && input.len() < SHORTEST_MESSAGE => return Ok((state, Step::READ)),
            need => need.map_err(explain)?,
        };
        let Need::Frame(len) = need else {
            return Ok((state, Step::READ));
        };
        self.total_bytes = self.total_bytes.saturating_add(len);
        if self.total_bytes > max_total_bytes {
            return Err(HandshakeError::TooMuchData);
        }
        let next = match framing.parse(input.get(..len).unwrap_or_default()).map_err(explain)? {
            BackendMessage::ErrorResponse(fields) => {
                return Err(HandshakeError::Server(Box::new(fields.to_server_error())));
            }
            BackendMessage::OldStyleError { text } => {
                return Err(HandshakeError::OldStyleServer(String::from_utf8_lossy(text).into_owned()));
            }
            BackendMessage::NoticeResponse(fields) => {
                if self.session.notices.len() < MAX_NOTICES {
                    self.session.notices.push(fields.to_server_error());
                }
                state
            }
            BackendMessage::Authentication(request) => self.on_authentication(state, request, out)?,
            other => match (state, other) {
                (
                    State::ExpectAuthentication { negotiated },
                    BackendMessage::NegotiateProtocolVersion(offer),
                ) => self.on_negotiation(negotiated, &offer)?,
                (State::ExpectReadyForQuery, BackendMessage::ReadyForQuery(status)) => {
                    self.session.transaction_status = status;
                    let session =
                        core::mem::replace(&mut self.session, Session::new(self.config.max_version));
                    let step = Step { used: len, action: Some(Action::Done(Box::new(session))) };
                    return Ok((State::Finished, step));
                }
                (state @ State::ExpectReadyForQuery, other) => {
                    self.on_session_data(&other)?;
                    state
                }
                (state, other) => {
                    return Err(HandshakeError::Unexpected { expected: state.expected(), got: other.name() });
                }
            },
        };
        Ok((next, Step::used(len)))
    }

    /// libpq's checks of a `NegotiateProtocolVersion`. We ask for no `_pq_.` option, so the server may name
    /// none.
    fn on_negotiation(
        &mut self,
        negotiated: bool,
        offer: &NegotiateProtocolVersion<'_>,
    ) -> Result<State, HandshakeError> {
        let asked = self.config.max_version;
        let fault = match offer.version {
            _ if negotiated => NegotiationFault::Repeated,
            version if version > asked => NegotiationFault::NewerThanRequested,
            version if version < ProtocolVersion::V3_0 || version == ProtocolVersion::new(3, 1) => {
                NegotiationFault::NoSuchVersion
            }
            _ if !offer.unknown_options.is_empty() => NegotiationFault::UnknownOption,
            version if version == asked => NegotiationFault::NothingNegotiated,
            version if version < self.config.min_version => NegotiationFault::TooOld,
            version => {
                self.session.version = version;
                return Ok(State::ExpectAuthentication { negotiated: true });
            }
        };
        Err(HandshakeError::Negotiation(fault))
    }

    /// Handles a message between `AuthenticationOk` and `ReadyForQuery`.
    fn on_session_data(&mut self, message: &BackendMessage<'_>) -> Result<(), HandshakeError> {
        match message {
            BackendMessage::ParameterStatus(status) => {
                self.session.parameters.update(status).map_err(|_| HandshakeError::TooMuchData)
            }
            // Protocol 3.0 has keys of exactly four bytes.
            BackendMessage::BackendKeyData(key)
                if key.secret_key.len() == 4 || self.session.version > ProtocolVersion::V3_0 =>
            {
                self.session.cancel_key = Some(CancelKey {
                    process_id: key.process_id,
                    secret_key: Zeroizing::new(key.secret_key.to_vec()),
                });
                Ok(())
            }
            other => Err(HandshakeError::Unexpected {
                expected: State::ExpectReadyForQuery.expected(),
                got: other.name(),
            }),
        }
    }
}

/// The result of one step; without an action, the next step follows at once.
struct Step {
    used: usize,
    action: Option<Action>,
}

impl Step {
    const READ: Self = Self { used: 0, action: Some(Action::Read) };
    const START_TLS: Self = Self { used: 0, action: Some(Action::StartTls) };

    const fn used(used: usize) -> Self {
        Self { used, action: None }
    }
}
