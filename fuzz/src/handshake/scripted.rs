//! The peer that knows the protocol, the password and what the client must make of each word it says.

use tapster::auth::{Mechanism, Nonce, ScramServer, ScramServerFinal};
use tapster::codec::{AuthenticationResponse, FrontendFraming, FrontendMessage, Need, ProtocolVersion};
use tapster::session::Encryption;

use super::talk::{End, Setting, Talk, VERIFIER};

pub fn check(setting: Setting, script: &[u8]) {
    let mut server = Server { setting, scram: Scram::None };
    let mut talk = Talk::new(setting);
    let mut client = Client::new(setting);
    let mut end = talk.hear(b"", 1);
    if matches!(setting.encryption, Encryption::Tls | Encryption::TlsIfOffered) {
        end = talk.hear(b"S", 1);
    }
    for pair in script.chunks_exact(2) {
        assert!(matches!(end, End::Waiting), "the client does not wait for the next word");
        let word = Word::spelt(pair[0], pair[1]);
        let said = server.say(word);
        let heard = talk.sent.len();
        // The words are split on their way, each somewhere else.
        end = talk.hear(&said, 1 + usize::from(pair[0] ^ pair[1]));
        server.hear(&talk.sent[heard..]);
        client.expect(word, &end);
        if !matches!(end, End::Waiting) {
            return;
        }
    }
}

/// A word of the server.
#[derive(Clone, Copy, Debug)]
enum Word {
    Ok,
    Cleartext,
    Md5,
    /// One of [`OFFERS`].
    Sasl(usize),
    /// What SCRAM has to say next.
    Scram,
    /// The same with one bit changed.
    Tampered(u8),
    /// A method that no client of today has.
    Kerberos,
    Negotiate(ProtocolVersion, bool),
    Parameter(u8),
    /// A key of so many bytes.
    Key(u8),
    Ready(u8),
    Notice,
    Error,
    /// A message of another time.
    Other(u8),
}

const OFFERS: [&[u8]; 4] = [
    b"SCRAM-SHA-256\0\0",
    b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
    b"SCRAM-SHA-256-PLUS\0\0",
    b"OAUTHBEARER\0\0",
];

impl Word {
    fn spelt(code: u8, detail: u8) -> Self {
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

/// The side that knows the password.
struct Server {
    setting: Setting,
    scram: Scram,
}

enum Scram {
    None,
    Offered {
        plus: bool,
    },
    /// `server-first-message`, and what waits for the answer to it.
    First(Vec<u8>, Box<ScramServerFinal>),
    /// `server-final-message`.
    Final(Vec<u8>),
}

impl Server {
    /// The bytes of a word, written without the help of what is tested.
    fn say(&mut self, word: Word) -> Vec<u8> {
        let request = |code: u32, data: &[u8]| frame(b'R', &[&code.to_be_bytes(), data].concat());
        match word {
            Word::Ok => request(0, b""),
            Word::Cleartext => request(3, b""),
            Word::Md5 => request(5, b"salt"),
            Word::Kerberos => request(2, b""),
            Word::Sasl(offer) => {
                self.scram = Scram::Offered { plus: matches!(offer, 1 | 2) };
                request(10, OFFERS[offer])
            }
            Word::Scram => self.scram(0, 0),
            // Every third byte: a word has about a hundred.
            Word::Tampered(detail) => self.scram(3 * usize::from(detail >> 3), 1 << (detail & 7)),
            Word::Negotiate(version, unknown_option) => {
                let options: &[u8] = if unknown_option { b"\0\0\0\x01_pq_.x\0" } else { &[0; 4] };
                frame(b'v', &[&version.code().to_be_bytes(), options].concat())
            }
            Word::Parameter(detail) => frame(b'S', &[b'a' + detail % 16, 0, b'0' + detail / 16, 0]),
            Word::Key(len) => frame(b'K', &vec![7; 4 + usize::from(len)]),
            Word::Ready(status) => frame(b'Z', &[status]),
            Word::Notice => frame(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mwell\0\0"),
            Word::Error => frame(b'E', b"SFATAL\0VFATAL\0C28P01\0Mno\0\0"),
            Word::Other(tag) => frame(tag, b""),
        }
    }

    fn scram(&self, at: usize, change: u8) -> Vec<u8> {
        let (code, word): (u32, &[u8]) = match &self.scram {
            Scram::None | Scram::Offered { .. } => (11, b"r=somebody,s=AAAA,i=1"),
            Scram::First(word, _) => (11, word),
            Scram::Final(word) => (12, word),
        };
        let mut word = word.to_vec();
        let at = at % word.len();
        word[at] ^= change;
        frame(b'R', &[&code.to_be_bytes(), &word[..]].concat())
    }

    /// What the client says is right, or the server would not go on.
    fn hear(&mut self, flight: &[u8]) {
        let framing = FrontendFraming::STARTUP;
        if flight.is_empty() {
            return;
        }
        assert_eq!(framing.need(flight), Ok(Need::Frame(flight.len())), "one answer and no more");
        let Ok(FrontendMessage::AuthenticationResponse { body }) = framing.parse(flight) else {
            panic!("no answer to a request: {flight:?}")
        };
        let mut word = Vec::new();
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
                let server = server.client_first(mechanism, data, &mut word).expect("a first message");
                Scram::First(word, Box::new(server))
            }
            // A client that heard something else has signed something else.
            Scram::First(_, server) => match server.client_final(body, &mut word) {
                Ok(()) => Scram::Final(word),
                Err(_) => Scram::Final(b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_vec()),
            },
            Scram::Final(_) => panic!("the client says more than SCRAM has"),
        };
    }
}

/// The client as the documentation has it.
struct Client {
    setting: Setting,
    state: State,
    version: ProtocolVersion,
    /// Somebody has changed a word of SCRAM on its way.
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

