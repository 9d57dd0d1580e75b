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
        let Some(&[tag, ref length @ ..]) = input.first_chunk::<HEADER>() else {
            return self.need_header(input);
        };
        let name = BackendMessage::name_of(tag)?;
        if self.is_old_style_error(input) {
            return old_style_error(input, self.limits.startup_error);
        }
        let total = total(name, *length, self.limits.backend(tag, self.ready))?;
        Ok(frame(total.saturating_add(1), input.len()))
    }

    #[cold]
    fn need_header(&self, input: &[u8]) -> Result<Need, DecodeError> {
        // Garbage is refused at its first byte: it may never send five.
        if let Some(&tag) = input.first() {
            BackendMessage::name_of(tag)?;
        }
        if self.is_old_style_error(input) {
            return old_style_error(input, self.limits.startup_error);
        }
        Ok(Need::More(HEADER.saturating_sub(input.len())))
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
        let (tag, body) = split(frame, BackendMessage::name_of)?;
        BackendMessage::parse(tag, body)
    }

    /// libpq's rule: a length that no error has is no length but text. The first byte of a text tells.
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
                // The least length that can still come of these bytes.
                let (b, c) = (rest.first().copied().unwrap_or(0), rest.get(1).copied().unwrap_or(0));
                u32::from_be_bytes([a, b, c, 0]) > self.limits.startup_error
            }
            [] => false,
        }
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

/// The bytes that a length word tells, itself included.
#[inline]
fn total(name: &'static str, length: [u8; 4], limit: u32) -> Result<usize, DecodeError> {
    let signed = i32::from_be_bytes(length);
    let kind = match (u32::try_from(signed), usize::try_from(signed)) {
        (Ok(length), Ok(total)) if length >= 4 => {
            if length <= limit {
                return Ok(total);
            }
            DecodeErrorKind::TooLong { length: u64::from(length), limit: u64::from(limit) }
        }
        _ => DecodeErrorKind::Length(i64::from(signed)),
    };
    Err(DecodeError::new(name, "length", kind))
}

/// What a buffer of `have` bytes needs for a frame of `total`.
#[inline]
const fn frame(total: usize, have: usize) -> Need {
    match total.checked_sub(have) {
        None | Some(0) => Need::Frame(total),
        Some(missing) => Need::More(missing),
    }
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
    match disagreement(*length, body.len()) {
        None => Ok((tag, body)),
        Some(kind) => Err(DecodeError::new(name_of(tag)?, "length", kind)),
    }
}

/// How a length word differs from the bytes that follow it.
#[inline]
fn disagreement(length: [u8; 4], body: usize) -> Option<DecodeErrorKind> {
    let told = i64::from(i32::from_be_bytes(length));
    let have = i64::try_from(body).unwrap_or(i64::MAX).saturating_add(4);
    match have.checked_sub(told) {
        Some(0) => None,
        _ if told < 4 => Some(DecodeErrorKind::Length(told)),
        Some(left) if left > 0 => {
            Some(DecodeErrorKind::Trailing(usize::try_from(left).unwrap_or(usize::MAX)))
        }
        _ => Some(DecodeErrorKind::Truncated),
    }
}

/// Frames from a client: what a server, a proxy or a test double reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrontendFraming {
    /// The largest messages that are accepted.
    pub limits: Limits,
    /// Whether authentication is over. Before, lengths are kept short.
    pub ready: bool,
}

impl FrontendFraming {
    /// The rules while a connection is being made, with the default limits.
    pub const STARTUP: Self = Self { limits: Limits::DEFAULT, ready: false };
    /// The rules after authentication, with the default limits.
    pub const READY: Self = Self { limits: Limits::DEFAULT, ready: true };

    /// What stands at the beginning of `input` where a connection begins: a packet without a type byte.
    ///
    /// # Errors
    /// If the length is impossible or above the limit.
    pub fn need_startup(&self, input: &[u8]) -> Result<Need, DecodeError> {
        let Some(length) = input.first_chunk::<4>() else {
            return Ok(Need::More(4_usize.saturating_sub(input.len())));
        };
        match total("StartupMessage", *length, self.limits.startup)? {
            // Not even a version.
            total @ ..8 => {
                let kind = DecodeErrorKind::Length(i64::try_from(total).unwrap_or(i64::MAX));
                Err(DecodeError::new("StartupMessage", "length", kind))
            }
            total => Ok(frame(total, input.len())),
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
        match disagreement(*length, body.len()) {
            None => StartupPacket::parse(body),
            Some(kind) => Err(DecodeError::new("StartupMessage", "length", kind)),
        }
    }

    /// What stands at the beginning of `input` after the start of the connection.
    ///
    /// # Errors
    /// If the type byte is none of a client's or the length is impossible or above the limit.
    #[inline]
    pub fn need(&self, input: &[u8]) -> Result<Need, DecodeError> {
        let Some(&[tag, ref length @ ..]) = input.first_chunk::<HEADER>() else {
            if let Some(&tag) = input.first() {
                FrontendMessage::name_of(tag)?;
            }
            return Ok(Need::More(HEADER.saturating_sub(input.len())));
        };
        let name = FrontendMessage::name_of(tag)?;
        let total = total(name, *length, self.limits.frontend(tag, self.ready))?;
        Ok(frame(total.saturating_add(1), input.len()))
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
