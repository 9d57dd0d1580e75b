//! Both sides of a handshake, without socket and clock.
#![allow(unreachable_pub, reason = "a module of one test")]

use tapster::auth::{Mechanism, Nonce, ScramServer, ScramServerError, ScramServerFinal, ScramVerifier};
use tapster::codec::{
    Authentication, AuthenticationResponse, BackendKeyData, BackendMessage, ErrorFields, Field, FieldsBuf,
    FrontendFraming, FrontendMessage, NamesBuf, NegotiateProtocolVersion, ParameterStatus, ParametersBuf,
    ProtocolVersion, TransactionStatus,
};
use tapster::session::{Action, Handshake, HandshakeConfig, HandshakeError, Progress, Session};

pub const PASSWORD: &[u8] = b"wal\xc3\x9fer";

/// A server, by its answer to each flight of the client; the first flight is the startup packet.
pub type Peer = Box<dyn FnMut(&[u8]) -> Vec<u8>>;

/// How a conversation ended, or why it waits.
#[derive(Debug, PartialEq)]
pub enum End {
    /// The session, as its `Debug` shows it, and its cancel key.
    Ready(String, Option<Vec<u8>>),
    Failed(HandshakeError),
    /// The client waits for a server that has nothing left to send.
    Waiting,
    /// The client waits for TLS.
    Tls,
}

/// A conversation.
pub struct Talk {
    pub handshake: Handshake,
    peer: Peer,
    /// The bytes that the server sent and the client did not read.
    pub unread: Vec<u8>,
    /// The bytes that the client read and did not consume.
    pub input: Vec<u8>,
    /// The bytes that the client sent, by flights.
    pub sent: Vec<Vec<u8>>,
    /// The hash of the certificate that TLS shows, or that it has none. `None` stops the conversation where
    /// TLS begins.
    pub certificate: Option<Option<Vec<u8>>>,
}

impl Talk {
    pub fn new(config: &HandshakeConfig, peer: Peer) -> Self {
        let handshake = Handshake::new(config.clone(), Nonce::from_random([7; 18]));
        Self { handshake, peer, unread: Vec::new(), input: Vec::new(), sent: Vec::new(), certificate: None }
    }

    /// Lets the server send bytes unasked.
    pub fn say(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// Drives the client as the documentation of `tapster::session` describes, reading at most `step` bytes
    /// at a time.
    pub fn go_on(&mut self, step: usize) -> End {
        loop {
            if let Some(end) = self.receive(step) {
                return end;
            }
        }
    }

    /// One turn of the driver's loop.
    pub fn receive(&mut self, step: usize) -> Option<End> {
        let mut out = Vec::new();
        let Progress { consumed, action } = match self.handshake.receive(&self.input, &mut out) {
            Ok(progress) => progress,
            Err(error) => {
                for input in [&b""[..], b"Z\0\0\0\x05I"] {
                    let again = self.handshake.receive(input, &mut out).err();
                    assert_eq!(again.as_ref(), Some(&error), "the same error for ever");
                }
                return Some(End::Failed(error));
            }
        };
        self.input.drain(..consumed);
        self.send(&mut out);
        match action {
            Action::Read if self.unread.is_empty() => return Some(End::Waiting),
            Action::Read => self.input.extend(self.unread.drain(..step.min(self.unread.len()))),
            Action::StartTls => {
                let Some(hash) = self.certificate.take() else { return Some(End::Tls) };
                self.handshake.tls_ready(hash.as_deref(), &mut out).expect("TLS was asked for");
                self.send(&mut out);
            }
            Action::Done(session) => return Some(ready(&session)),
        }
        None
    }

    /// Gives the client's output to the server, which may answer.
    pub fn send(&mut self, out: &mut Vec<u8>) {
        if !out.is_empty() {
            let answer = (self.peer)(out);
            self.unread.extend(answer);
            self.sent.push(core::mem::take(out));
        }
    }
}

fn ready(session: &Session) -> End {
    let key = session.cancel_key.as_ref().map(|key| key.secret_key.to_vec());
    End::Ready(format!("{session:?}"), key)
}

/// Runs the whole conversation, and again with reads of every size: neither the result nor the sent bytes
/// differ.
#[track_caller]
pub fn outcome(config: &HandshakeConfig, peer: impl Fn() -> Peer) -> (End, Vec<Vec<u8>>) {
    let whole = run(config, peer(), usize::MAX);
    for step in [1, 2, 3, 5, 64] {
        assert_eq!(run(config, peer(), step), whole, "read {step} bytes at a time");
    }
    whole
}

fn run(config: &HandshakeConfig, peer: Peer, step: usize) -> (End, Vec<Vec<u8>>) {
    let mut talk = Talk::new(config, peer);
    (talk.go_on(step), talk.sent)
}

/// The error with which the handshake fails.
#[track_caller]
pub fn failure(config: &HandshakeConfig, peer: impl Fn() -> Peer) -> HandshakeError {
    match outcome(config, peer) {
        (End::Failed(error), _) => error,
        (other, _) => panic!("{other:?}"),
    }
}

/// A server that answers the first flight with the first of these, the second flight with the second, ...
pub fn server_answering<const N: usize>(answers: [Vec<u8>; N]) -> impl Fn() -> Peer {
    move || {
        let mut answers = answers.clone().into_iter();
        Box::new(move |_| answers.next().unwrap_or_default())
    }
}

/// The messages of a SCRAM server that a test may change on their way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ScramMessage {
    First,
    Final,
}

