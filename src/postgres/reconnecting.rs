//! The connection of an object: made when a call needs it, and made again by the next call after it was lost.

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::prelude::v1::*;
use std::sync::{Arc, Mutex as PlainMutex, PoisonError};

use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::error::PostgresError;
use super::registry::{self, Live};
use super::session_settings;
use crate::client::Error;
use crate::client::{Connection, ResultSet, SessionLimits};
use crate::codec::TransactionStatus;
use crate::conninfo::{Config, ConnInfo};
use crate::replication::ReplicationConnection;
use crate::types::ServerVersion;

/// A kind of connection that an object can hold: an ordinary one, or one for replication.
pub trait Reconnectable: Sized + Send + 'static {
    /// Connects to the server that `config` names.
    fn open(config: &Config) -> impl Future<Output = Result<Self, Error>> + Send;
    /// The connection itself.
    fn connection(&mut self) -> &mut Connection;
    /// Says goodbye to the server and closes the connection.
    fn close(self) -> impl Future<Output = Result<(), Error>> + Send;
}

impl Reconnectable for Connection {
    async fn open(config: &Config) -> Result<Self, Error> {
        let mut connection = Self::connect(config).await?;
        connection.set_limits(SessionLimits::CONTROL);
        connection.set_read_timeout(config.connect_timeout);
        session_settings::apply(&mut connection, config).await?;
        Ok(connection)
    }

    fn connection(&mut self) -> &mut Connection {
        self
    }

    fn close(self) -> impl Future<Output = Result<(), Error>> + Send {
        self.close()
    }
}

impl Reconnectable for ReplicationConnection {
    fn open(config: &Config) -> impl Future<Output = Result<Self, Error>> + Send {
        Self::connect(config)
    }

    fn connection(&mut self) -> &mut Connection {
        self.connection()
    }

    fn close(self) -> impl Future<Output = Result<(), Error>> + Send {
        self.close()
    }
}

/// The connection of an object, and all that is needed to make it again.
pub struct Reconnecting<C: Reconnectable> {
    shared: Arc<Shared<C>>,
}

struct Shared<C> {
    class: &'static str,
    /// The connection string as the caller gave it.
    conninfo: String,
    parameters: ConnInfo,
    make_config: Box<dyn Fn() -> Result<Config, PostgresError> + Send + Sync>,
    allow_reconnect: AtomicBool,
    /// How long the server may be silent.
    timeout: PlainMutex<Option<Duration>>,
    /// Whether a backup was started on this connection. Another connection could not stop the backup.
    is_in_backup: AtomicBool,
    state: Mutex<State<C>>,
}

struct State<C> {
    connection: Option<C>,
    /// Why the last connection was lost. `None` again once the object is closed or has another connection.
    lost: Option<String>,
}

