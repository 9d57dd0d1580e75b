use core::fmt;

use md5::{Digest, Md5};
use zeroize::Zeroizing;

/// The answer to `AuthenticationMD5Password`: `md5` and 32 lower-case hexadecimal digits.
///
/// Its holder can log in when the server picks the same salt again. `Debug` therefore does not show it, and
/// it is overwritten when dropped.
#[derive(Clone)]
pub struct Md5Response(Zeroizing<[u8; 35]>);

impl Md5Response {
    /// The 35 ASCII bytes that go into `PasswordMessage`, without its terminating NUL.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl fmt::Debug for Md5Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Response(***)")
    }
}

/// The answer to `AuthenticationMD5Password` with this salt, for the `user` named at start-up:
/// `md5` + hex(md5(hex(md5(password, user)), salt)).
///
/// Spec: <https://www.postgresql.org/docs/current/protocol-flow.html>
#[must_use]
pub fn md5_password(user: &[u8], password: &[u8], salt: [u8; 4]) -> Md5Response {
    let stored = hex_md5(&[password, user]);
    let answer = hex_md5(&[stored.as_slice(), &salt]);
    let mut response = Zeroizing::new([0; 35]);
    for (to, from) in response.iter_mut().zip(b"md5".iter().chain(answer.iter())) {
        *to = *from;
    }
    Md5Response(response)
}

fn hex_md5(parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut md5 = Md5::new();
    parts.iter().for_each(|part| md5.update(part));
    let digest: Zeroizing<[u8; 16]> = Zeroizing::new(md5.finalize().into());
    let mut hex = Zeroizing::new([0; 32]);
    for (pair, byte) in hex.chunks_exact_mut(2).zip(digest.iter()) {
        if let [high, low] = pair {
            (*high, *low) = (hex_digit(byte >> 4), hex_digit(byte & 0xf));
        }
    }
    hex
}

const fn hex_digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0'.wrapping_add(nibble),
        _ => b'a'.wrapping_sub(10).wrapping_add(nibble),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    /// The inner digest is what a PostgreSQL server stored for this user and password; the outer one was
    /// computed by another implementation.
    #[test]
    fn the_answer_is_the_digest_of_the_stored_digest_and_the_salt() {
        assert_eq!(hex_md5(&[b"pencil", b"md5_user"]).as_slice(), b"29e3d0a0b4f3e9dd311543f9993a8476");
        let response = md5_password(b"md5_user", b"pencil", [0x2a, 0x3d, 0x8f, 0xe0]);
        assert_eq!(response.as_bytes(), b"md5e95774f43180b9e777ff1b2c22f1fcf7");
    }

    #[test]
    fn debug_hides_the_response() {
        assert_eq!(format!("{:?}", md5_password(b"u", b"p", [0; 4])), "Md5Response(***)");
    }
}
