//! Random numbers of the operating system.

/// Fills the buffer.
///
/// # Errors
/// If the system gives none, which no Linux since 3.17 does.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), NoRandom> {
    getrandom::getrandom(bytes).map_err(|_| NoRandom)
}

/// A number to spread choices with. Without random numbers it is 0: what must be unpredictable uses [`fill`].
pub(crate) fn number() -> u64 {
    let mut bytes = [0; 8];
    let _ = fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// The operating system gives no random numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoRandom;
