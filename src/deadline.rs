//! Work with a time limit, where `None` is no limit.

use core::time::Duration;

#[cfg(feature = "replication")]
use tokio::time::Instant;

/// The outcome of `work`, or the limit if the work takes longer.
///
/// # Cancel safety
/// That of `work`, which is dropped when its time is over.
pub(crate) async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Result<T, Duration> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, work).await.map_err(|_| limit),
        None => Ok(work.await),
    }
}

/// The outcome of `work`, or `None` if the work is not done by the deadline.
///
/// # Cancel safety
/// That of `work`, which is dropped at the deadline.
#[cfg(feature = "replication")]
pub(crate) async fn until<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, work).await.ok(),
        None => Some(work.await),
    }
}

/// Returns at the deadline; without one, never.
#[cfg(feature = "replication")]
pub(crate) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => core::future::pending().await,
    }
}
