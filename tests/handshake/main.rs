//! The handshake as a conversation without sockets: what a server may send at each point, and how the client
//! fails if it sends something else. Every conversation runs with reads of every size.
#![cfg(feature = "session")]

mod plus;
mod talk;

use tapster::auth::{
    AuthPolicy, AuthRefused, ChannelBindingMode, ScramError, ScramServerError, md5_password,
};
use tapster::codec::{
    Authentication, AuthenticationResponse, BackendMessage, CopyData, DecodeErrorKind, FrontendFraming,
    ParameterStatus, ProtocolVersion, StartupMessage, StartupPacket,
};
use tapster::session::{Encryption, HandshakeConfig, HandshakeError, NegotiationFault};

use talk::{
    End, PASSWORD, Peer, ScramMessage, Talk, authentication, error, failure, idle, key, message, negotiate,
    notice, ok, outcome, parameters, response, sasl, scram, server_answering, settings, status,
};

fn config() -> HandshakeConfig {
    HandshakeConfig {
        password: Some(PASSWORD.to_vec().into()),
        ..HandshakeConfig::new(parameters(&[("user", "mia"), ("replication", "true")]))
    }
}

/// Protocol 3.2, which no server before 18 supports.
fn newest() -> HandshakeConfig {
    HandshakeConfig { max_version: ProtocolVersion::V3_2, ..config() }
}

fn honest(word: ScramMessage, text: String) -> Vec<u8> {
    match word {
        ScramMessage::First => text.into_bytes(),
        ScramMessage::Final => [sasl_final(&text), ok(), settings()].concat(),
    }
}

fn sasl_final(text: &str) -> Vec<u8> {
    authentication(Authentication::SaslFinal { data: text.as_bytes() })
}

#[test]
fn each_method_leads_to_a_session() {
    let end = [ok(), settings()].concat();
    let md5 = Authentication::Md5Password { salt: *b"salt" };
    let nothing = server_answering([end.clone()]);
    let cleartext = server_answering([authentication(Authentication::CleartextPassword), end.clone()]);
    let hashed = server_answering([authentication(md5), end]);
    let scram = scram(honest);
    let methods: [(&str, &dyn Fn() -> Peer); 4] =
        [("None", &nothing), ("Password", &cleartext), ("Md5", &hashed), ("ScramSha256", &scram)];
    for (method, peer) in methods {
        let (End::Ready(session, key), sent) = outcome(&config(), peer) else { panic!("{method}") };
        assert!(session.contains(&format!("authentication: {method},")), "{session}");
        assert!(session.contains("\"server_version\": \"18.4\""), "{session}");
        assert_eq!(key.as_deref(), Some(&b"1234"[..]));

        let Ok(StartupPacket::Startup(startup)) = FrontendFraming::STARTUP.parse_startup(&sent[0]) else {
            panic!("{sent:?}")
        };
        let parameters = config().parameters;
        assert_eq!(
            startup,
            StartupMessage { version: ProtocolVersion::V3_0, parameters: parameters.as_list() }
        );
        let password = |flight: &[u8]| match AuthenticationResponse::parse_password(response(flight)?) {
            Ok(AuthenticationResponse::Password { password }) => Some(password.to_vec()),
            _ => None,
        };
        match method {
            "None" => assert_eq!(sent.len(), 1),
            "Password" => assert_eq!(password(&sent[1]).as_deref(), Some(PASSWORD)),
            "Md5" => {
                let expected = md5_password(b"mia", PASSWORD, *b"salt");
                assert_eq!(password(&sent[1]).as_deref(), Some(expected.as_bytes()));
            }
            _ => {
                assert_eq!(sent.len(), 3);
                assert!(!sent.concat().windows(PASSWORD.len()).any(|bytes| bytes == PASSWORD));
            }
        }
    }
}

