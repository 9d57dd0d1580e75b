use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use super::error::HandshakeError;
use crate::auth::{AuthPolicy, DerivedKeys, ScramKeys, ScramSecret};
use crate::codec::{Limits, ParametersBuf, ProtocolVersion};

/// Everything that a handshake needs; the handshake looks nothing up itself.
#[derive(Clone)]
pub struct HandshakeConfig {
    /// The newest protocol version to ask for.
    pub max_version: ProtocolVersion,
    /// The oldest protocol version that is accepted when the server negotiates.
    pub min_version: ProtocolVersion,
    /// The parameters of the startup packet; `user` has to be among them.
    pub parameters: ParametersBuf,
    /// How the connection is encrypted.
    pub encryption: Encryption,
    /// Which requests for authentication may be answered.
    pub policy: AuthPolicy,
    /// The password. An empty one counts as none, as with libpq.
    pub password: Option<Zeroizing<Vec<u8>>>,
    /// The keys of SCRAM, which are used instead of the password.
    pub scram_keys: Option<ScramKeys>,
    /// The keys that an earlier session derived from the same password: they save the expensive part of SCRAM
    /// while salt and iteration count are unchanged.
    pub derived_keys: Option<DerivedKeys>,
    /// The largest messages that are accepted during the handshake.
    pub limits: Limits,
}

impl HandshakeConfig {
    /// A configuration for protocol 3.0 without encryption, with every authentication method and no password.
    #[must_use]
    pub fn new(parameters: ParametersBuf) -> Self {
        Self {
            max_version: ProtocolVersion::V3_0,
            min_version: ProtocolVersion::V3_0,
            parameters,
            encryption: Encryption::Plain,
            policy: AuthPolicy::default(),
            password: None,
            scram_keys: None,
            derived_keys: None,
            limits: Limits::DEFAULT,
        }
    }

    pub(super) fn user(&self) -> Vec<u8> {
        let user = self.parameters.as_list().iter().find(|(name, _)| *name == b"user");
        user.map(|(_, value)| value.to_vec()).unwrap_or_default()
    }

    pub(super) fn usable_password(&self) -> Result<&Zeroizing<Vec<u8>>, HandshakeError> {
        self.password.as_ref().filter(|password| !password.is_empty()).ok_or(HandshakeError::NoPassword)
    }

    pub(super) fn scram_secret(&self) -> Result<ScramSecret, HandshakeError> {
        match &self.scram_keys {
            Some(keys) => Ok(ScramSecret::Keys(keys.clone())),
            None => Ok(ScramSecret::Password(self.usable_password()?.clone())),
        }
    }
}

impl fmt::Debug for HandshakeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeConfig")
            .field("max_version", &self.max_version)
            .field("encryption", &self.encryption)
            .field("policy", &self.policy)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .finish_non_exhaustive()
    }
}

/// How one attempt to connect is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// No encryption.
    Plain,
    /// TLS if the server agrees, else no encryption.
    TlsIfOffered,
    /// TLS, requested by `SSLRequest`.
    Tls,
    /// TLS from the first byte (servers from 17 on).
    DirectTls,
}
