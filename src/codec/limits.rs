/// The largest messages that are accepted, by phase and type, in bytes of the length word (which counts
/// itself but not the type byte).
///
/// The defaults are libpq's rules where libpq has any, and PostgreSQL's own limits elsewhere. A test harness
/// or a small device sets its own. Nothing is ever allocated from a length that a peer claims, so a limit
/// bounds the buffer that collects one message.
///
/// ```
/// use tapster::codec::Limits;
/// // For a device that reads WAL in messages of at most 128 KiB, and no other long messages.
/// let limits = Limits { copy_data: 131_072 + 32, data_row: 8_192, ..Limits::DEFAULT };
/// # assert_ne!(limits, Limits::default());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A packet that begins a connection (`StartupMessage`, `CancelRequest`). The server takes 10 000 bytes
    /// after the length word.
    pub startup: u32,
    /// `Authentication` and `NegotiateProtocolVersion` while a connection is being made.
    pub negotiation: u32,
    /// `ErrorResponse` and `NoticeResponse` while a connection is being made.
    pub startup_error: u32,
    /// A client's answer to a request for authentication. The server takes 65 535 bytes.
    pub authentication_response: u32,
    /// Every type of a server that is not named elsewhere.
    pub other: u32,
    /// Every type of a client that is not named elsewhere, and before authentication all but the answer to
    /// a request for it.
    pub command: u32,
    /// `CopyData` in both directions.
    pub copy_data: u32,
    /// `DataRow`.
    pub data_row: u32,
    /// `RowDescription`.
    pub row_description: u32,
    /// `ErrorResponse` and `NoticeResponse` once the connection is made.
    pub error: u32,
    /// `NotificationResponse`.
    pub notification: u32,
    /// `FunctionCallResponse`.
    pub function_result: u32,
    /// `Query`, `Parse`, `Bind` and `FunctionCall` from a client.
    pub statement: u32,
}

/// No server has reason to exceed these after the login. An error may repeat a statement as its context; a row has at
/// most 1,664 columns, whose names have at most 63 bytes; the text of a notification is shorter than a page.
const LONGEST_ERROR: u32 = 16 << 20;
const LONGEST_ROW_DESCRIPTION: u32 = 1 << 20;
const LONGEST_NOTIFICATION: u32 = 64 << 10;

/// The largest message of a PostgreSQL server: 1 GiB less two bytes.
const LARGEST: u32 = 0x3fff_fffe;

impl Limits {
    /// libpq's rules and the server's own limits.
    pub const DEFAULT: Self = Self {
        startup: 10_004,
        negotiation: 2_000,
        startup_error: 30_000,
        authentication_response: 65_535,
        other: 30_000,
        command: 10_000,
        copy_data: LARGEST,
        data_row: LARGEST,
        row_description: LONGEST_ROW_DESCRIPTION,
        error: LONGEST_ERROR,
        notification: LONGEST_NOTIFICATION,
        function_result: LARGEST,
        statement: LARGEST,
    };

    /// The limit for a message from a server, if one has this type; `ready` once authentication is over.
    #[inline]
    pub(crate) const fn backend(&self, tag: u8, ready: bool) -> Option<u32> {
        // The two types that come by the million are first; the rest is out of line.
        match tag {
            b'd' if ready => Some(self.copy_data),
            b'D' if ready => Some(self.data_row),
            _ => self.backend_other(tag, ready),
        }
    }

    #[inline(never)]
    const fn backend_other(&self, tag: u8, ready: bool) -> Option<u32> {
        Some(match tag {
            b'T' if ready => self.row_description,
            b'A' if ready => self.notification,
            b'V' if ready => self.function_result,
            b'E' | b'N' if ready => self.error,
            b'E' | b'N' => self.startup_error,
            b'R' | b'v' => self.negotiation,
            b'1' | b'2' | b'3' | b'A' | b'C' | b'D' | b'G' | b'H' | b'I' | b'K' | b'S' | b'T' | b'V'
            | b'W' | b'Z' | b'c' | b'd' | b'n' | b's' | b't' => self.other,
            _ => return None,
        })
    }

    /// The limit for a message from a client, if one has this type; `ready` once authentication is over.
    #[inline]
    pub(crate) const fn frontend(&self, tag: u8, ready: bool) -> Option<u32> {
        Some(match tag {
            b'd' if ready => self.copy_data,
            b'Q' | b'P' | b'B' | b'F' if ready => self.statement,
            b'p' => self.authentication_response,
            b'B' | b'C' | b'D' | b'E' | b'F' | b'H' | b'P' | b'Q' | b'S' | b'X' | b'c' | b'd' | b'f' => {
                self.command
            }
            _ => return None,
        })
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{BackendTag, FrontendMessage};

    #[test]
    fn every_known_type_has_a_limit_and_no_other() {
        for tag in 0..=u8::MAX {
            for ready in [false, true] {
                let limits = Limits::DEFAULT;
                assert_eq!(limits.backend(tag, ready).is_some(), BackendTag::name_of(tag).is_ok());
                assert_eq!(limits.frontend(tag, ready).is_some(), FrontendMessage::name_of(tag).is_ok());
            }
        }
    }
}