/// Leads a handshake into each of its states, and offers it every message there.
#[test]
fn each_state_accepts_only_its_own_messages() {
    let cleartext = authentication(Authentication::CleartextPassword);
    let expects_authentication = server_answering([Vec::new()]);
    let negotiated = server_answering([negotiate(ProtocolVersion::V3_0, &[])]);
    let scram_first = server_answering([sasl(&["SCRAM-SHA-256"])]);
    let scram_final = || {
        let mut peer = scram(honest)();
        let mut flights = 0;
        Box::new(move |flight: &[u8]| {
            flights += 1;
            // The server does not answer the client's proof.
            if flights < 3 { peer(flight) } else { Vec::new() }
        }) as Peer
    };
    let scram_ok = scram(|word, text| match word {
        ScramMessage::First => text.into_bytes(),
        ScramMessage::Final => sasl_final(&text),
    });
    let answered = server_answering([cleartext.clone()]);
    let settled = server_answering([ok()]);
    let states: [State<'_>; 7] = [
        ("authentication", &expects_authentication, &["R Ok", "R Cleartext", "R Md5", "R Sasl", "v"]),
        ("authentication, negotiated", &negotiated, &["R Ok", "R Cleartext", "R Md5", "R Sasl"]),
        ("SCRAM, first", &scram_first, &[]),
        ("SCRAM, final", &scram_final, &[]),
        ("Ok after SCRAM", &scram_ok, &["R Ok"]),
        ("Ok after an answer", &answered, &["R Ok"]),
        ("ReadyForQuery", &settled, &["S", "K", "Z"]),
    ];
    for (state, peer, legal) in states {
        for (name, bytes) in every_message() {
            let mut talk = Talk::new(&newest(), peer());
            assert_eq!(talk.go_on(usize::MAX), End::Waiting, "{state}");
            talk.say(&bytes);
            let end = talk.go_on(usize::MAX);
            match end {
                End::Failed(HandshakeError::Server(_)) => assert_eq!(name, "E", "{state}"),
                End::Failed(HandshakeError::Unsupported(_)) => {
                    assert!(state.starts_with("authentication") && name.starts_with("R "), "{state}: {name}");
                }
                // A message of the right kind at the right point, whose content is wrong.
                End::Failed(HandshakeError::Scram(_)) => {
                    let its_own = if state == "SCRAM, first" { "R SaslContinue" } else { "R SaslFinal" };
                    assert!(state.starts_with("SCRAM") && name == its_own, "{state}: {name}");
                }
                End::Failed(HandshakeError::Refused(refused)) => {
                    assert_eq!((refused, name), (AuthRefused::Unproven, "R Ok"), "{state}");
                    assert!(state.starts_with("SCRAM"), "{state}");
                }
                End::Failed(HandshakeError::Negotiation(fault)) => {
                    let expected = (NegotiationFault::Repeated, "v", "authentication, negotiated");
                    assert_eq!((fault, name, state), expected);
                }
                End::Failed(HandshakeError::Unexpected { .. }) => {
                    assert!(!legal.contains(&name) && name != "N", "{state}: {name} is legal");
                }
                End::Waiting | End::Ready(..) => {
                    assert!(legal.contains(&name) || name == "N", "{state}: {name} was accepted");
                }
                other => panic!("{state}: {name}: {other:?}"),
            }
        }
    }
}

