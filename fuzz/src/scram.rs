//! Properties of SCRAM: our client against our server, with an attacker in between.

use core::num::NonZeroU32;

use tapster::auth::{
    ChannelBinding, DerivedKeys, Mechanism, Nonce, ScramClient, ScramSecret, ScramServer, ScramVerifier,
    saslprep,
};

/// The input holds two passwords, a salt, and the choice of a message that is changed or replaced on its way.
///
/// Layout: choices, which message is changed and where, rounds, length of the salt, length of the password,
/// then salt, password, and the text that serves as the other password and as the replacement of a message.
pub fn scram(input: &[u8]) {
    let Some((&[choices, change, at, rounds, salt_len, password_len], rest)) = input.split_first_chunk()
    else {
        return;
    };
    let (salt, rest) = split(rest, salt_len);
    let (password, text) = split(rest, password_len);
    // Few rounds: the cost of a guess is not tested here.
    let iterations = NonZeroU32::new(1 + u32::from(rounds % 4)).expect("not 0");
    let hash = (choices & 1 != 0).then_some(&[0x5c; 32][..]);
    let binding = match (hash, choices & 2 != 0) {
        (Some(hash), _) => ChannelBinding::TlsServerEndPoint(hash.to_vec()),
        (None, true) => ChannelBinding::NotOffered,
        (None, false) => ChannelBinding::NotSupported,
    };
    let exchange = Exchange { password, salt, iterations, binding, hash };

    check_saslprep_is_idempotent(password);
    check_verifier_text(password, salt, iterations);
    check_foreign_text(text);
    let keys = exchange.run(password, None, |_, _| {});
    // The client refuses an empty salt, though a server could store one.
    assert_eq!(keys.is_some(), !salt.is_empty(), "the right password is refused");
    if let Some(keys) = keys {
        assert!(exchange.run(password, Some(keys), |_, _| {}).is_some(), "the derived keys are not accepted");
    }
    let is_wrong = hmac_key(text) != hmac_key(password);
    assert!(exchange.run(text, None, |_, _| {}).is_none() || !is_wrong, "a wrong password is accepted");
    exchange.check_changed_message(change % 4, at, choices >> 2, text);
}

struct Exchange<'a> {
    password: &'a [u8],
    salt: &'a [u8],
    iterations: NonZeroU32,
    binding: ChannelBinding,
    hash: Option<&'a [u8]>,
}

impl Exchange<'_> {
    /// Runs the exchange with a client that uses this password. `between` gets each of the four messages with
    /// its number, and may change it. The result is the client's keys, once the server has proved its
    /// identity.
    fn run(
        &self,
        password: &[u8],
        cached: Option<DerivedKeys>,
        mut between: impl FnMut(u8, &mut Vec<u8>),
    ) -> Option<DerivedKeys> {
        let verifier = ScramVerifier::from_password(self.password, self.salt, self.iterations);
        let secret = ScramSecret::from_password(password);
        let nonce = |byte| Nonce::from_random([byte; 18]);
        let server = ScramServer::new(verifier, nonce(9), self.hash);
        let client = ScramClient::new(&secret, nonce(7), self.binding.clone(), 4, cached);
        let mechanism = client.mechanism();
        // A side that refuses a message sends nothing.
        let silent = |out: &[u8]| assert!(out.is_empty(), "a refused message is answered");

        let mut message = Vec::new();
        client.client_first(&mut message);
        between(0, &mut message);
        let mut answer = Vec::new();
        let server = server.client_first(mechanism, &message, &mut answer).inspect_err(|_| silent(&answer));
        message = answer;
        let server = server.ok()?;
        between(1, &mut message);
        let mut answer = Vec::new();
        let client = client.server_first(&message, &mut answer).inspect_err(|_| silent(&answer));
        message = answer;
        let client = client.ok()?;
        between(2, &mut message);
        let mut answer = Vec::new();
        server.client_final(&message, &mut answer).inspect_err(|_| silent(&answer)).ok()?;
        between(3, &mut answer);
        client.server_final(&answer).ok()
    }

    /// Checks that a changed message never leads to a session: with a bit flipped, cut off, with text added,
    /// or replaced.
    fn check_changed_message(&self, which: u8, at: u8, how: u8, text: &[u8]) {
        let mut is_changed = false;
        let keys = self.run(self.password, None, |message, bytes| {
            if message != which {
                return;
            }
            let honest = bytes.clone();
            let at = usize::from(at) % bytes.len();
            match how % 4 {
                0 => bytes[at] ^= 1 << (how >> 2 & 7),
                1 => bytes.truncate(at),
                2 => drop(bytes.splice(at..at, text.iter().copied())),
                _ => *bytes = text.to_vec(),
            }
            // No signature covers extensions after the signature in the last message.
            let is_extended = message == 3 && bytes.starts_with(&[&honest[..], b","].concat());
            is_changed = *bytes != honest && !is_extended;
        });
        assert!(keys.is_none() || !is_changed, "message {which} was changed, and neither side noticed");
    }
}

/// The HMAC key of a password. HMAC fills its key up with zeros, so zeros at the end do not count.
fn hmac_key(password: &[u8]) -> Vec<u8> {
    let mut key = saslprep(password).into_owned();
    key.truncate(key.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1));
    key
}

/// Checks that SASLprep changes nothing that it has already prepared.
fn check_saslprep_is_idempotent(password: &[u8]) {
    let once = saslprep(password);
    assert_eq!(saslprep(&once), once);
}

fn check_verifier_text(password: &[u8], salt: &[u8], iterations: NonZeroU32) {
    let verifier = ScramVerifier::from_password(password, salt, iterations);
    let text = verifier.to_string();
    let parsed: ScramVerifier = text.parse().expect("our own text");
    assert_eq!((parsed.salt(), parsed.iterations(), parsed.to_string()), (salt, iterations, text));
}

/// Checks that no foreign text, in the place of a message or verifier, does harm: answers and errors stay
/// short.
fn check_foreign_text(text: &[u8]) {
    let nonce = || Nonce::from_random([7; 18]);
    let verifier = || ScramVerifier::from_password(b"", b"salt", NonZeroU32::MIN);
    for hash in [None, Some(&[0x5c; 32][..])] {
        for mechanism in [Mechanism::ScramSha256, Mechanism::ScramSha256Plus] {
            let mut out = Vec::new();
            match ScramServer::new(verifier(), nonce(), hash).client_first(mechanism, text, &mut out) {
                Ok(_) => assert!(out.len() <= text.len() + 100),
                Err(_) => assert!(out.is_empty()),
            }
        }
    }
    let secret = ScramSecret::from_password(b"");
    let client = ScramClient::new(&secret, nonce(), ChannelBinding::NotSupported, 4, None);
    let mut out = Vec::new();
    match client.server_first(text, &mut out) {
        Ok(_) => assert!(out.len() <= text.len() + 100),
        Err(error) => assert!(out.is_empty() && error.to_string().len() <= 200),
    }
    let verifier = core::str::from_utf8(text).ok().and_then(|text| text.parse::<ScramVerifier>().ok());
    if let Some(verifier) = verifier {
        let again: ScramVerifier = verifier.to_string().parse().expect("our own text");
        assert_eq!(again.to_string(), verifier.to_string());
    }
}

fn split(bytes: &[u8], len: u8) -> (&[u8], &[u8]) {
    bytes.split_at(usize::from(len).min(bytes.len()))
}
