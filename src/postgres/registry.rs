//! The objects that hold an open connection.

use std::prelude::v1::*;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use core::pin::Pin;

/// An object that may hold an open connection.
pub(super) trait Live: Send + Sync {
    /// The name of the class.
    fn class(&self) -> &'static str;
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// The objects in the order in which their connections were opened, each at most once. The references are
/// weak, so that the list keeps no dropped object alive.
static LIVE: Mutex<Vec<Weak<dyn Live>>> = Mutex::new(Vec::new());

/// The classes of the objects that hold an open connection, in the order in which those were opened.
#[must_use]
pub fn live_connections() -> Vec<&'static str> {
    live().iter().map(|object| object.class()).collect()
}

/// Says goodbye on every open connection of the classes and closes it, for the end of a program.
///
/// A connection that is in use is closed once its call is done. A connection that is dropped instead of
/// closed also says goodbye, as far as that is possible without waiting.
///
/// # Cancel safety
/// If the future is dropped, connections that it has not closed yet stay open.
pub async fn close_all() {
    for object in live() {
        log::warn!("closing the connection of a {} that was left open", object.class());
        object.close().await;
    }
}

pub(super) fn register(object: &Arc<impl Live + 'static>) {
    let object: Weak<dyn Live> = Arc::<_>::downgrade(object) as Weak<dyn Live>;
    let mut list = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
    list.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&object));
    list.push(object);
}

pub(super) fn unregister(object: *const ()) {
    let mut list = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
    list.retain(|other| other.strong_count() > 0 && other.as_ptr().cast::<()>() != object);
}

fn live() -> Vec<Arc<dyn Live>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
}