/// The state's name, a server that leads there, and the messages that are legal there.
type State<'a> = (&'a str, &'a dyn Fn() -> Peer, &'a [&'a str]);

/// A message of every kind; an `Authentication` of every kind.
fn every_message() -> Vec<(&'static str, Vec<u8>)> {
    let request = authentication;
    let empty_row = b"D\0\0\0\x06\0\0".to_vec();
    let no_columns = b"T\0\0\0\x06\0\0".to_vec();
    let copy = |tag| [&[tag][..], b"\0\0\0\x07\0\0\0"].concat();
    let bare = |tag| [&[tag][..], b"\0\0\0\x04"].concat();
    Vec::from([
        ("R Ok", ok()),
        ("R KerberosV5", request(Authentication::KerberosV5)),
        ("R Cleartext", request(Authentication::CleartextPassword)),
        ("R Crypt", request(Authentication::CryptPassword { salt: [1; 2] })),
        ("R Md5", request(Authentication::Md5Password { salt: [1; 4] })),
        ("R Scm", request(Authentication::ScmCredential)),
        ("R Gss", request(Authentication::Gss)),
        ("R GssContinue", request(Authentication::GssContinue { data: b"x" })),
        ("R Sspi", request(Authentication::Sspi)),
        ("R Sasl", sasl(&["SCRAM-SHA-256"])),
        ("R SaslContinue", request(Authentication::SaslContinue { data: b"x" })),
        ("R SaslFinal", request(Authentication::SaslFinal { data: b"x" })),
        ("v", negotiate(ProtocolVersion::V3_0, &[])),
        ("E", error("57P03", "starting up")),
        ("N", notice("hello")),
        ("S", status("a", "b")),
        ("K", key(b"1234")),
        ("Z", idle()),
        ("A", b"A\0\0\0\x0b\0\0\0\x01c\0\0".to_vec()),
        ("C", message(&BackendMessage::CommandComplete { tag: b"SELECT 1" })),
        ("D", empty_row),
        ("T", no_columns),
        ("I", bare(b'I')),
        ("W", copy(b'W')),
        ("G", copy(b'G')),
        ("H", copy(b'H')),
        ("d", message(&BackendMessage::CopyData(CopyData { data: b"x" }))),
        ("c", bare(b'c')),
        ("1", bare(b'1')),
        ("2", bare(b'2')),
        ("3", bare(b'3')),
        ("n", bare(b'n')),
        ("s", bare(b's')),
        ("t", b"t\0\0\0\x06\0\0".to_vec()),
        ("V", b"V\0\0\0\x08\xff\xff\xff\xff".to_vec()),
    ])
}

#[test]
fn tls_begins_only_after_a_bare_consent() {
    let reply = |encryption, bytes: &[u8]| {
        let config = HandshakeConfig { encryption, ..config() };
        let mut talk = Talk::new(&config, server_answering([bytes.to_vec()])());
        let end = talk.go_on(usize::MAX);
        assert_eq!(talk.sent[0], [0, 0, 0, 8, 4, 210, 22, 47], "SSLRequest comes first, and alone");
        (end, talk)
    };
    for encryption in [Encryption::Tls, Encryption::TlsIfOffered] {
        let (end, mut talk) = reply(encryption, b"S");
        assert_eq!(end, End::Tls);
        assert_eq!(talk.sent.len(), 1, "nothing in clear but the request");
        let mut out = Vec::new();
        talk.handshake.tls_ready(Some(&[7; 32]), &mut out).unwrap();
        talk.send(&mut out);
        assert!(matches!(
            FrontendFraming::STARTUP.parse_startup(&talk.sent[1]),
            Ok(StartupPacket::Startup(_))
        ));
        talk.say(&[ok(), settings()].concat());
        assert!(matches!(talk.go_on(1), End::Ready(..)));

        // Bytes that an attacker adds after the consent are not taken for the server's.
        for injected in [&b"SE"[..], &[b"S", &ok()[..], &settings()].concat()] {
            assert_eq!(reply(encryption, injected).0, End::Failed(HandshakeError::BytesBeforeTls));
        }
        // An error that anyone on the network could have sent is not shown either.
        let forged = error("28000", "send your password to evil.example");
        assert_eq!(reply(encryption, &forged).0, End::Failed(HandshakeError::ErrorInsteadOfTls));
        let gss = End::Failed(HandshakeError::Unexpected {
            expected: "an answer to SSLRequest",
            got: "one to GSSENCRequest",
        });
        assert_eq!(reply(encryption, b"G").0, gss);
        assert!(matches!(reply(encryption, b"R").0, End::Failed(HandshakeError::Decode(_))));
    }
    assert_eq!(reply(Encryption::Tls, b"N").0, End::Failed(HandshakeError::TlsRefused));
    let (end, talk) = reply(Encryption::TlsIfOffered, b"N");
    assert_eq!((end, talk.sent.len()), (End::Waiting, 2), "continues in the clear, as the mode allows");
}

#[test]
fn direct_tls_sends_nothing_in_clear() {
    let config = HandshakeConfig { encryption: Encryption::DirectTls, ..config() };
    let mut talk = Talk::new(&config, server_answering([])());
    assert_eq!((talk.go_on(1), talk.sent.len()), (End::Tls, 0));
    // A driver that forgets TLS gets no further.
    assert!(matches!(talk.go_on(1), End::Failed(HandshakeError::Unexpected { got: "none", .. })));
}

#[test]
fn tls_that_was_not_asked_for_is_an_error() {
    let mut talk = Talk::new(&config(), server_answering([])());
    assert_eq!(talk.go_on(1), End::Waiting);
    assert!(talk.handshake.tls_ready(None, &mut Vec::new()).is_err());
}

#[test]
fn an_error_is_the_answer_to_every_further_call() {
    let mut talk = Talk::new(&config(), server_answering([error("28000", "no")])());
    let end = talk.go_on(usize::MAX);
    assert!(matches!(&end, End::Failed(HandshakeError::Server(error)) if error.sqlstate.as_str() == "28000"));
    for input in [&b""[..], &ok(), b"Z"] {
        talk.input = input.to_vec();
        assert_eq!(talk.go_on(usize::MAX), end);
    }
    let End::Failed(error) = end else { unreachable!() };
    assert_eq!(talk.handshake.tls_ready(None, &mut Vec::new()), Err(error));
}

#[test]
fn after_the_end_there_is_nothing_more() {
    let mut talk = Talk::new(&config(), server_answering([[ok(), settings(), b"left".to_vec()].concat()])());
    assert!(matches!(talk.go_on(usize::MAX), End::Ready(..)));
    assert_eq!(talk.input, b"left", "it belongs to the session");
    talk.input.clear();
    assert_eq!(talk.go_on(usize::MAX), End::Failed(HandshakeError::Finished));
}

#[test]
fn a_server_that_breaks_scram_is_not_believed() {
    let first = |change: fn(&str) -> String| {
        failure(
            &config(),
            scram(move |word, text| match word {
                ScramMessage::First => change(&text).into_bytes(),
                ScramMessage::Final => unreachable!("the client does not get that far"),
            }),
        )
    };
    let last = |change: fn(&str) -> Vec<u8>| {
        let peer = scram(move |word, text| match word {
            ScramMessage::First => text.into_bytes(),
            ScramMessage::Final => change(&text),
        });
        failure(&config(), peer)
    };
    let scram_error = HandshakeError::Scram;
    let own_nonce_only = |text: &str| {
        let (nonce, rest) = text.split_once(',').expect("r=...,s=...");
        // 18 bytes are 24 characters of base64.
        format!("{},{rest}", &nonce[..2 + 24])
    };
    assert_eq!(first(own_nonce_only), scram_error(ScramError::NonceNotExtended));
    assert_eq!(first(|text| text.replacen("r=", "r=x", 1)), scram_error(ScramError::NonceMismatch));
    assert_eq!(first(|_| "r=".into()), scram_error(ScramError::NonceMismatch));
    let range = ScramError::IterationsOutOfRange { max: AuthPolicy::DEFAULT_MAX_SCRAM_ITERATIONS };
    assert_eq!(first(|text| text.replace(",i=16", ",i=0")), scram_error(range));
    assert_eq!(first(|text| text.replace(",i=16", ",i=1000001")), scram_error(range));
    assert_eq!(first(|text| format!("m=x,{text}")), scram_error(ScramError::MandatoryExtension));
    let changes: [fn(&str) -> String; 7] = [
        |_| String::new(),
        |text| text.replace(",i=16", ""),
        |text| text.replace(",i=16", ",i=-1"),
        |text| text.replace(",i=16", ",i=99999999999999999999"),
        |text| text.replace(",s=", ",s=!"),
        |text| text.replace(",s=", ",x="),
        |text| text.replace(",s=", "\0,s="),
    ];
    for change in changes {
        let error = first(change);
        let expected = matches!(
            error,
            HandshakeError::Scram(ScramError::Malformed { .. } | ScramError::IterationsOutOfRange { .. })
        );
        assert!(expected, "{error:?}");
    }

    assert_eq!(last(|_| ok()), HandshakeError::Refused(AuthRefused::Unproven));
    assert_eq!(last(|_| [ok(), settings()].concat()), HandshakeError::Refused(AuthRefused::Unproven));
    let other_signature = |text: &str| {
        let other = if text.as_bytes()[5] == b'A' { "B" } else { "A" };
        [sasl_final(&format!("{}{other}{}", &text[..5], &text[6..])), ok()].concat()
    };
    assert_eq!(last(other_signature), scram_error(ScramError::WrongServerSignature));
    let refused = ScramError::Server(ScramServerError::InvalidProof);
    assert_eq!(last(|_| sasl_final("e=invalid-proof")), scram_error(refused));
    for text in ["", "v=", "v=AAAA", "x=1"] {
        let peer = scram(move |word, honest| match word {
            ScramMessage::First => honest.into_bytes(),
            ScramMessage::Final => sasl_final(text),
        });
        assert!(matches!(failure(&config(), peer), HandshakeError::Scram(_)), "{text:?}");
    }
    // A second message of SCRAM is not accepted.
    let unexpected = last(|text| [sasl_final(text), sasl_final(text)].concat());
    assert!(matches!(unexpected, HandshakeError::Unexpected { .. }));
    let unexpected = last(|text| [sasl_final(text), sasl(&["SCRAM-SHA-256"])].concat());
    assert!(matches!(unexpected, HandshakeError::Unexpected { .. }));
}

#[test]
fn a_wrong_password_gives_the_servers_message() {
    let config = HandshakeConfig { password: Some(b"other".to_vec().into()), ..config() };
    let error = failure(&config, scram(honest));
    assert_eq!(error.to_string(), "FATAL: no such password (SQLSTATE 28P01)");
}

#[test]
fn without_a_password_none_is_sent() {
    let requests = [
        authentication(Authentication::CleartextPassword),
        authentication(Authentication::Md5Password { salt: *b"salt" }),
        sasl(&["SCRAM-SHA-256"]),
    ];
    for password in [None, Some(Vec::new().into())] {
        let config = HandshakeConfig { password, ..config() };
        for request in &requests {
            let (end, sent) = outcome(&config, server_answering([request.clone()]));
            assert_eq!((end, sent.len()), (End::Failed(HandshakeError::NoPassword), 1));
        }
    }
}

#[test]
fn the_policy_is_asked_before_anything_is_sent() {
    let policy = |allowed: &str, channel_binding| AuthPolicy {
        allowed: allowed.parse().unwrap(),
        channel_binding,
        ..AuthPolicy::default()
    };
    let only_scram = policy("scram-sha-256", ChannelBindingMode::Prefer);
    let bound = policy("", ChannelBindingMode::Require);
    let no_password = policy("!password", ChannelBindingMode::Prefer);
    let (cleartext, plain_scram) =
        (authentication(Authentication::CleartextPassword), sasl(&["SCRAM-SHA-256"]));
    for (policy, request) in [
        (only_scram, cleartext.clone()),
        (only_scram, [ok(), settings()].concat()),
        (no_password, cleartext),
        (bound, plain_scram),
        (AuthPolicy::default(), sasl(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])),
        (AuthPolicy::default(), sasl(&["SCRAM-SHA-1", "OAUTHBEARER"])),
    ] {
        let (end, sent) = outcome(&HandshakeConfig { policy, ..config() }, server_answering([request]));
        assert!(matches!(end, End::Failed(HandshakeError::Refused(_))), "{end:?}");
        assert_eq!(sent.len(), 1, "only the startup packet");
    }
}

