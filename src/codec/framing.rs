//! Where one message ends and the next begins.

use super::error::{DecodeError, DecodeErrorKind};
use super::limits::Limits;
use super::reader::find_nul;
use super::tag::BackendTag;
use super::{BackendMessage, FrontendMessage, StartupPacket};

/// The answer to the question whether a buffer begins with a whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Need {
    /// A whole frame of this many bytes, type and length included.
    Frame(usize),
    /// At least this many more bytes are needed before the frame can be whole or refused. Not an error, and
    /// never 0.
    More(usize),
}

/// The size of a type and a length, in bytes.
const HEADER: usize = 5;

/// Frames from a server, in the two phases that have different rules.
///
/// ```
/// use tapster::codec::{BackendFraming, BackendMessage, Need, TransactionStatus};
///
/// let framing = BackendFraming::READY;
/// assert_eq!(framing.need(b"Z\0\0")?, Need::More(2));
/// let input = b"Z\0\0\0\x05INext";
/// assert_eq!(framing.need(input)?, Need::Frame(6));
/// assert_eq!(framing.parse(&input[..6])?, BackendMessage::ReadyForQuery(TransactionStatus::Idle));
/// # Ok::<(), tapster::codec::DecodeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendFraming {
    /// The largest messages that are accepted.
    pub limits: Limits,
    /// Whether authentication is over. Before that, only short messages are accepted, and an error may have
    /// the old form without a length (servers before 14, or a refused protocol version).
    pub ready: bool,
}

impl BackendFraming {
    /// The rules while a connection is being made, with the default limits.
    pub const STARTUP: Self = Self { limits: Limits::DEFAULT, ready: false };
    /// The rules after authentication, with the default limits.
    pub const READY: Self = Self { limits: Limits::DEFAULT, ready: true };

    /// Measures the frame at the beginning of `input`.
    ///
    /// # Errors
    /// If no message of a server has this type byte, or if the length is impossible or above the limit. The
    /// connection is then out of step and has to be closed.
    #[inline]
    #[expect(clippy::needless_question_mark, reason = "without it, the answer goes through memory")]
    pub fn need(&self, input: &[u8]) -> Result<Need, DecodeError> {
        let Some(&[tag, ref length @ ..]) = input.first_chunk::<HEADER>() else {
            return Ok(self.need_header(input)?);
        };
        if self.is_old_style_error(input) {
            return old_style_error(input, self.limits.startup_error);
        }
        match checked_len(*length, self.limits.backend(tag, self.ready)) {
            Ok(total) => Ok(frame(total.saturating_add(1), input.len())),
            Err(kind) => Err(DecodeError::new(BackendTag::name_of(tag)?, "length", kind)),
        }
    }

    #[cold]
    fn need_header(&self, input: &[u8]) -> Result<Need, DecodeError> {
        // An unknown type is refused at its first byte: its sender may never send five.
        if let Some(&tag) = input.first() {
            BackendTag::name_of(tag)?;
        }
        if self.is_old_style_error(input) {
            return old_style_error(input, self.limits.startup_error);
        }
        // An error in the old form can be shorter than a header.
        let may_be_text = !self.ready && matches!(input.first(), None | Some(b'E'));
        Ok(Need::More(if may_be_text { 1 } else { HEADER.saturating_sub(input.len()) }))
    }

    /// Reads one frame, as [`need`](Self::need) measured it.
    ///
    /// # Errors
    /// If `frame` is not exactly one well-formed message.
    #[inline]
    pub fn parse<'a>(&self, frame: &'a [u8]) -> Result<BackendMessage<'a>, DecodeError> {
        if self.is_old_style_error(frame) {
            return BackendMessage::parse_old_style_error(frame);
        }
        let (tag, body) = split(frame, BackendTag::name_of)?;
        BackendMessage::parse(tag, body)
    }

    /// libpq's rule: a length word that no error can have is text. The first byte of a text is enough to
    /// decide.
    #[inline]
    fn is_old_style_error(&self, frame: &[u8]) -> bool {
        let [b'E', rest @ ..] = frame else { return false };
        if self.ready {
            return false;
        }
        match rest {
            &[a, b, c, d, ..] => {
                let length = u32::from_be_bytes([a, b, c, d]);
                length < 8 || length > self.limits.startup_error
            }
            &[a, ref rest @ ..] => {
                // The smallest length that can begin with these bytes.
                let (b, c) = (rest.first().copied().unwrap_or(0), rest.get(1).copied().unwrap_or(0));
                u32::from_be_bytes([a, b, c, 0]) > self.limits.startup_error
            }
            [] => false,
        }
    }
}