impl<C: Reconnectable> Reconnecting<C> {
    pub(super) fn new(
        class: &'static str,
        conninfo: String,
        parameters: ConnInfo,
        make_config: impl Fn() -> Result<Config, PostgresError> + Send + Sync + 'static,
    ) -> Self {
        let shared = Shared {
            class,
            conninfo,
            parameters,
            make_config: Box::new(make_config),
            allow_reconnect: AtomicBool::new(true),
            timeout: PlainMutex::new(None),
            is_in_backup: AtomicBool::new(false),
            state: Mutex::new(State { connection: None, lost: None }),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn conninfo(&self) -> &str {
        &self.shared.conninfo
    }

    pub(super) fn parameters(&self) -> &ConnInfo {
        &self.shared.parameters
    }

    pub(super) fn allow_reconnect(&self) -> bool {
        self.shared.allow_reconnect.load(Ordering::Relaxed)
    }

    pub(super) fn set_allow_reconnect(&self, allow: bool) {
        self.shared.allow_reconnect.store(allow, Ordering::Relaxed);
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        *self.shared.timeout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_timeout(&self, timeout: Option<Duration>) {
        *self.shared.timeout.lock().unwrap_or_else(PoisonError::into_inner) = timeout;
    }

    /// Says whether a backup was started on this connection. While one is, a lost connection is not replaced:
    /// only the session that started a backup can stop it.
    pub(super) fn set_in_backup(&self, is_in_backup: bool) {
        self.shared.is_in_backup.store(is_in_backup, Ordering::Relaxed);
    }

    /// The connection, made if there is none; no other call can use it until the guard is dropped.
    ///
    /// An existing connection is not asked anything: if the server has ended it, the socket shows that.
    pub(super) async fn connect(&self) -> Result<ConnectionGuard<'_, C>, PostgresError> {
        let mut state = self.shared.state.lock().await;
        // A transaction that the caller left failed would make every later statement fail.
        if self.forget_if_ended(&mut state).await.is_none()
            && let Some(connection) = state.connection.as_mut().map(Reconnectable::connection)
            && connection.transaction_status() == TransactionStatus::Failed
            && let Err(error) = connection.simple_query("ROLLBACK").await
        {
            self.forget(&mut state, &error);
        }
        if state.connection.is_some() {
            return self.guard(state, false);
        }
        self.may_replace(&state)?;
        let mut config = (self.shared.make_config)()?;
        config.connect_timeout = config.connect_timeout.or_else(|| self.timeout());
        state.connection = Some(C::open(&config).await.map_err(PostgresError::Connection)?);
        state.lost = None;
        registry::register(&self.shared);
        self.guard(state, true)
    }

    /// The existing connection; [`PostgresError::NoConnection`] if there is none.
    pub(super) async fn existing(&self) -> Result<ConnectionGuard<'_, C>, PostgresError> {
        self.guard_existing(self.shared.state.lock().await).await
    }

    /// The existing connection; `None` while another call uses it.
    pub(super) async fn try_existing(&self) -> Result<Option<ConnectionGuard<'_, C>>, PostgresError> {
        match self.shared.state.try_lock() {
            Ok(state) => self.guard_existing(state).await.map(Some),
            Err(_) => Ok(None),
        }
    }

    async fn guard_existing<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<C>>,
    ) -> Result<ConnectionGuard<'a, C>, PostgresError> {
        if let Some(error) = self.forget_if_ended(&mut state).await {
            return Err(PostgresError::Connection(error));
        }
        if state.connection.is_none() {
            self.may_replace(&state)?;
        }
        self.guard(state, false)
    }

    /// Runs `query` over the existing connection; false if there is none, or if it turns out to be lost.
    pub(super) async fn check(&self, query: &str) -> Result<bool, PostgresError> {
        let mut state = self.shared.state.lock().await;
        drop(self.forget_if_ended(&mut state).await);
        if let Some(connection) = &mut state.connection {
            connection.connection().set_read_timeout(self.timeout());
            match connection.connection().simple_query(query).await {
                Ok(_) => return Ok(true),
                Err(error) => self.forget(&mut state, &error),
            }
        }
        self.may_replace(&state)?;
        Ok(false)
    }

    /// Forgets the connection if the server has ended it, and returns what ended it.
    async fn forget_if_ended(&self, state: &mut State<C>) -> Option<Error> {
        let error = state.connection.as_mut()?.connection().ended_by_server().await?;
        self.forget(state, &error);
        Some(error)
    }

    /// Fails if a connection was lost that must not be replaced.
    fn may_replace(&self, state: &State<C>) -> Result<(), PostgresError> {
        let must_stay = self.shared.is_in_backup.load(Ordering::Relaxed) || !self.allow_reconnect();
        match &state.lost {
            Some(reason) if must_stay => Err(PostgresError::ReconnectForbidden { reason: reason.clone() }),
            _ => Ok(()),
        }
    }

    fn guard<'a>(
        &self,
        state: MutexGuard<'a, State<C>>,
        is_new: bool,
    ) -> Result<ConnectionGuard<'a, C>, PostgresError> {
        let Ok(mut connection) = MutexGuard::try_map(state, |state| state.connection.as_mut()) else {
            return Err(PostgresError::NoConnection);
        };
        connection.connection().set_read_timeout(self.timeout());
        Ok(ConnectionGuard { connection, is_new })
    }

    pub(super) async fn has_connection(&self) -> bool {
        self.shared.state.lock().await.connection.is_some()
    }

    fn forget(&self, state: &mut State<C>, error: &Error) {
        state.connection = None;
        state.lost = Some(error.to_string());
        registry::unregister(Arc::as_ptr(&self.shared).cast());
    }

    pub(super) async fn close(&self) {
        Live::close(self.shared.as_ref()).await;
    }
}

