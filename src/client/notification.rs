//! Notifications, and the queue in which they wait until the caller asks for them.

use std::collections::VecDeque;
use std::string::String;

use crate::codec::NotificationResponse;

/// A message that a session sent with `NOTIFY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The server process of the session that sent it.
    pub process_id: i32,
    /// The channel. Bytes that are not UTF-8 are replaced, here and in `payload`.
    pub channel: String,
    /// The text, which may be empty.
    pub payload: String,
}

/// Notifications that the caller has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Notifications {
    queue: VecDeque<Notification>,
    /// The sum of [`size`] over the queue.
    bytes: usize,
    /// How many were dropped because the queue was full.
    pub(super) dropped: u64,
}

const MAX_COUNT: usize = 10_000;
const MAX_BYTES: usize = 4 * 1024 * 1024;

impl Notifications {
    pub(super) fn push(&mut self, message: &NotificationResponse<'_>) {
        let notification = Notification {
            process_id: message.process_id,
            channel: String::from_utf8_lossy(message.channel).into_owned(),
            payload: String::from_utf8_lossy(message.payload).into_owned(),
        };
        self.bytes += size(&notification);
        self.queue.push_back(notification);
        while self.queue.len() > MAX_COUNT || self.bytes > MAX_BYTES {
            if self.pop().is_none() {
                break;
            }
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// Takes the oldest notification.
    pub(super) fn pop(&mut self) -> Option<Notification> {
        let notification = self.queue.pop_front()?;
        self.bytes -= size(&notification);
        Some(notification)
    }
}

/// The memory that a notification takes, in bytes.
fn size(notification: &Notification) -> usize {
    size_of::<Notification>() + notification.channel.len() + notification.payload.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::vec;

    fn push(notifications: &mut Notifications, payload: &[u8]) {
        notifications.push(&NotificationResponse { process_id: 1, channel: b"c", payload });
    }

    #[test]
    fn the_oldest_of_too_many_are_dropped() {
        let mut notifications = Notifications::default();
        for i in 0..MAX_COUNT + 3 {
            push(&mut notifications, format!("{i}").as_bytes());
        }
        assert_eq!((notifications.queue.len(), notifications.dropped), (MAX_COUNT, 3));
        assert_eq!(notifications.pop().unwrap().payload, "3");
    }

    #[test]
    fn memory_is_bounded() {
        let mut notifications = Notifications::default();
        for _ in 0..10 {
            push(&mut notifications, &vec![b'x'; 1024 * 1024]);
            assert!(notifications.bytes <= MAX_BYTES);
        }
        assert_eq!((notifications.queue.len(), notifications.dropped), (3, 7));
        // A notification that is larger than the limit empties the queue.
        push(&mut notifications, &vec![b'x'; MAX_BYTES]);
        assert_eq!((notifications.queue.len(), notifications.bytes, notifications.dropped), (0, 0, 11));
    }
}