#[test]
fn a_negotiation_leads_to_the_version_that_both_support() {
    let peer = || {
        let key_of_3_0 = [ok(), key(b"1234"), idle()].concat();
        server_answering([[negotiate(ProtocolVersion::V3_0, &[]), key_of_3_0].concat()])
    };
    let (End::Ready(session, _), _) = outcome(&newest(), peer()) else { panic!() };
    assert!(session.contains(&format!("version: {:?}", ProtocolVersion::V3_0)), "{session}");

    // A long key is legal in 3.2, and an error in 3.0.
    let long_key = || [ok(), key(&[7; 32]), idle()].concat();
    assert!(
        matches!(outcome(&newest(), server_answering([long_key()])).0, End::Ready(_, Some(key)) if key == [7; 32])
    );
    let negotiated = server_answering([[negotiate(ProtocolVersion::V3_0, &[]), long_key()].concat()]);
    for error in [failure(&newest(), negotiated), failure(&config(), server_answering([long_key()]))] {
        assert_eq!(error, HandshakeError::Unexpected { expected: "ReadyForQuery", got: "BackendKeyData" });
    }
}

#[test]
fn an_invalid_negotiation_is_refused() {
    let version = ProtocolVersion::new;
    let only_newest = HandshakeConfig { min_version: ProtocolVersion::V3_2, ..newest() };
    let cases = [
        (newest(), negotiate(version(3, 3), &[]), NegotiationFault::NewerThanRequested),
        (newest(), negotiate(version(4, 0), &[]), NegotiationFault::NewerThanRequested),
        (config(), negotiate(version(3, 2), &[]), NegotiationFault::NewerThanRequested),
        (newest(), negotiate(version(3, 1), &[]), NegotiationFault::NoSuchVersion),
        (newest(), negotiate(version(2, 0), &[]), NegotiationFault::NoSuchVersion),
        (newest(), negotiate(version(3, 0), &["_pq_.x"]), NegotiationFault::UnknownOption),
        (newest(), negotiate(version(3, 2), &[]), NegotiationFault::NothingNegotiated),
        (config(), negotiate(version(3, 0), &[]), NegotiationFault::NothingNegotiated),
        (only_newest, negotiate(version(3, 0), &[]), NegotiationFault::TooOld),
        (newest(), negotiate(version(3, 0), &[]).repeat(2), NegotiationFault::Repeated),
    ];
    for (config, bytes, fault) in cases {
        assert_eq!(failure(&config, server_answering([bytes])), HandshakeError::Negotiation(fault));
    }
}

