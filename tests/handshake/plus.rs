//! SCRAM-SHA-256-PLUS: a login that is valid for one TLS session and no other.

use tapster::auth::{AuthPolicy, AuthRefused, ChannelBindingMode, ScramError};
use tapster::codec::{Authentication, AuthenticationResponse};
use tapster::session::{Encryption, HandshakeConfig, HandshakeError};

use crate::talk::{
    End, Peer, ScramMessage, Talk, authentication, ok, response, scram_offering, server_answering, settings,
};
use crate::{config, honest, sasl_final};

const BOTH: &[&str] = &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"];
const PLAIN: &[&str] = &["SCRAM-SHA-256"];
/// The hash of the server's certificate.
const REAL: &[u8] = &[7; 32];
/// The hash of another certificate.
const OTHER: &[u8] = &[8; 32];

fn in_tls(channel_binding: ChannelBindingMode) -> HandshakeConfig {
    let policy = AuthPolicy { channel_binding, ..AuthPolicy::default() };
    HandshakeConfig { encryption: Encryption::DirectTls, policy, ..config() }
}

/// The result of a login in a TLS session with this certificate, and the bytes that the client sent; checked
/// with reads of every size.
#[track_caller]
fn login(
    channel_binding: ChannelBindingMode,
    certificate: Option<&[u8]>,
    peer: impl Fn() -> Peer,
) -> (End, Vec<Vec<u8>>) {
    let run = |step| {
        let mut talk = Talk::new(&in_tls(channel_binding), peer());
        talk.certificate = Some(certificate.map(<[u8]>::to_vec));
        (talk.go_on(step), talk.sent)
    };
    let whole = run(usize::MAX);
    for step in [1, 3, 64] {
        assert_eq!(run(step), whole, "read {step} bytes at a time");
    }
    whole
}

/// The mechanism that the client chose, and how its first message begins.
#[track_caller]
fn choice(sent: &[Vec<u8>]) -> (String, String) {
    let body = response(&sent[1]).expect("an answer to AuthenticationSASL");
    let initial = AuthenticationResponse::parse_sasl_initial(body).expect("our own client");
    let AuthenticationResponse::SaslInitial { mechanism, data: Some(data) } = initial else { panic!() };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let flag = text(data).split(',').next().expect("a header").to_owned();
    (text(mechanism), flag)
}

#[track_caller]
fn is_bound(end: &End) -> bool {
    let End::Ready(session, _) = end else { panic!("{end:?}") };
    assert!(session.contains("authentication: ScramSha256"), "{session}");
    session.contains("channel_bound: true")
}

/// The message with which the server refused the login.
#[track_caller]
fn refusal(end: End) -> String {
    let End::Failed(HandshakeError::Server(error)) = end else { panic!("{end:?}") };
    error.message
}

#[test]
fn a_channel_is_bound_where_both_sides_can() {
    use ChannelBindingMode::{Disable, Prefer, Require};
    let plus = ("SCRAM-SHA-256-PLUS".into(), "p=tls-server-end-point".into());
    let plain = |flag: &str| ("SCRAM-SHA-256".to_string(), flag.to_string());
    for (mode, certificate, offer, expected) in [
        (Prefer, Some(REAL), BOTH, plus.clone()),
        (Require, Some(REAL), BOTH, plus),
        (Disable, Some(REAL), BOTH, plain("n")),
        // An older server; the client says that it would have bound the channel.
        (Prefer, Some(REAL), PLAIN, plain("y")),
        (Disable, Some(REAL), PLAIN, plain("n")),
        // Ed25519 has no hash function to bind with.
        (Prefer, None, BOTH, plain("n")),
    ] {
        let of_server = (offer == BOTH).then_some(REAL);
        let (end, sent) = login(mode, certificate, scram_offering(offer, of_server, honest));
        let context = format!("{mode:?} {certificate:?} {offer:?}");
        assert_eq!(is_bound(&end), expected.0.ends_with("PLUS"), "{context}");
        assert_eq!(choice(&sent), expected, "{context}");
    }
}

#[test]
fn an_attacker_in_between_is_detected() {
    use ChannelBindingMode::{Disable, Prefer, Require};
    // The client's TLS session ends at another certificate; the attacker passes the messages on unchanged.
    for mode in [Prefer, Require] {
        let (end, _) = login(mode, Some(OTHER), scram_offering(BOTH, Some(REAL), honest));
        assert_eq!(refusal(end), "channel-bindings-dont-match");
    }
    // The attacker removes the PLUS mechanism from the offer, so that nothing would be bound.
    let cut = || scram_offering(PLAIN, Some(REAL), honest);
    assert_eq!(refusal(login(Prefer, Some(OTHER), cut()).0), "server-does-support-channel-binding");
    let (end, sent) = login(Require, Some(OTHER), cut());
    assert_eq!(end, End::Failed(HandshakeError::Refused(AuthRefused::BindingNotOffered)));
    assert_eq!(sent.len(), 1, "only the startup packet");
    // A client that switches channel binding off has no such protection.
    assert!(!is_bound(&login(Disable, Some(OTHER), cut()).0));
}

#[test]
fn a_binding_that_is_required_is_not_given_up() {
    let refused = |certificate: Option<&[u8]>, answer: Vec<u8>| {
        let (end, sent) = login(ChannelBindingMode::Require, certificate, server_answering([answer]));
        assert_eq!(sent.len(), 1, "only the startup packet");
        match end {
            End::Failed(HandshakeError::Refused(refused)) => refused,
            other => panic!("{other:?}"),
        }
    };
    let md5 = Authentication::Md5Password { salt: *b"salt" };
    for request in [Authentication::CleartextPassword, md5, Authentication::Gss] {
        assert_eq!(refused(Some(REAL), authentication(request)), AuthRefused::RequestCannotBind);
    }
    assert_eq!(refused(Some(REAL), [ok(), settings()].concat()), AuthRefused::NotBound);
    assert_eq!(refused(None, crate::sasl(BOTH)), AuthRefused::NoHash);
}

#[test]
fn a_bound_login_has_to_be_proven_as_well() {
    let last = |change: fn(&str) -> Vec<u8>| {
        let peer = scram_offering(BOTH, Some(REAL), move |word, text| match word {
            ScramMessage::First => text.into_bytes(),
            ScramMessage::Final => change(&text),
        });
        match login(ChannelBindingMode::Require, Some(REAL), peer).0 {
            End::Failed(error) => error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(last(|_| [ok(), settings()].concat()), HandshakeError::Refused(AuthRefused::Unproven));
    // 32 bytes of zero.
    let wrong = last(|_| [sasl_final(&format!("v={}=", "A".repeat(43))), ok(), settings()].concat());
    assert_eq!(wrong, HandshakeError::Scram(ScramError::WrongServerSignature));
}
