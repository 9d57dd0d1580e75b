use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use super::parameters::SessionParameters;
use crate::auth::{AuthMethod, DerivedKeys};
use crate::codec::{ProtocolVersion, ServerError, TransactionStatus};

/// The key that cancels the statements of a session.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelKey {
    /// The server process of the session.
    pub process_id: i32,
    /// The secret: 4 bytes in protocol 3.0, up to 256 in 3.2.
    pub secret_key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelKey").field("process_id", &self.process_id).finish_non_exhaustive()
    }
}

/// A session that is ready for its first command.
#[derive(Clone, Debug)]
pub struct Session {
    /// The protocol version agreed upon.
    pub version: ProtocolVersion,
    /// The settings that the server reports.
    pub parameters: SessionParameters,
    /// The key that cancels the session's statements; some poolers give none.
    pub cancel_key: Option<CancelKey>,
    /// Idle, for every server that is not broken.
    pub transaction_status: TransactionStatus,
    /// How the client proved its identity.
    pub authentication: AuthMethod,
    /// Whether the authentication was bound to the TLS session, so that no attacker can sit in between.
    pub channel_bound: bool,
    /// The keys that SCRAM derived, for the [`derived_keys`](super::HandshakeConfig::derived_keys) of the
    /// next handshake.
    pub derived_keys: Option<DerivedKeys>,
    /// The notices that the server sent during the handshake, at most 16.
    pub notices: Vec<ServerError>,
}

impl Session {
    /// A session of which only the requested version is known.
    pub(super) fn new(version: ProtocolVersion) -> Self {
        Self {
            version,
            parameters: SessionParameters::default(),
            cancel_key: None,
            transaction_status: TransactionStatus::Idle,
            authentication: AuthMethod::None,
            channel_bound: false,
            derived_keys: None,
            notices: Vec::new(),
        }
    }
}
