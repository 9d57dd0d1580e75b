use super::error::{DecodeError, DecodeErrorKind};

/// The type of a message from a server: the first byte of its frame.
///
/// It identifies a message whose body is not needed, or has not arrived completely yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BackendTag(u8);

macro_rules! backend_tags {
    ($($tag:ident = $byte:literal, $name:literal;)*) => {
        impl BackendTag {
            $(pub(crate) const $tag: Self = Self($byte);)*

            /// The name of the message in PostgreSQL's documentation, if a server has one of this type.
            #[inline]
            pub(crate) const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$tag => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

backend_tags! {
    COPY_DATA = b'd', "CopyData";
    DATA_ROW = b'D', "DataRow";
    AUTHENTICATION = b'R', "Authentication";
    BACKEND_KEY_DATA = b'K', "BackendKeyData";
    BIND_COMPLETE = b'2', "BindComplete";
    CLOSE_COMPLETE = b'3', "CloseComplete";
    COMMAND_COMPLETE = b'C', "CommandComplete";
    COPY_BOTH_RESPONSE = b'W', "CopyBothResponse";
    COPY_DONE = b'c', "CopyDone";
    COPY_IN_RESPONSE = b'G', "CopyInResponse";
    COPY_OUT_RESPONSE = b'H', "CopyOutResponse";
    EMPTY_QUERY_RESPONSE = b'I', "EmptyQueryResponse";
    ERROR_RESPONSE = b'E', "ErrorResponse";
    FUNCTION_CALL_RESPONSE = b'V', "FunctionCallResponse";
    NEGOTIATE_PROTOCOL_VERSION = b'v', "NegotiateProtocolVersion";
    NO_DATA = b'n', "NoData";
    NOTICE_RESPONSE = b'N', "NoticeResponse";
    NOTIFICATION_RESPONSE = b'A', "NotificationResponse";
    PARAMETER_DESCRIPTION = b't', "ParameterDescription";
    PARAMETER_STATUS = b'S', "ParameterStatus";
    PARSE_COMPLETE = b'1', "ParseComplete";
    PORTAL_SUSPENDED = b's', "PortalSuspended";
    READY_FOR_QUERY = b'Z', "ReadyForQuery";
    ROW_DESCRIPTION = b'T', "RowDescription";
}

impl BackendTag {
    /// The type of the frame that begins with these bytes. Without any bytes, a type that no message has.
    #[cfg(feature = "client")]
    #[inline]
    pub(crate) const fn of_frame(frame: &[u8]) -> Self {
        match frame.first() {
            Some(&byte) => Self(byte),
            None => Self(0),
        }
    }

    /// The name of the message whose type is `byte`.
    ///
    /// # Errors
    /// If no message of a server has this type.
    #[inline]
    pub(crate) const fn name_of(byte: u8) -> Result<&'static str, DecodeError> {
        match Self(byte).name() {
            Some(name) => Ok(name),
            None => Err(DecodeError::new("BackendMessage", "type", DecodeErrorKind::UnknownType(byte))),
        }
    }
}
