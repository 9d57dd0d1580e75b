use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use super::parameters::SessionParameters;
use crate::auth::{AuthMethod, DerivedKeys};
use crate::codec::{ProtocolVersion, ServerError, TransactionStatus};

/// The secret with which to cancel the statements of a session.
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
    /// What cancels a statement; some poolers give none.
    pub cancel_key: Option<CancelKey>,
    /// Idle, for every server that is not broken.
    pub transaction_status: TransactionStatus,
    /// How we authenticated ourselves.
    pub authentication: AuthMethod,
    /// Whether the exchange was bound to the TLS session, so that nobody can sit in between.
    pub channel_bound: bool,
    /// What SCRAM derived, for [`HandshakeConfig::derived_keys`](super::HandshakeConfig::derived_keys) of the next session.
    pub derived_keys: Option<DerivedKeys>,
    /// What the server noted meanwhile, at most 16.
    pub notices: Vec<ServerError>,
}

impl Session {
    /// One of which nothing is known yet.
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