fn old_style_error(input: &[u8], limit: u32) -> Result<Need, DecodeError> {
    let limit_bytes = usize::try_from(limit).unwrap_or(usize::MAX);
    match find_nul(input.get(..limit_bytes).unwrap_or(input)) {
        Some(end) => Ok(Need::Frame(end.saturating_add(1))),
        None if input.len() < limit_bytes => Ok(Need::More(1)),
        None => {
            let kind = DecodeErrorKind::TooLong { length: input.len() as u64, limit: u64::from(limit) };
            Err(DecodeError::new("ErrorResponse", "text", kind))
        }
    }
}

/// The length that a length word gives, including itself. A type without a limit is unknown.
#[inline]
fn checked_len(length: [u8; 4], limit: Option<u32>) -> Result<usize, DecodeErrorKind> {
    let signed = i32::from_be_bytes(length);
    let limit = limit.unwrap_or(0);
    match (u32::try_from(signed), usize::try_from(signed)) {
        (Ok(length), Ok(total)) if length >= 4 && length <= limit => Ok(total),
        (Ok(length), _) if length >= 4 => {
            Err(DecodeErrorKind::TooLong { length: u64::from(length), limit: u64::from(limit) })
        }
        _ => Err(DecodeErrorKind::Length(i64::from(signed))),
    }
}

/// The answer for a buffer that has `have` of the `total` bytes of a frame.
#[inline]
const fn frame(total: usize, have: usize) -> Need {
    if have >= total { Need::Frame(total) } else { more(total, have) }
}

/// Out of line, so that the code for one answer does not slow down the other.
#[cold]
const fn more(total: usize, have: usize) -> Need {
    Need::More(total.saturating_sub(have))
}

/// The type and body of a whole frame, whose length word must agree with its size.
#[inline]
fn split(
    frame: &[u8],
    name_of: impl FnOnce(u8) -> Result<&'static str, DecodeError>,
) -> Result<(u8, &[u8]), DecodeError> {
    let Some((&[tag, ref length @ ..], body)) = frame.split_first_chunk::<HEADER>() else {
        return Err(DecodeError::new("message", "header", DecodeErrorKind::Truncated));
    };
    if agrees(*length, body.len()) {
        return Ok((tag, body));
    }
    Err(DecodeError::new(name_of(tag)?, "length", disagreement(*length, body.len())))
}

/// Whether a length word is the length of itself and the body.
#[inline]
fn agrees(length: [u8; 4], body: usize) -> bool {
    usize::try_from(i32::from_be_bytes(length)).is_ok_and(|claimed| claimed == body.saturating_add(4))
}

/// The error for a length word that differs from the bytes that follow it.
#[cold]
fn disagreement(length: [u8; 4], body: usize) -> DecodeErrorKind {
    let claimed = i32::from_be_bytes(length);
    match usize::try_from(claimed).ok().and_then(|claimed| claimed.checked_sub(4)) {
        None => DecodeErrorKind::Length(i64::from(claimed)),
        Some(claimed) if claimed < body => DecodeErrorKind::Trailing(body.saturating_sub(claimed)),
        Some(_) => DecodeErrorKind::Truncated,
    }
}

/// Frames from a client, as a server, a proxy or a test double reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrontendFraming {
    /// The largest messages that are accepted.
    pub limits: Limits,
    /// Whether authentication is over. Before that, only short messages are accepted.
    pub ready: bool,
}

impl FrontendFraming {
    /// The rules while a connection is being made, with the default limits.
    pub const STARTUP: Self = Self { limits: Limits::DEFAULT, ready: false };
    /// The rules after authentication, with the default limits.
    pub const READY: Self = Self { limits: Limits::DEFAULT, ready: true };

    /// Measures the packet without a type byte at the beginning of `input`, where a connection begins.
    ///
    /// # Errors
    /// If the length is impossible or above the limit.
    pub fn need_startup(&self, input: &[u8]) -> Result<Need, DecodeError> {
        let Some(length) = input.first_chunk::<4>() else {
            return Ok(Need::More(4_usize.saturating_sub(input.len())));
        };
        let total = match checked_len(*length, Some(self.limits.startup)) {
            // Too short for a version.
            Ok(total @ ..8) => Err(DecodeErrorKind::Length(i64::try_from(total).unwrap_or(i64::MAX))),
            total => total,
        };
        match total {
            Ok(total) => Ok(frame(total, input.len())),
            Err(kind) => Err(DecodeError::new("StartupMessage", "length", kind)),
        }
    }