/// Builds a statement for a server's version. Not a type parameter, so that the large code that runs statements
/// is compiled once.
pub(super) type Sql<'a> = &'a (dyn Fn(ServerVersion) -> String + Sync);

/// A statement and its parameters.
pub(super) type Statement<'a> = (&'a str, &'a [Option<&'a str>]);

impl Reconnecting<Connection> {
    /// Runs a statement that only reads. If the connection turns out to be lost, runs it once more on a new one.
    pub(super) async fn read(
        &self,
        what: &'static str,
        sql: Sql<'_>,
        params: &[Option<&str>],
    ) -> Result<ResultSet, PostgresError> {
        let connection = self.connect().await?;
        let sql = sql(connection.server_version().map_err(PostgresError::Connection)?);
        let results = self.read_on(connection, what, &[(&sql, params)]).await?;
        let result = results.into_iter().next().unwrap_or(Err(Error::Closed));
        result.map_err(|error| PostgresError::failed(what, error))
    }

    /// Runs statements that only read in one round trip, each with its own result. If `connection` turns out
    /// to be lost, runs them once more on a new one.
    pub(super) async fn read_on(
        &self,
        mut connection: ConnectionGuard<'_, Connection>,
        what: &'static str,
        statements: &[Statement<'_>],
    ) -> Result<Vec<Result<ResultSet, Error>>, PostgresError> {
        match run(&mut connection, statements).await {
            Err(error) if connection.may_repeat(&error) => {}
            result => return result.map_err(|error| PostgresError::failed(what, error)),
        }
        drop(connection);
        let mut connection = self.connect().await?;
        run(&mut connection, statements).await.map_err(|error| PostgresError::failed(what, error))
    }
}

async fn run(
    connection: &mut Connection,
    statements: &[Statement<'_>],
) -> Result<Vec<Result<ResultSet, Error>>, Error> {
    let mut pipeline = connection.pipeline();
    for (sql, params) in statements {
        pipeline.query(sql, params)?;
    }
    pipeline.run().await
}

impl<C: Reconnectable> Live for Shared<C> {
    fn class(&self) -> &'static str {
        self.class
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let mut state = self.state.lock().await;
            let connection = state.connection.take();
            state.lost = None;
            self.is_in_backup.store(false, Ordering::Relaxed);
            registry::unregister(core::ptr::from_ref(self).cast());
            drop(state);
            if let Some(connection) = connection
                && let Err(error) = connection.close().await
            {
                log::debug!("closing a connection: {error}");
            }
        })
    }
}

/// Exclusive use of the connection of an object: other calls of the object wait until this is dropped.
pub struct ConnectionGuard<'a, C: Reconnectable> {
    connection: MappedMutexGuard<'a, C>,
    is_new: bool,
}

impl<C: Reconnectable> ConnectionGuard<'_, C> {
    /// Whether a call that only reads may be repeated on a new connection: this one was made by an earlier call
    /// and turned out to be lost. A timeout is not repeated: a silent server would be silent again.
    pub(super) fn may_repeat(&self, error: &Error) -> bool {
        !self.is_new && error.is_connection_lost() && !error.is_timeout()
    }
}

impl<C: Reconnectable> Deref for ConnectionGuard<'_, C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.connection
    }
}

impl<C: Reconnectable> DerefMut for ConnectionGuard<'_, C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.connection
    }
}

impl<C: Reconnectable> fmt::Debug for ConnectionGuard<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionGuard").field("is_new", &self.is_new).finish_non_exhaustive()
    }
}

impl<C: Reconnectable> fmt::Debug for Reconnecting<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.shared.class).field("parameters", &self.shared.parameters).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
