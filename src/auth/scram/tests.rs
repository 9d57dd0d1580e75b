//! Whole exchanges: recorded ones, and the client against the server of this module.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::num::NonZeroU32;

use super::*;

const MAX: u32 = 1_000_000;
const HASH: &[u8] = &[0x5a; 32];

/// An exchange with PostgreSQL 15.18 for the password `pencil`, recorded with a client in another language.
mod recorded {
    pub(super) const NONCE: &str = "YWJjZGVmZ2hpamtsbW5vcHFy";
    pub(super) const SERVER_FIRST: &str =
        "r=YWJjZGVmZ2hpamtsbW5vcHFybP9FEyhg/2DOurCdDY9D5tLz,s=x5C3c0Cf2tiT096ZqNvgfg==,i=4096";
    pub(super) const CLIENT_FINAL: &str = "c=biws,r=YWJjZGVmZ2hpamtsbW5vcHFybP9FEyhg/2DOurCdDY9D5tLz,\
         p=bbNJ42bFwFvItdchoKfegXikTLVXAp1Io3MZcNhGppQ=";
    pub(super) const SERVER_FINAL: &str = "v=q1ttPBw2jz6QwbzaDvuVe+kvkHYcuvgf44t7rb42/ac=";
    /// What that server keeps for the user.
    pub(super) const VERIFIER: &str = "SCRAM-SHA-256$4096:x5C3c0Cf2tiT096ZqNvgfg==\
         $1BXUjtltyWuPa1CmDjveOqvJwI0TnyD07i5VSFiIIfQ=:vBRRcs2PljJriTE3/gfZJNpIONMczcK7xWTOtVQVDlw=";
}

fn rounds(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap()
}

fn recorded_client(secret: &ScramSecret, cached: Option<DerivedKeys>) -> ScramClient {
    ScramClient::new(secret, Nonce::recorded(recorded::NONCE), ChannelBinding::NotSupported, MAX, cached)
}

fn pencil() -> ScramSecret {
    ScramSecret::from_password(b"pencil")
}

/// The client's answer to the recorded server, and the state after it.
fn replay(client: ScramClient) -> (String, ScramFinal) {
    let mut out = Vec::new();
    let client = client.server_first(recorded::SERVER_FIRST.as_bytes(), &mut out).unwrap();
    (String::from_utf8(out).unwrap(), client)
}

/// The client's error for a first message that differs from the recorded one. The client must not have
/// answered.
fn refused(server_first: impl AsRef<[u8]>) -> ScramError {
    let mut out = Vec::new();
    let error = recorded_client(&pencil(), None).server_first(server_first.as_ref(), &mut out).unwrap_err();
    assert!(out.is_empty());
    error
}

/// One whole exchange; the two sides need not agree.
fn exchange(
    client: ScramClient,
    verifier: &ScramVerifier,
    end_point: Option<&[u8]>,
) -> Result<DerivedKeys, ScramServerError> {
    let server = ScramServer::new(verifier.clone(), Nonce::from_random([0xa5; 18]), end_point);
    let (mut from_client, mut from_server) = (Vec::new(), Vec::new());
    client.client_first(&mut from_client);
    let server = server.client_first(client.mechanism(), &from_client, &mut from_server)?;
    from_client.clear();
    let client = client.server_first(&from_server, &mut from_client).unwrap();
    from_server.clear();
    server.client_final(&from_client, &mut from_server)?;
    Ok(client.server_final(&from_server).unwrap())
}

fn client_with(binding: ChannelBinding, password: &[u8]) -> ScramClient {
    ScramClient::new(&ScramSecret::from_password(password), Nonce::from_random([1; 18]), binding, MAX, None)
}

#[test]
fn the_recorded_exchange_is_reproduced() {
    let client = recorded_client(&pencil(), None);
    let mut out = Vec::from("kept");
    client.client_first(&mut out);
    assert_eq!(out, format!("keptn,,n=,r={}", recorded::NONCE).as_bytes());
    let (client_final, client) = replay(client);
    assert_eq!(client_final, recorded::CLIENT_FINAL);
    let derived = client.server_final(recorded::SERVER_FINAL.as_bytes()).unwrap();
    assert_eq!((derived.salt().len(), derived.iterations().get()), (16, 4096));
}

#[test]
fn the_verifier_equals_the_one_that_postgresql_stored() {
    let stored: ScramVerifier = recorded::VERIFIER.parse().unwrap();
    let ours = ScramVerifier::from_password(b"pencil", stored.salt(), stored.iterations());
    assert_eq!(ours.to_string(), recorded::VERIFIER);
    assert_eq!(stored.to_string(), recorded::VERIFIER);
}