    /// Reads one packet that begins a connection, as [`need_startup`](Self::need_startup) measured it.
    ///
    /// # Errors
    /// If `frame` is not exactly one well-formed packet.
    pub fn parse_startup<'a>(&self, frame: &'a [u8]) -> Result<StartupPacket<'a>, DecodeError> {
        let Some((length, body)) = frame.split_first_chunk::<4>() else {
            return Err(DecodeError::new("StartupMessage", "length", DecodeErrorKind::Truncated));
        };
        if agrees(*length, body.len()) {
            return StartupPacket::parse(body);
        }
        Err(DecodeError::new("StartupMessage", "length", disagreement(*length, body.len())))
    }

    /// Measures the frame at the beginning of `input`, once the connection has begun.
    ///
    /// # Errors
    /// If no message of a client has this type byte, or if the length is impossible or above the limit.
    #[inline]
    pub fn need(&self, input: &[u8]) -> Result<Need, DecodeError> {
        let Some(&[tag, ref length @ ..]) = input.first_chunk::<HEADER>() else {
            if let Some(&tag) = input.first() {
                FrontendMessage::name_of(tag)?;
            }
            return Ok(Need::More(HEADER.saturating_sub(input.len())));
        };
        match checked_len(*length, self.limits.frontend(tag, self.ready)) {
            Ok(total) => Ok(frame(total.saturating_add(1), input.len())),
            Err(kind) => Err(DecodeError::new(FrontendMessage::name_of(tag)?, "length", kind)),
        }
    }

    /// Reads one frame, as [`need`](Self::need) measured it.
    ///
    /// # Errors
    /// If `frame` is not exactly one well-formed message.
    #[inline]
    pub fn parse<'a>(&self, frame: &'a [u8]) -> Result<FrontendMessage<'a>, DecodeError> {
        let (tag, body) = split(frame, FrontendMessage::name_of)?;
        FrontendMessage::parse(tag, body)
    }
}

