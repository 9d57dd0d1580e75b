use core::fmt;
use std::borrow::ToOwned;
use std::format;
use std::string::String;
use std::vec::Vec;

use super::script::{Script, Step};
use crate::codec::{DecodeError, FrontendFraming, Need};

/// One connection that follows a [`Script`], without I/O.
///
/// The driver asks for the [`next_action`](Self::next_action), carries it out, and asks again. It passes the
/// client's bytes to [`receive`](Self::receive).
///
/// ```
/// use tapster::codec::FrontendMessage;
/// use tapster::test_server::{Action, Conversation, Script};
///
/// let script = Script::new().expect_query("SELECT 1").split(2).send_bytes(*b"abc").close();
/// let mut server = Conversation::new(script);
/// assert_eq!(server.next_action()?, Action::Read);
/// server.receive(b"Q\0\0\0\x0dSELECT 1\0");
/// assert_eq!(server.next_action()?, Action::Send(b"ab".to_vec()));
/// assert_eq!(server.next_action()?, Action::Send(b"c".to_vec()));
/// assert_eq!(server.next_action()?, Action::Close);
/// # Ok::<(), tapster::test_server::ScriptError>(())
/// ```
#[derive(Debug)]
pub struct Conversation {
    script: Script,
    /// The number of steps done, for errors.
    done: usize,
    input: Vec<u8>,
    output: Vec<u8>,
    pieces: Option<usize>,
    closed: bool,
}

/// The next action of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Send these bytes, alone in their packet.
    Send(Vec<u8>),
    /// Wait for bytes from the client.
    Read,
    /// Close the sending side.
    HalfClose,
    /// Read and ignore everything until the client closes the connection.
    Drain,
    /// Close the connection.
    Close,
}

impl Conversation {
    /// A conversation at the beginning of a script.
    pub const fn new(script: Script) -> Self {
        Self { script, done: 0, input: Vec::new(), output: Vec::new(), pieces: None, closed: false }
    }

    /// Takes bytes from the client.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Notes that the client has closed its side.
    pub const fn receive_end(&mut self) {
        self.closed = true;
    }

    /// The next action. `Drain` and `Close` are the last.
    ///
    /// # Errors
    /// If the client sent something other than the script expects. The error ends the conversation.
    pub fn next_action(&mut self) -> Result<Action, ScriptError> {
        loop {
            if !self.output.is_empty() {
                let len = self.pieces.unwrap_or(usize::MAX).min(self.output.len());
                return Ok(Action::Send(self.output.drain(..len).collect()));
            }
            let Some(mut step) = self.script.steps.pop_front() else { return Ok(Action::Drain) };
            let action = self.perform(&mut step)?;
            if action == Some(Action::Read) {
                self.script.steps.push_front(step);
                return Ok(Action::Read);
            }
            self.done += 1;
            if let Some(action) = action {
                return Ok(action);
            }
        }
    }

    /// Does one step, as far as that is possible without I/O. `Read` means that the step is not done yet.
    fn perform(&mut self, step: &mut Step) -> Result<Option<Action>, ScriptError> {
        match step {
            Step::Startup { what, accepts } => {
                let framing = FrontendFraming::STARTUP;
                let Some(len) = self.frame(what, framing.need_startup(&self.input))? else {
                    return Ok(Some(Action::Read));
                };
                let frame: Vec<_> = self.input.drain(..len).collect();
                let packet = framing.parse_startup(&frame).map_err(|error| self.undecodable(what, error))?;
                if !accepts(&packet, &mut self.output) {
                    return Err(self.error(what, format!("{packet:?}")));
                }
                Ok(None)
            }
            Step::Message { what, accepts, skips } => loop {
                let framing = FrontendFraming::READY;
                let Some(len) = self.frame(what, framing.need(&self.input))? else {
                    return Ok(Some(Action::Read));
                };
                let frame: Vec<_> = self.input.drain(..len).collect();
                let message = framing.parse(&frame).map_err(|error| self.undecodable(what, error))?;
                if accepts(&message, &mut self.output) {
                    return Ok(None);
                }
                if !*skips {
                    return Err(self.error(what, format!("{message:?}")));
                }
            },
            Step::Send(bytes) => {
                self.output.append(bytes);
                Ok(None)
            }
            Step::Pieces(pieces) => {
                self.pieces = *pieces;
                Ok(None)
            }
            Step::HalfClose => Ok(Some(Action::HalfClose)),
            Step::Silence => Ok(Some(self.last(Action::Drain))),
            Step::Close => Ok(Some(self.last(Action::Close))),
        }
    }