/// RFC 7677 section 3. The client there sends a user name, so the server's side replays it.
#[test]
fn the_server_reproduces_the_exchange_of_rfc_7677() {
    let salt =
        [0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81];
    let verifier = ScramVerifier::from_password(b"pencil", &salt, rounds(4096));
    let server = ScramServer::new(verifier, Nonce::recorded("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"), None);
    let mut out = Vec::new();
    let server =
        server.client_first(Mechanism::ScramSha256, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", &mut out).unwrap();
    assert_eq!(
        out,
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    out.clear();
    let client_final = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    server.client_final(client_final, &mut out).unwrap();
    assert_eq!(out, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn both_sides_agree_with_every_binding() {
    for (binding, end_point) in [
        (ChannelBinding::NotSupported, None),
        (ChannelBinding::NotSupported, Some(HASH)),
        (ChannelBinding::NotOffered, None),
        (ChannelBinding::TlsServerEndPoint(HASH.into()), Some(HASH)),
    ] {
        let verifier = ScramVerifier::from_password(b"pencil", b"salt", rounds(2));
        exchange(client_with(binding, b"pencil"), &verifier, end_point).unwrap();
    }
}

#[test]
fn the_server_refuses_a_binding_that_does_not_fit() {
    let verifier = ScramVerifier::from_password(b"pencil", b"salt", rounds(1));
    let refused =
        |binding, end_point| exchange(client_with(binding, b"pencil"), &verifier, end_point).unwrap_err();
    let bound = |hash: &[u8]| ChannelBinding::TlsServerEndPoint(hash.into());
    assert_eq!(
        refused(ChannelBinding::NotOffered, Some(HASH)),
        ScramServerError::ServerDoesSupportChannelBinding
    );
    assert_eq!(refused(bound(HASH), None), ScramServerError::ChannelBindingNotSupported);
    assert_eq!(refused(bound(&[1; 32]), Some(HASH)), ScramServerError::ChannelBindingsDontMatch);

    let first = |mechanism, message: &str| {
        let server = ScramServer::new(verifier.clone(), Nonce::from_random([0; 18]), Some(HASH));
        server.client_first(mechanism, message.as_bytes(), &mut Vec::new()).unwrap_err()
    };
    let (plain, plus) = (Mechanism::ScramSha256, Mechanism::ScramSha256Plus);
    assert_eq!(first(plus, "p=tls-unique,,n=,r=x"), ScramServerError::UnsupportedChannelBindingType);
    assert_eq!(first(plus, "n,,n=,r=x"), ScramServerError::InvalidEncoding);
    assert_eq!(first(plain, "p=tls-server-end-point,,n=,r=x"), ScramServerError::InvalidEncoding);
}

#[test]
fn the_server_refuses_malformed_messages() {
    let verifier = ScramVerifier::from_password(b"pencil", b"salt", rounds(1));
    let server = || ScramServer::new(verifier.clone(), Nonce::recorded("theirs"), None);
    for message in
        ["", "x,,n=,r=o", "n,a=me,n=,r=o", "n,,r=o", "n,,n=", "n,,n=,r=", "n,,n=,r=o o", "n,,n=,r=o,y"]
    {
        let refused = server().client_first(Mechanism::ScramSha256, message.as_bytes(), &mut Vec::new());
        assert_eq!(refused.unwrap_err(), ScramServerError::InvalidEncoding, "{message:?}");
    }
    let refused = server().client_first(Mechanism::ScramSha256, b"n,,m=x,n=,r=o", &mut Vec::new());
    assert_eq!(refused.unwrap_err(), ScramServerError::ExtensionsNotSupported);

    for (message, error) in [
        ("", ScramServerError::InvalidEncoding),
        ("c=biws,r=otheirs", ScramServerError::InvalidEncoding),
        ("r=otheirs,p=AAAA", ScramServerError::InvalidEncoding),
        ("c=biws,p=AAAA", ScramServerError::InvalidEncoding),
        ("c=biws,r=otheirs,p=AAAA", ScramServerError::InvalidEncoding),
        ("c=biws,r=others,p=AAAA", ScramServerError::OtherError),
        ("c=eSws,r=otheirs,p=AAAA", ScramServerError::ChannelBindingsDontMatch),
        ("c=biws,r=otheirs,m=x,p=AAAA", ScramServerError::ExtensionsNotSupported),
        ("c=biws,r=otheirs,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", ScramServerError::InvalidProof),
    ] {
        let server = server().client_first(Mechanism::ScramSha256, b"n,,n=,r=o", &mut Vec::new()).unwrap();
        let mut out = Vec::new();
        assert_eq!(server.client_final(message.as_bytes(), &mut out), Err(error), "{message:?}");
        assert!(out.is_empty());
    }
}

#[test]
fn a_wrong_password_is_an_invalid_proof() {
    let verifier = ScramVerifier::from_password(b"pencil", b"salt", rounds(2));
    let error = exchange(client_with(ChannelBinding::NotSupported, b"Pencil"), &verifier, None).unwrap_err();
    assert_eq!(error, ScramServerError::InvalidProof);
}

#[test]
fn passwords_of_any_bytes_and_any_length_agree() {
    for password in ["".as_bytes(), b"\xff\xfe", "I\u{ad}X".as_bytes(), &[b'x'; 65], &[b'y'; 1000]] {
        let verifier = ScramVerifier::from_password(password, b"salt", rounds(2));
        exchange(client_with(ChannelBinding::NotSupported, password), &verifier, None).unwrap();
    }
    // Passwords that SASLprep makes equal are one password.
    let verifier = ScramVerifier::from_password(b"IX", b"salt", rounds(2));
    exchange(client_with(ChannelBinding::NotSupported, "\u{2168}".as_bytes()), &verifier, None).unwrap();
}

#[test]
fn given_keys_replace_the_password() {
    let keys = ScramKeys::derive(
        b"pencil",
        replay(recorded_client(&pencil(), None)).1.derived().salt(),
        rounds(4096),
    );
    let (client_final, client) = replay(recorded_client(&ScramSecret::Keys(keys), None));
    assert_eq!(client_final, recorded::CLIENT_FINAL);
    client.server_final(recorded::SERVER_FINAL.as_bytes()).unwrap();
}

#[test]
fn keys_parse_from_base64_of_32_bytes_only() {
    let good = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert!(ScramKeys::from_base64(good, good).is_ok());
    for bad in [
        "",
        "AAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=",
    ] {
        assert_eq!(ScramKeys::from_base64(bad, good).unwrap_err().parameter(), "scram_client_key", "{bad:?}");
        assert_eq!(ScramKeys::from_base64(good, bad).unwrap_err().parameter(), "scram_server_key", "{bad:?}");
    }
}

/// The cache holds the keys of another password, so that the answer shows whether the client used them.
#[test]
fn cached_keys_are_used_only_for_their_own_salt_and_count() {
    let proven = replay(recorded_client(&pencil(), None)).1.derived().clone();
    let other_keys = ScramKeys::new([1; 32], [2; 32]);
    let cached =
        |salt: &[u8], iterations| DerivedKeys::new(salt.to_vec(), rounds(iterations), other_keys.clone());
    for (salt, iterations, used) in
        [(proven.salt(), 4096, true), (proven.salt(), 4095, false), (b"other salt".as_slice(), 4096, false)]
    {
        let (client_final, _) = replay(recorded_client(&pencil(), Some(cached(salt, iterations))));
        assert_eq!(client_final != recorded::CLIENT_FINAL, used);
    }
    let (client_final, client) = replay(recorded_client(&pencil(), Some(proven)));
    assert_eq!(client_final, recorded::CLIENT_FINAL);
    client.server_final(recorded::SERVER_FINAL.as_bytes()).unwrap();
}

#[test]
fn every_fault_in_a_first_message_has_its_error() {
    let malformed = |reason| ScramError::Malformed { message: "server-first-message", reason };
    let nonce = format!("r={}", recorded::NONCE);
    let after_nonce = |rest: &str| refused(format!("{nonce}+{rest}"));

    assert_eq!(refused(""), malformed("it is empty"));
    assert_eq!(refused(format!("{}\0", recorded::SERVER_FIRST)), malformed("it contains NUL"));
    assert_eq!(refused(b"r=\xff"), malformed("it is not UTF-8"));
    assert_eq!(after_nonce(&"x".repeat(2000)), malformed("it is longer than 2000 bytes"));

    assert_eq!(refused("s=AAAA,r=x,i=1"), malformed("expected a nonce (r=)"));
    assert_eq!(refused("r=someone,s=AAAA,i=1"), ScramError::NonceMismatch);
    let another = recorded::SERVER_FIRST.replacen("YWJj", "YWJk", 1);
    assert_eq!(refused(another), ScramError::NonceMismatch);
    assert_eq!(refused(format!("{nonce},s=AAAA,i=1")), ScramError::NonceNotExtended);
    assert_eq!(after_nonce(" ,s=AAAA,i=1"), malformed("the nonce is not printable ASCII"));

    assert_eq!(after_nonce(""), malformed("expected a salt (s=)"));
    assert_eq!(after_nonce(",i=1,s=AAAA"), malformed("expected a salt (s=)"));
    for salt in ["", "A", "AA", "AB==", "AAA*", "AA AA"] {
        assert_eq!(after_nonce(&format!(",s={salt},i=1")), malformed("the salt is not base64"), "{salt:?}");
    }

    assert_eq!(after_nonce(",s=AAAA"), malformed("expected an iteration count (i=)"));
    for count in ["", "+1", "-1", " 1", "1 ", "0x1", "1e3"] {
        let reason = "the iteration count is not a decimal number";
        assert_eq!(after_nonce(&format!(",s=AAAA,i={count}")), malformed(reason), "{count:?}");
    }
    for count in ["0", "1000001", "4294967296", "99999999999999999999999999"] {
        let error = after_nonce(&format!(",s=AAAA,i={count}"));
        assert_eq!(error, ScramError::IterationsOutOfRange { max: MAX }, "{count:?}");
    }

    assert_eq!(refused(format!("m=x,{}", recorded::SERVER_FIRST)), ScramError::MandatoryExtension);
    assert_eq!(after_nonce(",s=AAAA,i=1,m=x"), ScramError::MandatoryExtension);
    for noise in ["", "x", "xy=1", "x=", "=1", "1=1", "\u{e9}=1"] {
        let reason = "something other than an extension follows";
        assert_eq!(after_nonce(&format!(",s=AAAA,i=1,{noise}")), malformed(reason), "{noise:?}");
    }
    let reason = "an attribute stands in the wrong place";
    assert_eq!(after_nonce(",s=AAAA,i=1,i=2"), malformed(reason));

    assert_eq!(refused("e=no-resources"), ScramError::Server(ScramServerError::NoResources));
}

#[test]
fn the_iteration_limit_itself_is_allowed() {
    let client = |max| {
        let nonce = Nonce::recorded(recorded::NONCE);
        ScramClient::new(&pencil(), nonce, ChannelBinding::NotSupported, max, None)
            .server_first(recorded::SERVER_FIRST.as_bytes(), &mut Vec::new())
    };
    assert!(client(4096).is_ok());
    assert_eq!(client(4095).unwrap_err(), ScramError::IterationsOutOfRange { max: 4095 });
}

#[test]
fn every_fault_in_a_final_message_has_its_error() {
    let malformed = |reason| ScramError::Malformed { message: "server-final-message", reason };
    let (_, client) = replay(recorded_client(&pencil(), None));
    let refused = |message: &str| client.clone().server_final(message.as_bytes()).unwrap_err();
    assert_eq!(refused(""), malformed("it is empty"));
    assert_eq!(refused("x"), malformed("expected the server's signature (v=)"));
    for signature in ["", "AAAA", "not base64", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let reason = "the signature is not 32 bytes in base64";
        assert_eq!(refused(&format!("v={signature}")), malformed(reason), "{signature:?}");
    }
    let zeros = "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(refused(zeros), ScramError::WrongServerSignature);
    assert_eq!(refused(&format!("{},m=x", recorded::SERVER_FINAL)), ScramError::MandatoryExtension);
    assert_eq!(
        refused(&format!("{}, ", recorded::SERVER_FINAL)),
        malformed("something other than an extension follows")
    );
    for (text, error) in [
        ("e=invalid-proof", ScramServerError::InvalidProof),
        ("e=unknown-user,x=1", ScramServerError::UnknownUser),
        ("e=made-up", ScramServerError::OtherError),
        ("e=", ScramServerError::OtherError),
    ] {
        assert_eq!(refused(text), ScramError::Server(error), "{text}");
    }
}

#[test]
fn well_formed_extensions_are_ignored() {
    let (_, client) = replay(recorded_client(&pencil(), None));
    client.server_final(format!("{},x=a=b,y=2", recorded::SERVER_FINAL).as_bytes()).unwrap();
    let first = format!("{},x=1", recorded::SERVER_FIRST);
    let client = recorded_client(&pencil(), None).server_first(first.as_bytes(), &mut Vec::new()).unwrap();
    // The recorded server did not sign this extension.
    assert_eq!(
        client.server_final(recorded::SERVER_FINAL.as_bytes()).unwrap_err(),
        ScramError::WrongServerSignature
    );
}

#[test]
fn no_changed_byte_of_a_server_message_verifies() {
    let (_, honest) = replay(recorded_client(&pencil(), None));
    // Given keys spare each exchange PBKDF2, which would take minutes for all of them.
    let keys = ScramSecret::Keys(honest.derived().keys().clone());
    let mutations = |message: &'static str| {
        (0..message.len()).flat_map(move |at| {
            (0..=u8::MAX).filter(move |byte| *byte != message.as_bytes()[at]).map(move |byte| {
                let mut changed = message.as_bytes().to_vec();
                changed[at] = byte;
                changed
            })
        })
    };
    for changed in mutations(recorded::SERVER_FINAL) {
        assert!(honest.clone().server_final(&changed).is_err(), "{changed:?}");
    }
    for changed in mutations(recorded::SERVER_FIRST) {
        let client = recorded_client(&keys, None).server_first(&changed, &mut Vec::new());
        let proven = client.and_then(|client| client.server_final(recorded::SERVER_FINAL.as_bytes()));
        assert!(proven.is_err(), "{changed:?}");
    }
}

#[test]
fn no_truncated_server_message_verifies() {
    let (_, honest) = replay(recorded_client(&pencil(), None));
    let keys = ScramSecret::Keys(honest.derived().keys().clone());
    for len in 0..recorded::SERVER_FINAL.len() {
        assert!(honest.clone().server_final(&recorded::SERVER_FINAL.as_bytes()[..len]).is_err(), "{len}");
    }
    for len in 0..recorded::SERVER_FIRST.len() {
        let message = &recorded::SERVER_FIRST.as_bytes()[..len];
        let client = recorded_client(&keys, None).server_first(message, &mut Vec::new());
        let proven = client.and_then(|client| client.server_final(recorded::SERVER_FINAL.as_bytes()));
        assert!(proven.is_err(), "{len}");
    }
}

#[test]
fn verifiers_of_another_form_are_refused() {
    for (from, to) in [
        ("SCRAM-SHA-256", "SCRAM-SHA-512"),
        ("$4096", "$0"),
        ("$4096", "$-1"),
        ("$4096", "$"),
        ("4096:", "4096"),
        ("==$", "=="),
        ("==$", "*=$"),
        ("IIfQ=:", "IIfQ="),
        ("IIfQ=:", "IIfR=:"),
        ("VDlw=", "VDlw"),
        ("VDlw=", "VDlw=="),
    ] {
        let text = recorded::VERIFIER.replacen(from, to, 1);
        assert_ne!(text, recorded::VERIFIER, "{from}");
        assert!(text.parse::<ScramVerifier>().is_err(), "{text}");
    }
}

/// Every public type that holds a secret, and every error, through `Debug` and `Display`.
#[test]
fn no_debug_or_display_text_contains_a_secret() {
    let (client_final, client) = replay(recorded_client(&pencil(), None));
    let verifier: ScramVerifier = recorded::VERIFIER.parse().unwrap();
    let server = || ScramServer::new(verifier.clone(), Nonce::recorded("theirs"), None);
    let server_final = server().client_first(Mechanism::ScramSha256, b"n,,n=,r=o", &mut Vec::new()).unwrap();
    let shown = [
        format!("{:?}", pencil()),
        format!("{:?}", ScramSecret::Keys(client.derived().keys().clone())),
        format!("{:?}", client.derived()),
        format!("{:?}", client.derived().keys()),
        format!("{:?}", recorded_client(&pencil(), Some(client.derived().clone()))),
        format!("{client:?}"),
        format!("{verifier:?}"),
        format!("{:?}", server()),
        format!("{server_final:?}"),
        format!("{:?}", ScramKeys::from_base64("pencil", "pencil").unwrap_err()),
        format!("{}", ScramKeys::from_base64("pencil", "pencil").unwrap_err()),
        format!("{:?}", "pencil".parse::<ScramVerifier>().unwrap_err()),
        format!("{:?} {}", client.clone().server_final(b"v=pencil").unwrap_err(), refused("r=pencil")),
    ];
    let keys = client.derived().keys();
    let server_key = format!("{:?}", keys.server_key().as_slice());
    let stored_key = format!("{:?}", keys.stored_key().as_slice());
    let (_, proof) = client_final.rsplit_once("p=").unwrap();
    for text in shown {
        for secret in ["pencil", proof, &server_key[1..20], &stored_key[1..20], "vBRRcs2P", "1BXUjtl"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
