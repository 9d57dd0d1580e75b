//! The peer that knows the protocol and the password. A model of the client says how the client must react to
//! each of its messages.

use tapster::auth::{Mechanism, Nonce, ScramServer, ScramServerFinal};
use tapster::codec::{AuthenticationResponse, FrontendFraming, FrontendMessage, Need, ProtocolVersion};
use tapster::session::Encryption;

use super::talk::{End, Setting, Talk, VERIFIER};

pub fn check(setting: Setting, script: &[u8]) {
    let mut server = Server { setting, scram: Scram::None };
    let mut talk = Talk::new(setting);
    let mut client = Client::new(setting);
    let mut end = talk.receive(b"", 1);
    if matches!(setting.encryption, Encryption::Tls | Encryption::TlsIfOffered) {
        end = talk.receive(b"S", 1);
    }
    for pair in script.chunks_exact(2) {
        assert!(matches!(end, End::Waiting), "the client does not wait for the next message");
        let message = Message::from_bytes(pair[0], pair[1]);
        let encoded = server.encode(message);
        let already_sent = talk.sent.len();
        // Every message is split at another place.
        end = talk.receive(&encoded, 1 + usize::from(pair[0] ^ pair[1]));
        server.receive(&talk.sent[already_sent..]);
        client.check(message, &end);
        if !matches!(end, End::Waiting) {
            return;
        }
    }
}

/// A message of the server.
#[derive(Clone, Copy, Debug)]
enum Message {
    Ok,
    Cleartext,
    Md5,
    /// One of [`OFFERS`].
    Sasl(usize),
    /// The next message of SCRAM.
    Scram,
    /// The next message of SCRAM with one bit changed.
    Tampered(u8),
    /// A method that no client supports today.
    Kerberos,
    Negotiate(ProtocolVersion, bool),
    Parameter(u8),
    /// A cancel key; the number of bytes beyond four.
    Key(u8),
    Ready(u8),
    Notice,
    Error,
    /// A message that does not belong into a handshake.
    Other(u8),
}

const OFFERS: [&[u8]; 4] = [
    b"SCRAM-SHA-256\0\0",
    b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
    b"SCRAM-SHA-256-PLUS\0\0",
    b"OAUTHBEARER\0\0",
];

impl Message {
    fn from_bytes(code: u8, detail: u8) -> Self {
        let pick = |among: usize| usize::from(detail) % among;
        match code % 16 {
            0 => Self::Ok,
            1 => Self::Cleartext,
            2 => Self::Md5,
            3 => Self::Sasl(pick(OFFERS.len())),
            4 | 5 => Self::Scram,
            6 => Self::Tampered(detail),
            7 => Self::Kerberos,
            8 => {
                let (major, minor) = [(3, 0), (3, 1), (3, 2), (3, 9), (2, 0), (4, 0)][pick(6)];
                Self::Negotiate(ProtocolVersion::new(major, minor), detail & 0x80 != 0)
            }
            9 | 10 => Self::Parameter(detail),
            11 => Self::Key(detail),
            12 => Self::Ready(b"ITE?"[pick(4)]),
            13 => Self::Notice,
            14 => Self::Error,
            _ => Self::Other(b"23CWcGHIDVnAt1sT"[pick(16)]),
        }
    }
}

/// The server's side, which knows the password.
struct Server {
    setting: Setting,
    scram: Scram,
}

enum Scram {
    None,
    Offered {
        plus: bool,
    },
    /// `server-first-message`, and the state that waits for the answer to it.
    First(Vec<u8>, Box<ScramServerFinal>),
    /// `server-final-message`.
    Final(Vec<u8>),
}