/// A server that asks for SCRAM and knows [`PASSWORD`].
pub fn scram(tamper: impl Fn(ScramMessage, String) -> Vec<u8> + Clone + 'static) -> impl Fn() -> Peer {
    scram_offering(&["SCRAM-SHA-256"], None, tamper)
}

/// A server that knows [`PASSWORD`]; with the mechanisms that the client sees offered, and the server's
/// certificate.
pub fn scram_offering(
    mechanisms: &'static [&'static str],
    certificate: Option<&'static [u8]>,
    tamper: impl Fn(ScramMessage, String) -> Vec<u8> + Clone + 'static,
) -> impl Fn() -> Peer {
    move || {
        let mut state: Option<ScramServerFinal> = None;
        let tamper = tamper.clone();
        Box::new(move |flight| {
            let Some(body) = response(flight) else { return sasl(mechanisms) };
            let mut word = Vec::new();
            match state.take() {
                None => {
                    let initial = AuthenticationResponse::parse_sasl_initial(body).expect("our own client");
                    let AuthenticationResponse::SaslInitial { mechanism, data } = initial else {
                        unreachable!("that is what was parsed")
                    };
                    let known = [Mechanism::ScramSha256, Mechanism::ScramSha256Plus];
                    let known = known.into_iter().find(|known| known.name().as_bytes() == mechanism);
                    let rounds = 16.try_into().expect("not 0");
                    let verifier = ScramVerifier::from_password(PASSWORD, b"some salt", rounds);
                    let server = ScramServer::new(verifier, Nonce::from_random([9; 18]), certificate);
                    let data = data.expect("a first message");
                    match server.client_first(known.expect("one that was offered"), data, &mut word) {
                        Ok(next) => state = Some(next),
                        Err(refusal) => return error("28000", &refusal.to_string()),
                    }
                    let word = tamper(ScramMessage::First, String::from_utf8(word).expect("SCRAM is text"));
                    message(&BackendMessage::Authentication(Authentication::SaslContinue { data: &word }))
                }
                Some(server) => match server.client_final(body, &mut word) {
                    Ok(()) => tamper(ScramMessage::Final, String::from_utf8(word).expect("SCRAM is text")),
                    Err(ScramServerError::InvalidProof) => error("28P01", "no such password"),
                    Err(refusal) => error("28000", &refusal.to_string()),
                },
            }
        })
    }
}

/// The body of an answer to a request for authentication, which the startup packet is not.
pub fn response(flight: &[u8]) -> Option<&[u8]> {
    match FrontendFraming::STARTUP.parse(flight) {
        Ok(FrontendMessage::AuthenticationResponse { body }) => Some(body),
        _ => None,
    }
}

pub fn parameters(items: &[(&str, &str)]) -> ParametersBuf {
    let mut parameters = ParametersBuf::new();
    for (name, value) in items {
        parameters.push((name.as_bytes(), value.as_bytes())).expect("no NUL in it");
    }
    parameters
}

pub fn message(message: &BackendMessage<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).expect("a message that can be sent");
    bytes
}

pub fn authentication(request: Authentication<'_>) -> Vec<u8> {
    message(&BackendMessage::Authentication(request))
}

pub fn ok() -> Vec<u8> {
    authentication(Authentication::Ok)
}

pub fn sasl(mechanisms: &[&str]) -> Vec<u8> {
    let mut names = NamesBuf::new();
    for name in mechanisms {
        names.push(name.as_bytes()).expect("a name");
    }
    authentication(Authentication::Sasl { mechanisms: names.as_list() })
}

pub fn negotiate(version: ProtocolVersion, unknown: &[&str]) -> Vec<u8> {
    let mut names = NamesBuf::new();
    for name in unknown {
        names.push(name.as_bytes()).expect("a name");
    }
    message(&BackendMessage::NegotiateProtocolVersion(NegotiateProtocolVersion {
        version,
        unknown_options: names.as_list(),
    }))
}

pub fn status(name: &str, value: &str) -> Vec<u8> {
    let (name, value) = (name.as_bytes(), value.as_bytes());
    message(&BackendMessage::ParameterStatus(ParameterStatus { name, value }))
}

pub fn key(secret_key: &[u8]) -> Vec<u8> {
    message(&BackendMessage::BackendKeyData(BackendKeyData { process_id: 4711, secret_key }))
}

pub fn idle() -> Vec<u8> {
    message(&BackendMessage::ReadyForQuery(TransactionStatus::Idle))
}

/// The messages after `AuthenticationOk`.
pub fn settings() -> Vec<u8> {
    [status("server_version", "18.4"), key(b"1234"), idle()].concat()
}

pub fn error(sqlstate: &str, text: &str) -> Vec<u8> {
    let fields = fields(&[(b'S', "FATAL"), (b'V', "FATAL"), (b'C', sqlstate), (b'M', text)]);
    message(&BackendMessage::ErrorResponse(ErrorFields { fields: fields.as_list() }))
}

pub fn notice(text: &str) -> Vec<u8> {
    let fields = fields(&[(b'S', "NOTICE"), (b'V', "NOTICE"), (b'C', "00000"), (b'M', text)]);
    message(&BackendMessage::NoticeResponse(ErrorFields { fields: fields.as_list() }))
}

fn fields(items: &[(u8, &str)]) -> FieldsBuf {
    let mut fields = FieldsBuf::new();
    for &(code, value) in items {
        fields.push(Field { code, value: value.as_bytes() }).expect("a field");
    }
    fields
}