impl Default for FrontendFraming {
    fn default() -> Self {
        Self::READY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Need::{Frame, More};
    use alloc::vec::Vec;

    /// Every answer of `need` on the way to the first frame, while the input grows.
    fn answers(
        input: &[u8],
        need: impl Fn(&[u8]) -> Result<Need, DecodeError>,
    ) -> Result<usize, DecodeError> {
        let mut have = 0;
        loop {
            match need(&input[..have])? {
                Frame(len) => return Ok(len),
                More(0) => panic!("nothing is needed, and there is no answer"),
                More(more) => have += more,
            }
        }
    }

    #[test]
    fn a_frame_is_the_same_byte_by_byte_and_all_at_once() {
        type Case = (&'static [u8], fn(&[u8]) -> Result<Need, DecodeError>, usize);
        let cases: [Case; 6] = [
            (b"Z\0\0\0\x05IZ\0", |b| BackendFraming::READY.need(b), 6),
            (b"R\0\0\0\x08\0\0\0\0S\0", |b| BackendFraming::STARTUP.need(b), 9),
            (b"Ecould not fork\n\0next", |b| BackendFraming::STARTUP.need(b), 17),
            (b"E\n\0next", |b| BackendFraming::STARTUP.need(b), 3),
            (b"Q\0\0\0\x06;\0X\0", |b| FrontendFraming::READY.need(b), 7),
            (b"\0\0\0\x08\x04\xd2\x16/\0\0", |b| FrontendFraming::STARTUP.need_startup(b), 8),
        ];
        for (input, need, len) in cases {
            for have in 0..=input.len() {
                match need(&input[..have]).unwrap() {
                    Frame(len_found) => {
                        assert_eq!((len_found, have >= len), (len, true), "{}", input.escape_ascii())
                    }
                    More(more) => assert!(more > 0 && have + more <= len, "{}", input.escape_ascii()),
                }
            }
            assert_eq!(answers(input, need), Ok(len));
        }
    }

    /// A header with this length word, and zeros after it.
    fn header(tag: &[u8], length: i32) -> Vec<u8> {
        [tag, &length.to_be_bytes(), &[0; 8]].concat()
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for length in [0, 1, 2, 3, -1, -2, i32::MIN] {
            let kind = DecodeErrorKind::Length(i64::from(length));
            for tag in b"ZdDTEAV" {
                let error = BackendFraming::READY.need(&header(&[*tag], length)).unwrap_err();
                assert_eq!((error.field, error.kind), ("length", kind));
            }
            for tag in b"QdXp" {
                let error = FrontendFraming::READY.need(&header(&[*tag], length)).unwrap_err();
                assert_eq!((error.field, error.kind), ("length", kind));
            }
            assert_eq!(FrontendFraming::STARTUP.need_startup(&header(b"", length)).unwrap_err().kind, kind);
        }
        for length in 4..8 {
            assert!(FrontendFraming::STARTUP.need_startup(&header(b"", length)).is_err());
        }
    }

    #[test]
    fn the_limit_is_the_largest_length_that_is_taken() {
        let largest = 0x3fff_fffe;
        let (startup, ready) = (BackendFraming::STARTUP, BackendFraming::READY);
        for (framing, tag, limit) in [
            (startup, b'R', 2_000),
            (startup, b'v', 2_000),
            (startup, b'N', 30_000),
            (startup, b'S', 30_000),
            (startup, b'D', 30_000),
            (ready, b'R', 2_000),
            (ready, b'Z', 30_000),
            (ready, b't', 30_000),
            (ready, b'd', largest),
            (ready, b'D', largest),
            (ready, b'T', 1 << 20),
            (ready, b'E', 16 << 20),
            (ready, b'N', 16 << 20),
            (ready, b'A', 64 << 10),
            (ready, b'V', largest),
        ] {
            assert_eq!(framing.need(&header(&[tag], limit)), Ok(More(usize::try_from(limit).unwrap() - 12)));
            for length in [limit + 1, i32::MAX] {
                let error = framing.need(&header(&[tag], length)).unwrap_err();
                let (length, limit) = (length.try_into().unwrap(), limit.try_into().unwrap());
                assert_eq!(error.kind, DecodeErrorKind::TooLong { length, limit }, "{}", char::from(tag));
            }
        }
        let (startup, ready) = (FrontendFraming::STARTUP, FrontendFraming::READY);
        for (framing, tag, limit) in [
            (startup, b'p', 65_535),
            (startup, b'Q', 10_000),
            (startup, b'd', 10_000),
            (ready, b'S', 10_000),
            (ready, b'Q', largest),
            (ready, b'P', largest),
            (ready, b'B', largest),
            (ready, b'F', largest),
            (ready, b'd', largest),
        ] {
            assert_eq!(framing.need(&header(&[tag], limit)), Ok(More(usize::try_from(limit).unwrap() - 12)));
            assert!(framing.need(&header(&[tag], limit + 1)).is_err(), "{}", char::from(tag));
        }
        assert!(startup.need_startup(&header(b"", 10_004)).is_ok());
        assert!(startup.need_startup(&header(b"", 10_005)).is_err());
    }

    /// Each limit applies to its own types and to no other.
    #[test]
    fn each_limit_applies_to_its_own_types_only() {
        type Field = fn(&mut Limits) -> &mut u32;
        let own = |field: Field| {
            let mut limits = Limits::DEFAULT;
            *field(&mut limits) = 20;
            limits
        };
        let backend: [(Field, bool, u8, u8); 9] = [
            (|limits| &mut limits.negotiation, false, b'R', b'S'),
            (|limits| &mut limits.startup_error, false, b'N', b'R'),
            (|limits| &mut limits.other, true, b'C', b'D'),
            (|limits| &mut limits.copy_data, true, b'd', b'D'),
            (|limits| &mut limits.data_row, true, b'D', b'T'),
            (|limits| &mut limits.row_description, true, b'T', b'D'),
            (|limits| &mut limits.error, true, b'E', b'A'),
            (|limits| &mut limits.notification, true, b'A', b'N'),
            (|limits| &mut limits.function_result, true, b'V', b'D'),
        ];
        for (field, ready, tag, other) in backend {
            let framing = BackendFraming { limits: own(field), ready };
            assert_eq!(framing.need(&header(&[tag], 20)), Ok(More(8)));
            assert!(framing.need(&header(&[tag], 21)).is_err(), "{}", char::from(tag));
            assert_eq!(framing.need(&header(&[other], 21)), Ok(More(9)));
        }
        let frontend: [(Field, bool, u8, u8); 4] = [
            (|limits| &mut limits.authentication_response, false, b'p', b'X'),
            (|limits| &mut limits.command, true, b'X', b'Q'),
            (|limits| &mut limits.copy_data, true, b'd', b'Q'),
            (|limits| &mut limits.statement, true, b'B', b'd'),
        ];
        for (field, ready, tag, other) in frontend {
            let framing = FrontendFraming { limits: own(field), ready };
            assert_eq!(framing.need(&header(&[tag], 20)), Ok(More(8)));
            assert!(framing.need(&header(&[tag], 21)).is_err(), "{}", char::from(tag));
            assert_eq!(framing.need(&header(&[other], 21)), Ok(More(9)));
        }
        let framing = FrontendFraming { limits: own(|limits| &mut limits.startup), ready: false };
        assert!(framing.need_startup(&header(b"", 20)).is_ok());
        assert!(framing.need_startup(&header(b"", 21)).is_err());
    }

    #[test]
    fn unknown_types_are_refused_at_their_first_byte() {
        for tag in [0, b'?', 0x16] {
            let kind = DecodeErrorKind::UnknownType(tag);
            assert_eq!(BackendFraming::STARTUP.need(&[tag]).unwrap_err().kind, kind);
            assert_eq!(BackendFraming::READY.need(&[tag]).unwrap_err().kind, kind);
            assert_eq!(FrontendFraming::READY.need(&[tag]).unwrap_err().kind, kind);
        }
        // `H` is a type of both sides, but no message is that long.
        assert!(BackendFraming::READY.need(b"HTTP/").is_err());
        assert!(FrontendFraming::READY.need(b"HTTP/").is_err());
    }

    #[test]
    fn an_old_style_error_without_end_is_refused_at_the_limit() {
        let limits = Limits { startup_error: 100, ..Limits::DEFAULT };
        let framing = BackendFraming { limits, ready: false };
        let mut text = b"E".to_vec();
        text.resize(99, b'x');
        assert_eq!(framing.need(&text), Ok(More(1)));
        text.push(b'x');
        let kind = DecodeErrorKind::TooLong { length: 100, limit: 100 };
        assert_eq!(framing.need(&text), Err(DecodeError::new("ErrorResponse", "text", kind)));
        text[99] = 0;
        assert_eq!(framing.need(&text), Ok(Frame(100)));
    }

    #[test]
    fn only_the_start_has_old_style_errors() {
        assert_eq!(BackendFraming::STARTUP.need(b"EFATAL\0"), Ok(Frame(7)));
        assert!(BackendFraming::READY.need(b"EFATAL\0").is_err());
        // A length word that an error can have is a length.
        assert_eq!(BackendFraming::STARTUP.need(b"E\0\0\0\x08"), Ok(More(4)));
        assert_eq!(BackendFraming::STARTUP.need(b"E\0\0\x75\x30"), Ok(More(29_996)));
        assert_eq!(BackendFraming::STARTUP.need(b"E\0\0\x75\x31"), Ok(Frame(2)));
        assert_eq!(BackendFraming::STARTUP.need(b"E\0\0\0\x07"), Ok(Frame(2)));
    }

    #[test]
    fn a_length_that_disagrees_with_the_frame_is_refused() {
        let backend = |frame: &[u8]| BackendFraming::READY.parse(frame).unwrap_err().kind;
        assert_eq!(backend(b"d\0\0\0\x05ab"), DecodeErrorKind::Trailing(1));
        assert_eq!(backend(b"d\0\0\0\x07ab"), DecodeErrorKind::Truncated);
        assert_eq!(backend(b"d\0\0\0\x03"), DecodeErrorKind::Length(3));
        assert_eq!(backend(b"d\x80\0\0\0"), DecodeErrorKind::Length(i64::from(i32::MIN)));
        assert_eq!(backend(b"d\0\0\0"), DecodeErrorKind::Truncated);
        assert_eq!(backend(b"?\0\0\0\x05"), DecodeErrorKind::UnknownType(b'?'));
        let startup = |frame: &[u8]| FrontendFraming::STARTUP.parse_startup(frame).unwrap_err().kind;
        assert_eq!(startup(b"\0\0\0\x08\x04\xd2\x16/x"), DecodeErrorKind::Trailing(1));
        assert_eq!(startup(b"\0\0\0\x09\x04\xd2\x16/"), DecodeErrorKind::Truncated);
        assert_eq!(startup(b"\0\0\0"), DecodeErrorKind::Truncated);
    }
}
