//! Messages that own their bytes.

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;

use super::error::{DecodeError, EncodeError};
use super::{
    BackendFraming, BackendMessage, BaseBackupMessage, FrontendFraming, FrontendMessage, ReplicationMessage,
    StandbyMessage, StartupPacket,
};

/// A family of messages: all that one side may send in one part of the protocol. Sealed; the families are
/// those of the protocol.
pub trait Family: sealed::Family {}

pub(crate) mod sealed {
    use super::{DecodeError, EncodeError, Vec};

    pub trait Family {
        /// A message that borrows its bytes.
        type Message<'a>: Copy + core::fmt::Debug + PartialEq;

        /// How many bytes come before the body. If there are any, the last four are the length word.
        const HEADER: usize;

        fn parse(bytes: &[u8]) -> Result<Self::Message<'_>, DecodeError>;
        fn encode(message: &Self::Message<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError>;

        /// Appends a valid message.
        #[cfg(feature = "arbitrary")]
        fn arbitrary(u: &mut arbitrary::Unstructured<'_>, out: &mut Vec<u8>) -> arbitrary::Result<()>;
    }
}

macro_rules! families {
    ($($(#[$doc:meta])* $name:ident: $message:ident, $header:literal, $parse:expr, $arbitrary:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl Family for $name {}
        impl sealed::Family for $name {
            type Message<'a> = $message<'a>;
            const HEADER: usize = $header;

            fn parse(bytes: &[u8]) -> Result<$message<'_>, DecodeError> {
                $parse(bytes)
            }

            fn encode(message: &$message<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                message.encode(out)
            }

            #[cfg(feature = "arbitrary")]
            fn arbitrary(u: &mut arbitrary::Unstructured<'_>, out: &mut Vec<u8>) -> arbitrary::Result<()> {
                super::arbitrary::$arbitrary(u, out)
            }
        }
    )*};
}

families! {
    /// Frames from a server after authentication: [`BackendMessage`].
    Backend: BackendMessage, 5, |bytes| BackendFraming::READY.parse(bytes), backend;
    /// Frames from a client once the connection has begun: [`FrontendMessage`].
    Frontend: FrontendMessage, 5, |bytes| FrontendFraming::READY.parse(bytes), frontend;
    /// Packets that begin a connection: [`StartupPacket`].
    Startup: StartupPacket, 4, |bytes| FrontendFraming::STARTUP.parse_startup(bytes), startup;
    /// The messages of a walsender inside `CopyData`: [`ReplicationMessage`].
    Replication: ReplicationMessage, 0, ReplicationMessage::parse, replication;
    /// The messages of a standby inside `CopyData`: [`StandbyMessage`].
    Standby: StandbyMessage, 0, StandbyMessage::parse, standby;
    /// The messages of a base backup inside `CopyData`: [`BaseBackupMessage`].
    BaseBackup: BaseBackupMessage, 0, BaseBackupMessage::parse, base_backup;
}

/// A message of a [`Family`] that owns its bytes, exactly as they are sent.
///
/// With the feature `arbitrary` a fuzzer's input can be turned into one.
///
/// ```
/// use tapster::codec::{Backend, BackendMessage, OwnedMessage, TransactionStatus};
///
/// let ready = BackendMessage::ReadyForQuery(TransactionStatus::Idle);
/// let owned = OwnedMessage::<Backend>::new(&ready)?;
/// assert_eq!(&owned[..], b"Z\0\0\0\x05I");
/// assert_eq!(owned.parse(), Ok(ready));
/// # Ok::<(), tapster::codec::EncodeError>(())
/// ```
pub struct OwnedMessage<F: Family> {
    bytes: Vec<u8>,
    family: PhantomData<F>,
}

impl<F: Family> OwnedMessage<F> {
    /// Encodes a message.
    ///
    /// # Errors
    /// If the message cannot be encoded.
    pub fn new(message: &F::Message<'_>) -> Result<Self, EncodeError> {
        let mut bytes = Vec::new();
        F::encode(message, &mut bytes)?;
        Ok(Self { bytes, family: PhantomData })
    }

    /// Keeps a copy of the bytes that a peer sent: one whole message and nothing else.
    ///
    /// # Errors
    /// If the bytes are not exactly one well-formed message.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, DecodeError> {
        F::parse(bytes)?;
        Ok(Self { bytes: bytes.to_vec(), family: PhantomData })
    }

    /// The message.
    ///
    /// # Errors
    /// None for a message from a parser or from the feature `arbitrary`. A message built by hand can hold
    /// content that no peer may send, such as a known kind as an unknown one.
    pub fn parse(&self) -> Result<F::Message<'_>, DecodeError> {
        F::parse(&self.bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl<F: Family> Deref for OwnedMessage<F> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<F: Family> AsRef<[u8]> for OwnedMessage<F> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(feature = "arbitrary")]
impl<'u, F: Family> arbitrary::Arbitrary<'u> for OwnedMessage<F> {
    fn arbitrary(u: &mut arbitrary::Unstructured<'u>) -> arbitrary::Result<Self> {
        let mut bytes = Vec::new();
        F::arbitrary(u, &mut bytes)?;
        Ok(Self { bytes, family: PhantomData })
    }
}

impl<F: Family> Clone for OwnedMessage<F> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), family: PhantomData }
    }
}

impl<F: Family> PartialEq for OwnedMessage<F> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl<F: Family> Eq for OwnedMessage<F> {}

impl<F: Family> fmt::Debug for OwnedMessage<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The bytes would show what the message hides, such as a password.
        match self.parse() {
            Ok(message) => message.fmt(f),
            Err(error) => write!(f, "OwnedMessage({} bytes: {error})", self.bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::AuthenticationResponse;
    use alloc::format;

    #[test]
    fn debug_shows_no_password() {
        let mut bytes = Vec::new();
        AuthenticationResponse::Password { password: b"hunter2" }.encode(&mut bytes).unwrap();
        let message = FrontendFraming::READY.parse(&bytes).unwrap();
        let owned = OwnedMessage::<Frontend>::new(&message).unwrap();
        assert_eq!(format!("{owned:?}"), "AuthenticationResponse(***)");
    }

    #[test]
    fn a_message_from_a_peer_is_kept_byte_for_byte() {
        let (sync, flush) = (b"S\0\0\0\x04", b"H\0\0\0\x04");
        let owned = OwnedMessage::<Frontend>::from_wire(sync).unwrap();
        assert_eq!(
            (&owned[..], owned.as_ref(), owned.parse()),
            (&sync[..], &sync[..], Ok(FrontendMessage::Sync))
        );
        assert_eq!(owned, OwnedMessage::new(&FrontendMessage::Sync).unwrap());
        assert_ne!(owned, OwnedMessage::from_wire(flush).unwrap());
        assert_eq!(owned.clone().into_bytes(), sync);
        for wrong in [&sync[..4], b"S\0\0\0\x04H", b"S\0\0\0\x05\0", b""] {
            assert!(OwnedMessage::<Frontend>::from_wire(wrong).is_err(), "{}", wrong.escape_ascii());
        }
    }
}