impl Server {
    /// The bytes of a message, written without the encoder that is tested.
    fn encode(&mut self, message: Message) -> Vec<u8> {
        let request = |code: u32, data: &[u8]| frame(b'R', &[&code.to_be_bytes(), data].concat());
        match message {
            Message::Ok => request(0, b""),
            Message::Cleartext => request(3, b""),
            Message::Md5 => request(5, b"salt"),
            Message::Kerberos => request(2, b""),
            Message::Sasl(offer) => {
                self.scram = Scram::Offered { plus: matches!(offer, 1 | 2) };
                request(10, OFFERS[offer])
            }
            Message::Scram => self.scram(0, 0),
            // Every third byte: a message has about a hundred.
            Message::Tampered(detail) => self.scram(3 * usize::from(detail >> 3), 1 << (detail & 7)),
            Message::Negotiate(version, unknown_option) => {
                let options: &[u8] = if unknown_option { b"\0\0\0\x01_pq_.x\0" } else { &[0; 4] };
                frame(b'v', &[&version.code().to_be_bytes(), options].concat())
            }
            Message::Parameter(detail) => frame(b'S', &[b'a' + detail % 16, 0, b'0' + detail / 16, 0]),
            Message::Key(len) => frame(b'K', &vec![7; 4 + usize::from(len)]),
            Message::Ready(status) => frame(b'Z', &[status]),
            Message::Notice => frame(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mwell\0\0"),
            Message::Error => frame(b'E', b"SFATAL\0VFATAL\0C28P01\0Mno\0\0"),
            Message::Other(tag) => frame(tag, b""),
        }
    }

    fn scram(&self, at: usize, change: u8) -> Vec<u8> {
        let (code, message): (u32, &[u8]) = match &self.scram {
            Scram::None | Scram::Offered { .. } => (11, b"r=somebody,s=AAAA,i=1"),
            Scram::First(message, _) => (11, message),
            Scram::Final(message) => (12, message),
        };
        let mut message = message.to_vec();
        let at = at % message.len();
        message[at] ^= change;
        frame(b'R', &[&code.to_be_bytes(), &message[..]].concat())
    }

    /// Checks that the client's answer is one that the server can continue with.
    fn receive(&mut self, flight: &[u8]) {
        let framing = FrontendFraming::STARTUP;
        if flight.is_empty() {
            return;
        }
        assert_eq!(framing.need(flight), Ok(Need::Frame(flight.len())), "one answer and no more");
        let Ok(FrontendMessage::AuthenticationResponse { body }) = framing.parse(flight) else {
            panic!("no answer to a request: {flight:?}")
        };
        let mut message = Vec::new();
        self.scram = match core::mem::replace(&mut self.scram, Scram::None) {
            Scram::None => return,
            Scram::Offered { plus } => {
                let Ok(AuthenticationResponse::SaslInitial { mechanism, data: Some(data) }) =
                    AuthenticationResponse::parse_sasl_initial(body)
                else {
                    panic!("no SASLInitialResponse: {body:?}")
                };
                let mechanism = match mechanism {
                    b"SCRAM-SHA-256" => Mechanism::ScramSha256,
                    b"SCRAM-SHA-256-PLUS" => Mechanism::ScramSha256Plus,
                    other => panic!("no mechanism that was offered: {other:?}"),
                };
                let end_point = self.setting.certificate_hash().filter(|_| plus);
                let nonce = Nonce::from_random([9; 18]);
                let server = ScramServer::new(VERIFIER.clone(), nonce, end_point);
                let server = server.client_first(mechanism, data, &mut message).expect("a first message");
                Scram::First(message, Box::new(server))
            }
            // A client that received a changed message has signed that one.
            Scram::First(_, server) => match server.client_final(body, &mut message) {
                Ok(()) => Scram::Final(message),
                Err(_) => Scram::Final(b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_vec()),
            },
            Scram::Final(_) => panic!("the client sends more messages than SCRAM has"),
        };
    }
}

/// A model of the client, by PostgreSQL's documentation.
struct Client {
    setting: Setting,
    state: State,
    version: ProtocolVersion,
    /// Whether a message of SCRAM was changed on its way.
    tampered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Asks { negotiated: bool },
    ScramFirst,
    ScramFinal,
    Answered,
    Settles,
    Ready,
}

impl Client {
    fn new(setting: Setting) -> Self {
        let state = State::Asks { negotiated: false };
        Self { setting, state, version: setting.version, tampered: false }
    }

    /// Compares the state that the client has reached with the model's.
    fn check(&mut self, message: Message, end: &End) {
        self.tampered |= matches!(message, Message::Tampered(_));
        let next = self.after(message);
        match end {
            // The client may notice a changed nonce, salt or count at once, or only by the server's proof at
            // the end.
            End::Failed(_) if self.tampered => {}
            End::Failed(error) => assert_eq!(next, None, "{message:?} in {:?}: {error}", self.state),
            End::Waiting => {
                assert!(next.is_some_and(|next| next != State::Ready), "{message:?} in {:?}", self.state);
            }
            End::Ready(session) => {
                assert!(!self.tampered, "a session out of a forged exchange");
                assert_eq!(next, Some(State::Ready), "{message:?} in {:?}", self.state);
                assert_eq!(session.version, self.version);
            }
        }
        self.state = next.unwrap_or(self.state);
    }

    /// The state after a message; `None` where the client has to give up.
    fn after(&mut self, message: Message) -> Option<State> {
        let setting = self.setting;
        let may_answer = setting.has_secret && !setting.scram_only;
        match (self.state, message) {
            (state, Message::Notice) => Some(state),
            (State::Asks { .. }, Message::Ok) if !setting.scram_only => Some(State::Settles),
            (State::Asks { .. }, Message::Cleartext | Message::Md5) if may_answer => Some(State::Answered),
            (State::Asks { .. }, Message::Sasl(offer)) if setting.has_secret => {
                let in_tls = setting.encryption != Encryption::Plain;
                let usable = match offer {
                    0 => true,
                    1 => in_tls,
                    2 => in_tls && setting.certificate_hash().is_some(),
                    _ => false,
                };
                usable.then_some(State::ScramFirst)
            }
            (State::Asks { negotiated: false }, Message::Negotiate(ProtocolVersion::V3_0, false))
                if setting.version > ProtocolVersion::V3_0 =>
            {
                self.version = ProtocolVersion::V3_0;
                Some(State::Asks { negotiated: true })
            }
            (State::ScramFirst, Message::Scram | Message::Tampered(_)) => Some(State::ScramFinal),
            (State::ScramFinal, Message::Scram) if !self.tampered => Some(State::Answered),
            (State::Answered, Message::Ok) => Some(State::Settles),
            (State::Settles, Message::Parameter(_)) => Some(State::Settles),
            (State::Settles, Message::Key(len)) => {
                let fits = len == 4 || (len > 4 && self.version > ProtocolVersion::V3_0);
                fits.then_some(State::Settles)
            }
            (State::Settles, Message::Ready(b'I' | b'T' | b'E')) => Some(State::Ready),
            _ => None,
        }
    }
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short body");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}
