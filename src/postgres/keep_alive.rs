use core::time::Duration;
use std::boxed::Box;

use tokio::time::{Instant, sleep};

use super::connection::PostgreSQLConnection;
use super::error::PostgresError;

/// Keeps a connection alive while the caller does other work, and ends that work when the connection is lost.
///
/// The keep-alive neither makes nor closes a connection. While a statement runs on the connection, no
/// heartbeat is sent: the statement itself notices a loss. No thread, task or signal is used: the future of
/// [`run`](Self::run) sends the heartbeats, and nothing remains once it is done or dropped.
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

/// The time between two looks at the socket, between heartbeats.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a heartbeat may take by default.
const DEADLINE: Duration = Duration::from_secs(10);

impl<'a> PostgresKeepAlive<'a> {
    /// Sends a heartbeat at once and then one per `interval`; with an interval of zero it sends none. With
    /// `raise_exception` a loss of the connection ends the work; without, nothing does.
    #[must_use]
    pub fn new(postgres: &'a PostgreSQLConnection, interval: Duration, raise_exception: bool) -> Self {
        Self { postgres, interval, deadline: DEADLINE.min(interval), raise_exception }
    }

    /// Sets how long a heartbeat may take before the connection counts as lost; by default 10 s or the
    /// interval, whichever is less.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Does `work`, and sends heartbeats whenever it waits.
    ///
    /// # Errors
    /// [`PostgresError::ConnectionLost`]. If the session was ended, the error comes within a second, or
    /// within the interval if that is shorter. If the server is silent, the error comes within one interval
    /// plus the deadline of a heartbeat. The work is dropped at the point where it waits.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work as well. The connection can be used at once.
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

    /// Sends heartbeats until the connection is lost and the loss has to be reported.
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
                // An interval that ends beyond the clock's range never ends.
                due = Instant::now().checked_add(self.interval);
            }
            let rest = due.map(|due| due.saturating_duration_since(Instant::now()));
            sleep(rest.map_or(LOOK_INTERVAL, |rest| rest.min(LOOK_INTERVAL))).await;
        }
    }

    /// Looks at the socket, which shows whether the session was ended. If a heartbeat is due, sends it too.
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

/// Whether the connection is lost. Includes a loss that another call has noticed first, if the connection
/// must not be replaced.
fn is_loss(error: &PostgresError) -> bool {
    matches!(error, PostgresError::Connection(_) | PostgresError::ReconnectForbidden { .. })
}
