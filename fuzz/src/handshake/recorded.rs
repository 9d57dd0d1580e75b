//! The peer that says what it says, whatever it hears: recorded, changed or random bytes.

use tapster::auth::AuthMethod;
use tapster::session::{Encryption, HandshakeError};

use super::talk::{End, PASSWORD, Setting, Talk};

/// More than any handshake has to say: four messages, of which one repeats a nonce of up to 2000 bytes.
const MOST_SENT: usize = 4_096;

pub fn check(setting: Setting, server: &[u8]) {
    let whole = Outcome::of(setting, server, usize::MAX);
    for step in [1, 7] {
        assert_eq!(Outcome::of(setting, server, step), whole, "read {step} bytes at a time");
    }
    whole.check(setting, server);

    let asks_for_tls = matches!(setting.encryption, Encryption::Tls | Encryption::TlsIfOffered);
    if let ([b'S', _, ..], true) = (server, asks_for_tls) {
        let mut talk = Talk::new(setting);
        assert!(matches!(talk.hear(b"", 1), End::Waiting));
        talk.reads_ahead();
        assert!(matches!(talk.hear(server, 2), End::Failed(HandshakeError::BytesBeforeTls)));
    }
}

/// What is the same however the server's bytes are split on their way.
#[derive(Debug, PartialEq)]
struct Outcome {
    end: String,
    sent: Vec<u8>,
    /// What was consumed and how the client is known to the server, where there is a session.
    ready: Option<(usize, AuthMethod, bool)>,
}

impl Outcome {
    fn of(setting: Setting, server: &[u8], step: usize) -> Self {
        let mut talk = Talk::new(setting);
        let end = talk.hear(server, step);
        let ready = match &end {
            End::Ready(session) => {
                Some((talk.consumed, session.authentication, session.derived_keys.is_some()))
            }
            _ => None,
        };
        Self { end: format!("{end:?}"), sent: talk.sent, ready }
    }

    fn check(&self, setting: Setting, server: &[u8]) {
        assert!(self.sent.len() <= MOST_SENT, "the client says too much");
        // Whatever is kept of the server's words was said by it.
        assert!(self.end.len() <= 16 * server.len() + 10_000, "the session grows beyond what was heard");
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