    /// Holds what became of the client against what had to.
    fn expect(&mut self, word: Word, end: &End) {
        self.tampered |= matches!(word, Word::Tampered(_));
        let next = self.after(word);
        match end {
            // A changed nonce, salt or count may be noticed at once or by the server's proof at last.
            End::Failed(_) if self.tampered => {}
            End::Failed(error) => assert_eq!(next, None, "{word:?} in {:?}: {error}", self.state),
            End::Waiting => {
                assert!(next.is_some_and(|next| next != State::Ready), "{word:?} in {:?}", self.state);
            }
            End::Ready(session) => {
                assert!(!self.tampered, "a session out of a forged exchange");
                assert_eq!(next, Some(State::Ready), "{word:?} in {:?}", self.state);
                assert_eq!(session.version, self.version);
            }
        }
        self.state = next.unwrap_or(self.state);
    }

    /// Where a word leads; `None` where the client has to give up.
    fn after(&mut self, word: Word) -> Option<State> {
        let setting = self.setting;
        let may_answer = setting.has_secret && !setting.scram_only;
        match (self.state, word) {
            (state, Word::Notice) => Some(state),
            (State::Asks { .. }, Word::Ok) if !setting.scram_only => Some(State::Settles),
            (State::Asks { .. }, Word::Cleartext | Word::Md5) if may_answer => Some(State::Answered),
            (State::Asks { .. }, Word::Sasl(offer)) if setting.has_secret => {
                let in_tls = setting.encryption != Encryption::Plain;
                let usable = match offer {
                    0 => true,
                    1 => in_tls,
                    2 => in_tls && setting.certificate_hash().is_some(),
                    _ => false,
                };
                usable.then_some(State::ScramFirst)
            }
            (State::Asks { negotiated: false }, Word::Negotiate(ProtocolVersion::V3_0, false))
                if setting.version > ProtocolVersion::V3_0 =>
            {
                self.version = ProtocolVersion::V3_0;
                Some(State::Asks { negotiated: true })
            }
            (State::ScramFirst, Word::Scram | Word::Tampered(_)) => Some(State::ScramFinal),
            (State::ScramFinal, Word::Scram) if !self.tampered => Some(State::Answered),
            (State::Answered, Word::Ok) => Some(State::Settles),
            (State::Settles, Word::Parameter(_)) => Some(State::Settles),
            (State::Settles, Word::Key(len)) => {
                let fits = len == 4 || (len > 4 && self.version > ProtocolVersion::V3_0);
                fits.then_some(State::Settles)
            }
            (State::Settles, Word::Ready(b'I' | b'T' | b'E')) => Some(State::Ready),
            _ => None,
        }
    }
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short body");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}
