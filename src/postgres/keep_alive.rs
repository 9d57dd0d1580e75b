use core::time::Duration;
use std::boxed::Box;

use tokio::time::{Instant, sleep};

use super::connection::PostgreSQLConnection;
use super::error::PostgresError;

/// Keeps a connection alive while work is done elsewhere, and ends the work when the connection is lost.
///
/// It makes and closes no connection. While a statement runs on the connection there is no heartbeat, as the
/// statement itself meets a loss. There is no thread, no task and no signal: the heartbeats are sent by the
/// future of [`run`](Self::run), and when that is done or dropped nothing is left.
///
/// ```no_run
/// # async fn example(postgres: &tapster::postgres::PostgreSQLConnection) -> Result<(), tapster::postgres::PostgresError> {
/// # async fn copy_files() {}
/// use core::time::Duration;
/// use tapster::postgres::PostgresKeepAlive;
///
/// postgres.start_concurrent_backup("nightly").await?;
/// PostgresKeepAlive::new(postgres, Duration::from_secs(60), true).run(copy_files()).await?;
/// let stopped = postgres.stop_concurrent_backup().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PostgresKeepAlive<'a> {
    postgres: &'a PostgreSQLConnection,
    interval: Duration,
    deadline: Duration,
    raise_exception: bool,
}

/// How often the socket is looked at between heartbeats.
const LOOK: Duration = Duration::from_secs(1);
/// How long a heartbeat may take, unless told.
const DEADLINE: Duration = Duration::from_secs(10);

impl<'a> PostgresKeepAlive<'a> {
    /// A heartbeat at once and then one per `interval`; an interval of zero is none at all. With
    /// `raise_exception` a loss ends the work, without it nothing does.
    #[must_use]
    pub fn new(postgres: &'a PostgreSQLConnection, interval: Duration, raise_exception: bool) -> Self {
        Self { postgres, interval, deadline: DEADLINE.min(interval), raise_exception }
    }

    /// Sets how long a heartbeat may take before the connection counts as lost; 10 s or the interval, whichever
    /// is less, unless told.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Does the work, with heartbeats whenever it waits.
    ///
    /// # Errors
    /// [`PostgresError::ConnectionLost`]: of a session that was ended, within a second, or the interval if that is
    /// less; of a server that is silent, within one interval and the deadline of a heartbeat. The work is dropped
    /// at the point where it waits.
    ///
    /// # Cancel safety
    /// The work is dropped as well. The connection can be used at once.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, PostgresError> {
        if self.interval.is_zero() {
            return Ok(work.await);
        }
        tokio::select! {
            biased;
            done = work => Ok(done),
            lost = self.watch() => Err(lost),
        }
    }

    /// Ends only with a loss that is to be told.
    async fn watch(&self) -> PostgresError {
        let mut answered = Instant::now();
        let mut due = Some(answered);
        loop {
            let is_due = due.is_some_and(|due| due <= Instant::now());
            match self.beat(is_due).await {
                Ok(()) if is_due => answered = Instant::now(),
                Ok(()) => {}
                Err(error) if self.raise_exception && is_loss(&error) => {
                    return PostgresError::ConnectionLost {
                        silent: answered.elapsed(),
                        source: Box::new(error),
                    };
                }
                Err(error) => log::debug!("keep-alive: {error}"),
            }
            if is_due {
                // An interval without end is never over.
                due = Instant::now().checked_add(self.interval);
            }
            let rest = due.map(|due| due.saturating_duration_since(Instant::now()));
            sleep(rest.map_or(LOOK, |rest| rest.min(LOOK))).await;
        }
    }

    /// Looks at the socket, which tells of a session that was ended; asks over it if that is due.
    async fn beat(&self, is_due: bool) -> Result<(), PostgresError> {
        let Some(mut connection) = self.postgres.reconnecting.try_existing().await? else { return Ok(()) };
        if !is_due {
            return Ok(());
        }
        connection.set_read_timeout(Some(self.deadline));
        let answer = connection.simple_query(PostgreSQLConnection::HEARTBEAT_QUERY).await;
        answer.map(drop).map_err(|error| PostgresError::failed("the heartbeat", error))
    }
}

/// Also a loss that somebody else has met first, where no other connection may take its place.
fn is_loss(error: &PostgresError) -> bool {
    matches!(error, PostgresError::Connection(_) | PostgresError::ReconnectForbidden { .. })
}
