//! Waiting for a condition instead of sleeping.

use core::time::Duration;
use std::thread;
use std::time::Instant;

/// Polls `condition` until it holds.
///
/// # Panics
/// After `deadline`; the message names `what` was waited for.
#[track_caller]
pub fn wait_until(deadline: Duration, what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(deadline, condition), "waited {deadline:?} in vain until {what}");
}

/// Polls `condition` until it holds or `deadline` has passed. Returns whether it held.
pub fn holds_within(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() >= deadline {
            return false;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
