//! A client without socket, clock and random numbers.

use std::sync::LazyLock;

use tapster::auth::{AuthPolicy, Nonce, ScramKeys, ScramVerifier};
use tapster::codec::{ParametersBuf, ProtocolVersion};
use tapster::session::{Action, Encryption, Handshake, HandshakeConfig, HandshakeError, Progress, Session};

/// The servers of the recorded handshakes had the same password.
pub const PASSWORD: &[u8] = b"walrus-17";
const SALT: &[u8] = b"sixteen bytes of";
const ITERATIONS: u32 = 4096;
const CERTIFICATE_HASH: &[u8] = &[0x5c; 32];

/// Derived only once, as it takes 4096 rounds.
static KEYS: LazyLock<ScramKeys> =
    LazyLock::new(|| ScramKeys::derive(PASSWORD, SALT, ITERATIONS.try_into().expect("not 0")));

/// The verifier that a server stores for the password.
pub static VERIFIER: LazyLock<ScramVerifier> =
    LazyLock::new(|| ScramVerifier::from_password(PASSWORD, SALT, ITERATIONS.try_into().expect("not 0")));

/// The client's settings.
#[derive(Clone, Copy)]
pub struct Setting {
    pub encryption: Encryption,
    pub version: ProtocolVersion,
    pub has_secret: bool,
    pub scram_only: bool,
    certificate_has_hash: bool,
}

impl Setting {
    pub fn new(choice: u8) -> Self {
        use Encryption::{DirectTls, Plain, Tls, TlsIfOffered};
        let bit = |bit: u32| choice & (1 << bit) != 0;
        Self {
            encryption: [Plain, TlsIfOffered, Tls, DirectTls][usize::from(choice & 3)],
            version: if bit(2) { ProtocolVersion::V3_2 } else { ProtocolVersion::V3_0 },
            has_secret: !bit(3),
            scram_only: bit(4),
            certificate_has_hash: bit(5),
        }
    }

    /// The hash for channel binding, in TLS.
    pub fn certificate_hash(&self) -> Option<&'static [u8]> {
        self.certificate_has_hash.then_some(CERTIFICATE_HASH)
    }

    fn config(&self) -> HandshakeConfig {
        let mut parameters = ParametersBuf::new();
        for (name, value) in [(&b"user"[..], &b"mia"[..]), (b"database", b"postgres")] {
            parameters.push((name, value)).expect("no NUL in it");
        }
        let allowed = if self.scram_only { "scram-sha-256" } else { "" };
        HandshakeConfig {
            max_version: self.version,
            encryption: self.encryption,
            policy: AuthPolicy { allowed: allowed.parse().expect("a known method"), ..AuthPolicy::default() },
            password: self.has_secret.then(|| PASSWORD.to_vec().into()),
            scram_keys: self.has_secret.then(|| KEYS.clone()),
            ..HandshakeConfig::new(parameters)
        }
    }
}

/// How a conversation ended, or why it waits.
#[derive(Debug)]
pub enum End {
    Ready(Box<Session>),
    Failed(HandshakeError),
    /// The client waits for a server that has nothing left to send.
    Waiting,
}

/// The client and the bytes on their way to it.
pub struct Talk {
    setting: Setting,
    handshake: Handshake,
    /// The bytes that were read and not consumed.
    input: Vec<u8>,
    /// Whether the next read is that of the reply to `SSLRequest`, which is one byte.
    reads_one: bool,
    /// How much the client has consumed.
    pub consumed: usize,
    /// Everything that the client has sent.
    pub sent: Vec<u8>,
}

impl Talk {
    pub fn new(setting: Setting) -> Self {
        // The nonce of the recorded handshakes.
        let handshake = Handshake::new(setting.config(), Nonce::from_random([7; 18]));
        let reads_one = matches!(setting.encryption, Encryption::Tls | Encryption::TlsIfOffered);
        Self { setting, handshake, input: Vec::new(), reads_one, consumed: 0, sent: Vec::new() }
    }

    /// Drives the client as the documentation of `tapster::session` describes, reading at most `step` bytes
    /// at a time.
    pub fn receive(&mut self, mut unread: &[u8], step: usize) -> End {
        loop {
            let mut out = Vec::new();
            let progress = self.handshake.receive(&self.input, &mut out);
            self.sent.append(&mut out);
            let Progress { consumed, action } = match progress {
                Ok(progress) => progress,
                Err(error) => return self.check_stays_failed(error),
            };
            self.input.drain(..consumed);
            self.consumed += consumed;
            match action {
                Action::Read if unread.is_empty() => return End::Waiting,
                Action::Read => {
                    let step = if core::mem::take(&mut self.reads_one) { 1 } else { step };
                    let (read, rest) = unread.split_at(step.min(unread.len()));
                    self.input.extend_from_slice(read);
                    unread = rest;
                }
                Action::StartTls => {
                    assert!(self.input.is_empty(), "bytes were read ahead of TLS");
                    let hash = self.setting.certificate_hash();
                    self.handshake.tls_ready(hash, &mut self.sent).expect("it was asked for");
                }
                Action::Done(session) => return End::Ready(session),
            }
        }
    }

    /// Lets the driver make the mistake of reading more than the reply to `SSLRequest`.
    pub fn read_ahead(&mut self) {
        self.reads_one = false;
    }

    /// Checks that no further input makes a failed handshake continue.
    fn check_stays_failed(&mut self, error: HandshakeError) -> End {
        let shown = format!("{:?} {error} {error:?}", self.handshake);
        assert!(shown.len() <= 64 * self.input.len() + 10_000);
        for input in [&b""[..], b"Z\0\0\0\x05I", b"R\0\0\0\x08\0\0\0\0"] {
            let mut out = Vec::new();
            assert_eq!(self.handshake.receive(input, &mut out).err().as_ref(), Some(&error));
            assert!(out.is_empty());
        }
        End::Failed(error)
    }
}
