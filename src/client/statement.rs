//! A prepared statement, and how its name comes back when it is dropped.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use std::format;
use std::string::String;
use std::sync::{Arc, Mutex, PoisonError};
use std::vec::Vec;

/// A statement that the server has parsed and keeps for the session under a name; see
/// [`Connection::prepare`](super::Connection::prepare).
///
/// When it is dropped, the connection has the server forget it together with its next prepared statement;
/// [`Connection::close_statement`](super::Connection::close_statement) does so at once.
pub struct Statement {
    name: String,
    dropped: Dropped,
}

/// The names that a connection's server may forget.
#[derive(Clone, Debug, Default)]
pub(super) struct Dropped(Arc<Mutex<Vec<String>>>);

impl Dropped {
    pub(super) fn add(&self, names: impl IntoIterator<Item = String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
    }

    pub(super) fn take(&self) -> Vec<String> {
        core::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Statement {
    /// One with a name that no other connection of this process has, so that it is never taken for another.
    pub(super) fn new(dropped: Dropped) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { name: format!("tapster_{}", NEXT.fetch_add(1, Ordering::Relaxed)), dropped }
    }

    /// Its name in the server.
    pub(super) fn name(&self) -> &[u8] {
        self.name.as_bytes()
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        self.dropped.add([core::mem::take(&mut self.name)]);
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Statement").field(&self.name).finish()
    }
}
