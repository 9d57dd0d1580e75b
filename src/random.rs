//! Random numbers of the operating system.

/// Fills `bytes` with random numbers.
///
/// # Errors
/// If the operating system gives none; every Linux since 3.17 gives them.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), NoRandom> {
    getrandom::getrandom(bytes).map_err(|_| NoRandom)
}

/// A random number to spread choices with; 0 if the operating system gives none. Values that must be
/// unpredictable use [`fill`].
pub(crate) fn number() -> u64 {
    let mut bytes = [0; 8];
    let _ = fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// The operating system gives no random numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoRandom;
