//! A prepared statement, and the list of dropped ones that the server is to forget.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use std::format;
use std::string::String;
use std::sync::{Arc, Mutex, PoisonError};
use std::vec::Vec;

/// A statement that the server has parsed and keeps for the session under a name; see
/// [`Connection::prepare`](super::Connection::prepare).
///
/// After a statement is dropped, the connection's next call that prepares or runs a statement makes the
/// server forget it; [`Connection::close_statement`](super::Connection::close_statement) does so at once.
pub struct Statement {
    name: String,
    dropped: DroppedStatements,
}

/// The names of the dropped statements of a connection, which the server is to forget.
#[derive(Clone, Debug, Default)]
pub(super) struct DroppedStatements(Arc<Mutex<Vec<String>>>);

impl DroppedStatements {
    pub(super) fn add(&self, names: impl IntoIterator<Item = String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
    }

    pub(super) fn take(&self) -> Vec<String> {
        core::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Statement {
    /// Makes a statement whose name is unique in this process, so that it is never taken for another
    /// connection's.
    pub(super) fn new(dropped: DroppedStatements) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { name: format!("tapster_{}", NEXT.fetch_add(1, Ordering::Relaxed)), dropped }
    }

    /// The statement's name in the server.
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
