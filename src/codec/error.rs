use core::fmt;

/// A peer sent bytes that are not the message they claim to be.
///
/// The error names the message and the field, never the value of a field. It is `Copy`: a decoder that fails
/// allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The message, in PostgreSQL's words, such as `DataRow`.
    pub message: &'static str,
    /// The field of the message, such as `value`.
    pub field: &'static str,
    /// What is wrong with it.
    pub kind: DecodeErrorKind,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The message ends before the field does.
    Truncated,
    /// This many bytes are left over after the last field.
    Trailing(usize),
    /// An impossible length: negative, or too small to include itself.
    Length(i64),
    /// A length above the limit for this message in this phase.
    TooLong {
        /// The length that the peer announced, in bytes.
        length: u64,
        /// The largest length that is accepted.
        limit: u64,
    },
    /// An impossible count.
    Count(i64),
    /// A string without the NUL that ends it.
    Unterminated,
    /// An empty name where the protocol does not allow one.
    Empty,
    /// A value outside those that the protocol defines.
    Value(i64),
    /// A type byte that no message of this direction has.
    UnknownType(u8),
}

impl DecodeError {
    pub(crate) const fn new(message: &'static str, field: &'static str, kind: DecodeErrorKind) -> Self {
        Self { message, field, kind }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}: ", self.message, self.field)?;
        match self.kind {
            DecodeErrorKind::Truncated => f.write_str("the message ends too early"),
            DecodeErrorKind::Trailing(bytes) => write!(f, "{bytes} bytes left over"),
            DecodeErrorKind::Length(length) => write!(f, "{length} is not a length"),
            DecodeErrorKind::TooLong { length, limit } => {
                write!(f, "{length} bytes, more than the limit of {limit}")
            }
            DecodeErrorKind::Count(count) => write!(f, "{count} is not a count"),
            DecodeErrorKind::Unterminated => f.write_str("the string does not end"),
            DecodeErrorKind::Empty => f.write_str("a name is empty"),
            DecodeErrorKind::Value(value) => write!(f, "{value} is not a value the protocol defines"),
            DecodeErrorKind::UnknownType(tag) => write!(f, "unknown message type {:?}", char::from(tag)),
        }
    }
}

impl core::error::Error for DecodeError {}

/// A message that cannot be encoded.
///
/// The output is left as it was before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeError {
    /// The message, in PostgreSQL's words.
    pub message: &'static str,
    /// The field of the message.
    pub field: &'static str,
    /// What is wrong with it.
    pub kind: EncodeErrorKind,
}

/// Why a field cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeErrorKind {
    /// A string holds a NUL, which would end it.
    Nul,
    /// A string that may not be empty is empty: its NUL would end the list it is in.
    Empty,
    /// Fewer bytes than the protocol asks for.
    TooShort,
    /// More bytes than the protocol allows or a length of 32 bits can express.
    TooLong,
    /// More items than the count of the list can express.
    TooMany,
}

impl EncodeError {
    pub(crate) const fn new(message: &'static str, field: &'static str, kind: EncodeErrorKind) -> Self {
        Self { message, field, kind }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.kind {
            EncodeErrorKind::Nul => "holds a NUL byte",
            EncodeErrorKind::Empty => "is empty",
            EncodeErrorKind::TooShort => "is too short",
            EncodeErrorKind::TooLong => "is too long",
            EncodeErrorKind::TooMany => "has too many items",
        };
        write!(f, "{}.{} {why}", self.message, self.field)
    }
}

impl core::error::Error for EncodeError {}
