use std::prelude::v1::*;

use core::fmt;

use zeroize::{Zeroize, Zeroizing};

/// A password. It is overwritten when it is dropped, and `Debug` shows `***`.
///
/// A password is bytes, not text: a password file may have any encoding, and the server compares bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// The bytes, without a terminator.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Password {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<&str> for Password {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes().to_vec())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A `ClientKey` or `ServerKey` of SCRAM-SHA-256, given instead of a password.
///
/// It is overwritten when it is dropped, and `Debug` shows `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKey([u8; 32]);

impl ScramKey {
    /// The 32 bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for ScramKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl Drop for ScramKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for ScramKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
