//! HMAC-SHA-256, with results that are overwritten when they are dropped.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

pub(super) type HmacSha256 = Hmac<Sha256>;

/// A SHA-256 output that is overwritten when dropped.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// HMAC-SHA-256 with this key, before any of the message.
#[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
pub(super) fn hmac(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).expect("HMAC takes keys of every length")
}

/// The result of `mac` over what it was updated with.
pub(super) fn finish(mac: HmacSha256) -> Key {
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// Adds `with` to `into`, bit by bit; a second time takes it away again.
pub(super) fn xor(into: &mut Key, with: &[u8; 32]) {
    into.iter_mut().zip(with).for_each(|(a, b)| *a ^= b);
}
