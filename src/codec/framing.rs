//! Where one message ends and the next begins.

use super::error::{DecodeError, DecodeErrorKind};
use super::limits::Limits;
use super::{BackendMessage, FrontendMessage, StartupPacket};

/// What stands at the beginning of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Need {
    /// A whole frame of this many bytes, type and length included.
    Frame(usize),
    /// At least this many more bytes are needed before there can be an answer. Not an error, and never 0.
    More(usize),
}

/// Bytes of a type and a length.
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
    /// Whether authentication is over. Before, lengths are kept short, and an error may come in the old
    /// form without a length (servers before 14, or a refused protocol version).
    pub ready: bool,
}

impl BackendFraming {
    /// The rules while a connection is being made, with the default limits.
    pub const STARTUP: Self = Self { limits: Limits::DEFAULT, ready: false };
    /// The rules after authentication, with the default limits.
    pub const READY: Self = Self { limits: Limits::DEFAULT, ready: true };

    /// What stands at the beginning of `input`.
    ///
    /// # Errors
    /// If the type byte is none of a server's or the length is impossible or above the limit. The
    /// connection is out of step then and has to be closed.
    #[inline]
    pub fn need(&self, input: &[u8]) -> Result<Need, DecodeError> {
        let Some(([tag, length @ ..], _)) = input.split_first_chunk::<HEADER>() else {
            // Garbage is refused at its first byte: it may never send five.
            if let Some(&tag) = input.first() {
                BackendMessage::name_of(tag)?;
            }
            return Ok(Need::More(HEADER.saturating_sub(input.len())));
        };
        let name = BackendMessage::name_of(*tag)?;
        let length = i32::from_be_bytes(*length);
        if self.is_old_style_error(*tag, length) {
            return old_style_error(input, self.limits.startup_error);
        }
        frame(name, length, self.limits.backend(*tag, self.ready), input.len())
    }

    /// Reads one frame, as [`need`](Self::need) measured it.
    ///
    /// # Errors
    /// If `frame` is not exactly one well-formed message.
    #[inline]
    pub fn parse<'a>(&self, frame: &'a [u8]) -> Result<BackendMessage<'a>, DecodeError> {
        let Some(([tag, length @ ..], body)) = frame.split_first_chunk::<HEADER>() else {
            return Err(DecodeError::new("message", "header", DecodeErrorKind::Truncated));
        };
        if self.is_old_style_error(*tag, i32::from_be_bytes(*length)) {
            return BackendMessage::parse_old_style_error(frame);
        }
        BackendMessage::parse(*tag, body)
    }

    /// libpq's rule: a length no error has is no length but text.
    fn is_old_style_error(&self, tag: u8, length: i32) -> bool {
        let plausible = u32::try_from(length).is_ok_and(|n| n >= 8 && n <= self.limits.startup_error);
        !self.ready && tag == b'E' && !plausible
    }
}

fn old_style_error(input: &[u8], limit: u32) -> Result<Need, DecodeError> {
    let limit_bytes = usize::try_from(limit).unwrap_or(usize::MAX);
    match input.iter().take(limit_bytes).position(|&b| b == 0) {
        Some(end) => Ok(Need::Frame(end.saturating_add(1))),
        None if input.len() < limit_bytes => Ok(Need::More(1)),
        None => {
            let kind = DecodeErrorKind::TooLong { length: input.len() as u64, limit: u64::from(limit) };
            Err(DecodeError::new("ErrorResponse", "text", kind))
        }
    }
}

/// The frame with this length word at the start of a buffer that holds `have` bytes.
#[inline]
fn frame(name: &'static str, length: i32, limit: u32, have: usize) -> Result<Need, DecodeError> {
    let length = match u32::try_from(length) {
        Ok(length) if length >= 4 => length,
        _ => return Err(DecodeError::new(name, "length", DecodeErrorKind::Length(i64::from(length)))),
    };
    if length > limit {
        let kind = DecodeErrorKind::TooLong { length: u64::from(length), limit: u64::from(limit) };
        return Err(DecodeError::new(name, "length", kind));
    }
    let total = usize::try_from(length).ok().and_then(|n| n.checked_add(1));
    let Some(total) = total else {
        return Err(DecodeError::new(name, "length", DecodeErrorKind::Length(i64::from(length))));
    };
    match total.checked_sub(have) {
        Some(missing) if missing > 0 => Ok(Need::More(missing)),
        _ => Ok(Need::Frame(total)),
    }
}

/// Frames from a client: what a server, a proxy or a test double reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrontendFraming {
    /// The largest messages that are accepted.
    pub limits: Limits,
}

impl FrontendFraming {
    /// What stands at the beginning of `input` where a connection begins: a packet without a type byte.
    ///
    /// # Errors
    /// If the length is impossible or above the limit.
    pub fn need_startup(&self, input: &[u8]) -> Result<Need, DecodeError> {
        let Some(length) = input.first_chunk::<4>() else {
            return Ok(Need::More(4_usize.saturating_sub(input.len())));
        };
        let length = i32::from_be_bytes(*length);
        if length < 8 {
            let kind = DecodeErrorKind::Length(i64::from(length));
            return Err(DecodeError::new("StartupMessage", "length", kind));
        }
        // The packet has no type byte, so one byte less than a frame of the same length word.
        let with_type = frame("StartupMessage", length, self.limits.startup, input.len().saturating_add(1))?;
        Ok(match with_type {
            Need::Frame(total) => Need::Frame(total.saturating_sub(1)),
            more @ Need::More(_) => more,
        })
    }

    /// Reads one packet that begins a connection, as [`need_startup`](Self::need_startup) measured it.
    ///
    /// # Errors
    /// If `frame` is not exactly one well-formed packet.
    pub fn parse_startup<'a>(&self, frame: &'a [u8]) -> Result<StartupPacket<'a>, DecodeError> {
        match frame.split_first_chunk::<4>() {
            Some((_, body)) => StartupPacket::parse(body),
            None => Err(DecodeError::new("StartupMessage", "length", DecodeErrorKind::Truncated)),
        }
    }

    /// What stands at the beginning of `input` after the start of the connection.
    ///
    /// # Errors
    /// If the type byte is none of a client's or the length is impossible or above the limit.
    #[inline]
    pub fn need(&self, input: &[u8]) -> Result<Need, DecodeError> {
        let Some(([tag, length @ ..], _)) = input.split_first_chunk::<HEADER>() else {
            if let Some(&tag) = input.first() {
                FrontendMessage::name_of(tag)?;
            }
            return Ok(Need::More(HEADER.saturating_sub(input.len())));
        };
        let name = FrontendMessage::name_of(*tag)?;
        frame(name, i32::from_be_bytes(*length), self.limits.frontend(*tag), input.len())
    }

    /// Reads one frame, as [`need`](Self::need) measured it.
    ///
    /// # Errors
    /// If `frame` is not exactly one well-formed message.
    #[inline]
    pub fn parse<'a>(&self, frame: &'a [u8]) -> Result<FrontendMessage<'a>, DecodeError> {
        match frame.split_first_chunk::<HEADER>() {
            Some(([tag, ..], body)) => FrontendMessage::parse(*tag, body),
            None => Err(DecodeError::new("message", "header", DecodeErrorKind::Truncated)),
        }
    }
}
