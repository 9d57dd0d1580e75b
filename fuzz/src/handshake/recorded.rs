//! The peer that sends fixed bytes, whatever it receives: recorded, changed or random ones.

use tapster::auth::AuthMethod;
use tapster::session::{Encryption, HandshakeError};

use super::talk::{End, PASSWORD, Setting, Talk};

/// More bytes than a client sends in any handshake: four messages, of which one repeats a nonce of up to 2000
/// bytes.
const MAX_SENT: usize = 4_096;

pub fn check(setting: Setting, server: &[u8]) {
    let whole = Outcome::of(setting, server, usize::MAX);
    for step in [1, 7] {
        assert_eq!(Outcome::of(setting, server, step), whole, "read {step} bytes at a time");
    }
    whole.check(setting, server);

    let asks_for_tls = matches!(setting.encryption, Encryption::Tls | Encryption::TlsIfOffered);
    if let ([b'S', _, ..], true) = (server, asks_for_tls) {
        let mut talk = Talk::new(setting);
        assert!(matches!(talk.receive(b"", 1), End::Waiting));
        talk.read_ahead();
        assert!(matches!(talk.receive(server, 2), End::Failed(HandshakeError::BytesBeforeTls)));
    }
}

/// The part of the result that must be the same however the network splits the server's bytes.
#[derive(Debug, PartialEq)]
struct Outcome {
    end: String,
    sent: Vec<u8>,
    /// If there is a session: how many bytes were consumed, how the client proved its identity, and whether
    /// keys were derived.
    ready: Option<(usize, AuthMethod, bool)>,
}

impl Outcome {
    fn of(setting: Setting, server: &[u8], step: usize) -> Self {
        let mut talk = Talk::new(setting);
        let end = talk.receive(server, step);
        let ready = match &end {
            End::Ready(session) => {
                Some((talk.consumed, session.authentication, session.derived_keys.is_some()))
            }
            _ => None,
        };
        Self { end: format!("{end:?}"), sent: talk.sent, ready }
    }

    fn check(&self, setting: Setting, server: &[u8]) {
        assert!(self.sent.len() <= MAX_SENT, "the client sends too much");
        // The client keeps no more than the server has sent.
        assert!(
            self.end.len() <= 16 * server.len() + 10_000,
            "the session is larger than the bytes that were received"
        );
        let shows = |bytes: &[u8]| bytes.windows(PASSWORD.len()).any(|window| window == PASSWORD);
        assert!(!shows(self.end.as_bytes()) || shows(server), "the password is shown");
        if setting.scram_only {
            assert!(!shows(&self.sent), "the password is sent");
        }
        if let Some((consumed, method, has_keys)) = self.ready {
            let (handshake, _of_the_session) = server.split_at(consumed);
            assert!(matches!(handshake, [.., b'Z', 0, 0, 0, 5, b'I' | b'T' | b'E']), "not ReadyForQuery");
            assert_eq!(has_keys, method == AuthMethod::ScramSha256);
            assert!(has_keys || !setting.scram_only, "nothing was proved");
        }
    }
}