    /// The length of the frame that the input begins with, if the frame is complete.
    fn frame(
        &self,
        what: &'static str,
        need: Result<Need, DecodeError>,
    ) -> Result<Option<usize>, ScriptError> {
        match need {
            Ok(Need::Frame(len)) => Ok(Some(len)),
            Ok(Need::More(_)) if self.closed && self.input.is_empty() => {
                Err(self.error(what, "the end of the connection".to_owned()))
            }
            Ok(Need::More(_)) if self.closed => Err(self.error(
                what,
                format!("the end of the connection inside a message, after {} bytes", self.input.len()),
            )),
            Ok(Need::More(_)) => Ok(None),
            Err(error) => Err(self.undecodable(what, error)),
        }
    }

    fn last(&mut self, action: Action) -> Action {
        self.script.steps.clear();
        action
    }

    fn undecodable(&self, expected: &'static str, error: DecodeError) -> ScriptError {
        self.error(expected, format!("bytes that are no message: {error}"))
    }

    const fn error(&self, expected: &'static str, got: String) -> ScriptError {
        ScriptError { step: self.done, expected, got }
    }
}

/// The client sent something other than the script expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// The step of the script, from 0.
    pub step: usize,
    /// What the step expects.
    pub expected: &'static str,
    /// What the client sent instead, without passwords.
    pub got: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} of the script expects {}, but got {}", self.step, self.expected, self.got)
    }
}

impl core::error::Error for ScriptError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{AuthenticationResponse, BackendMessage, FrontendMessage, StartupPacket};
    use std::vec;

    /// Plays a script against the bytes of a client, one by one, and returns all actions but the reads.
    fn played(script: Script, client: &[u8]) -> Result<Vec<Action>, ScriptError> {
        let (mut server, mut client, mut actions) = (Conversation::new(script), client.iter(), vec![]);
        loop {
            match server.next_action()? {
                Action::Read => match client.next() {
                    Some(&byte) => server.receive(&[byte]),
                    None => server.receive_end(),
                },
                last @ (Action::Close | Action::Drain) => {
                    actions.push(last);
                    return Ok(actions);
                }
                action => actions.push(action),
            }
        }
    }

    const STARTUP: &[u8] = b"\0\0\0\x09\0\x03\0\0\0";

    #[test]
    fn a_greeting_goes_from_authentication_to_ready_for_query() {
        use crate::codec::BackendFraming;
        let sent = played(Script::new().greet(), STARTUP).unwrap();
        let names: Vec<_> = sent
            .iter()
            .filter_map(|action| match action {
                Action::Send(bytes) => Some(BackendFraming::READY.parse(bytes).unwrap().name()),
                _ => None,
            })
            .collect();
        assert_eq!((names[0], names[names.len() - 1]), ("Authentication", "ReadyForQuery"));
        assert_eq!(sent.last(), Some(&Action::Drain));
    }

    #[test]
    fn each_step_of_a_script_becomes_its_actions() {
        let script = Script::new()
            .send_bytes(*b"abc")
            .dribble()
            .send_bytes(*b"de")
            .whole()
            .send(&BackendMessage::CopyDone)
            .half_close()
            .send_bytes(*b"after")
            .close()
            .send_bytes(*b"never");
        let send = |bytes: &[u8]| Action::Send(bytes.to_vec());
        let expected = [
            send(b"abc"),
            send(b"d"),
            send(b"e"),
            send(b"c\0\0\0\x04"),
            Action::HalfClose,
            send(b"after"),
            Action::Close,
        ];
        assert_eq!(played(script, b"").unwrap(), expected);
        let script = Script::new().silence().send_bytes(*b"never");
        assert_eq!(played(script, b"").unwrap(), [Action::Drain]);
    }

    #[test]
    fn an_answer_may_depend_on_the_message() {
        let script = Script::new().answer("a password", |message, out| match message {
            FrontendMessage::AuthenticationResponse { body } => {
                out.extend_from_slice(body);
                true
            }
            _ => false,
        });
        let mut client = Vec::new();
        AuthenticationResponse::Password { password: b"x" }.encode(&mut client).unwrap();
        assert_eq!(played(script, &client).unwrap(), [Action::Send(b"x\0".to_vec()), Action::Drain]);
    }

    #[test]
    fn an_error_names_what_the_client_sent_and_what_was_expected() {
        let script = || Script::new().greet().expect_query("SELECT 1");
        for (client, got) in [
            (&b""[..], "the end of the connection"),
            (b"Q\0\0", "the end of the connection inside a message, after 3 bytes"),
            (b"S\0\0\0\x04", "Sync"),
            (b"p\0\0\0\x08abc\0", "AuthenticationResponse(***)"),
            (b"?", "bytes that are no message: FrontendMessage.type: unknown message type '?'"),
        ] {
            let error = played(script(), &[STARTUP, client].concat()).unwrap_err();
            assert_eq!((error.step, error.expected, error.got.as_str()), (9, "SELECT 1", got));
        }
        let script = Script::new().expect_startup("SSLRequest", |p| *p == StartupPacket::SslRequest);
        let error = played(script, STARTUP).unwrap_err();
        assert!(
            std::string::ToString::to_string(&error)
                .starts_with("step 0 of the script expects SSLRequest, but got Startup")
        );
    }
}