#[test]
fn a_server_that_never_stops_sending_is_cut_off() {
    let after_ok = |bytes: Vec<u8>| failure_of([ok(), bytes].concat());
    let settings = |count: usize| (0..count).flat_map(|i| status(&format!("p{i}"), "x")).collect::<Vec<_>>();
    assert_eq!(after_ok(settings(10_000)), HandshakeError::TooMuchData, "names");
    assert_eq!(after_ok(status("p", &"x".repeat(20_000))), HandshakeError::TooMuchData, "text");
    assert_eq!(
        after_ok(status("p", "x").repeat(2_000_000)),
        HandshakeError::TooMuchData,
        "one setting for ever"
    );
    // A trigger on login may say more than a server before the login.
    assert_eq!(after_ok(notice(&"x".repeat(1000)).repeat(20_000)), HandshakeError::TooMuchData);
    assert_eq!(failure_of(notice(&"x".repeat(1000)).repeat(2000)), HandshakeError::TooMuchData);

    // The client keeps only 16 of 500 notices, and does not fail.
    let chatty = [notice("hello").repeat(500), ok(), idle()].concat();
    let (End::Ready(session, _), _) = outcome(&config(), server_answering([chatty])) else { panic!() };
    assert_eq!(session.matches("message: \"hello\"").count(), 16);
}

/// The error of a handshake in which the server sends these bytes at once; split only where that is quick.
fn failure_of(bytes: Vec<u8>) -> HandshakeError {
    let mut talk = Talk::new(&config(), server_answering([bytes])());
    match talk.go_on(64 * 1024) {
        End::Failed(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_length_is_refused_before_its_bytes_arrive() {
    let head = |tag: u8, length: i32| [&[tag][..], &length.to_be_bytes()].concat();
    for (tag, limit) in [(b'R', 2_000), (b'v', 2_000), (b'S', 30_000), (b'K', 30_000), (b'N', 30_000)] {
        for length in [limit + 1, i32::MAX, 3, 0, -1, i32::MIN] {
            let error = failure(&config(), server_answering([head(tag, length)]));
            let HandshakeError::Decode(error) = error else { panic!("{error:?}") };
            let refused = matches!(error.kind, DecodeErrorKind::TooLong { .. } | DecodeErrorKind::Length(_));
            assert!(refused && error.field == "length", "{error}");
        }
    }
    assert!(matches!(
        failure(&config(), server_answering([b"HTTP/1.1 400 Bad Request".to_vec()])),
        HandshakeError::OtherService { what: "an HTTP server", .. }
    ));
    assert!(matches!(
        failure(&config(), server_answering([b"\x15\x03\x01\0\x02\x02\x28".to_vec()])),
        HandshakeError::OtherService { what: "a server that takes TLS only", .. }
    ));
}

#[test]
fn a_message_has_to_be_what_its_type_says() {
    let one_more = |bytes: Vec<u8>| {
        let mut longer = bytes;
        longer.push(0);
        let length = i32::try_from(longer.len() - 1).unwrap().to_be_bytes();
        longer[1..5].copy_from_slice(&length);
        longer
    };
    for bytes in [one_more(ok()), one_more(negotiate(ProtocolVersion::V3_0, &[]))] {
        assert!(matches!(failure(&newest(), server_answering([bytes])), HandshakeError::Decode(_)));
    }
    for bytes in [one_more(status("a", "b")), one_more(idle()), b"Z\0\0\0\x05X".to_vec()] {
        let error = failure(&newest(), server_answering([[ok(), bytes].concat()]));
        assert!(matches!(error, HandshakeError::Decode(_)), "{error:?}");
    }
}

#[test]
fn an_error_ends_the_handshake_at_any_point() {
    let told = error("57P03", "the database system is starting up");
    let HandshakeError::Server(server) = failure(&config(), server_answering([told.clone()])) else {
        panic!()
    };
    assert_eq!((server.sqlstate.to_string(), server.severity.ends_connection()), ("57P03".into(), true));
    let after_ok = [ok(), status("a", "b"), told].concat();
    assert_eq!(failure(&config(), server_answering([after_ok])), HandshakeError::Server(server));

    let old = b"Efork failed: no memory\n\0".to_vec();
    let expected = HandshakeError::OldStyleServer("fork failed: no memory".into());
    assert_eq!(failure(&config(), server_answering([old])), expected);
    // The error has no length, so its text has to end.
    let endless = [b"Eendless ".to_vec(), b"x".repeat(40_000)].concat();
    assert!(matches!(failure_of(endless), HandshakeError::Decode(_)));
}

#[test]
fn settings_that_are_not_utf_8_are_kept_readable() {
    let broken = message(&BackendMessage::ParameterStatus(ParameterStatus { name: b"a", value: b"\xff" }));
    let (End::Ready(session, _), _) = outcome(&config(), server_answering([[ok(), broken, idle()].concat()]))
    else {
        panic!()
    };
    assert!(session.contains(r#""a": "\\xff""#), "{session}");
}

#[test]
fn no_debug_output_has_the_password() {
    let config = config();
    let mut talk = Talk::new(&config, scram(honest)());
    let mut shown = format!("{config:?}");
    while talk.receive(9).is_none() {
        shown += &format!("{:?}", talk.handshake);
    }
    assert!(shown.contains("ExpectScramServerFinal") && shown.contains("ExpectReadyForQuery"), "{shown}");
    let password = core::str::from_utf8(PASSWORD).expect("UTF-8");
    assert!(!shown.contains(password) && !shown.contains(&format!("{PASSWORD:?}")), "{shown}");
}
