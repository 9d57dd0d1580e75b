//! One object, one connection or none: made when it is needed, made again when it was lost.

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::boxed::Box;
use std::string::{String, ToString as _};
use std::sync::{Arc, Mutex as PlainMutex, PoisonError};
use std::vec::Vec;

use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::error::PostgresError;
use super::registry::{self, Live};
use crate::client::Error;
use crate::client::{Connection, ResultSet};
use crate::codec::TransactionStatus;
use crate::conninfo::{Config, ConnInfo};
use crate::replication::ReplicationConnection;
use crate::types::ServerVersion;

/// The two kinds of connections that an object can hold.
pub trait Link: Sized + Send + 'static {
    /// Makes one.
    fn open(config: &Config) -> impl Future<Output = Result<Self, Error>> + Send;
    /// The connection itself.
    fn connection(&mut self) -> &mut Connection;
    /// Ends it in good order.
    fn close(self) -> impl Future<Output = Result<(), Error>> + Send;
}

impl Link for Connection {
    fn open(config: &Config) -> impl Future<Output = Result<Self, Error>> + Send {
        Self::connect(config)
    }

    fn connection(&mut self) -> &mut Connection {
        self
    }

    fn close(self) -> impl Future<Output = Result<(), Error>> + Send {
        self.close()
    }
}

impl Link for ReplicationConnection {
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

/// The connection of an object and everything to make it again.
pub struct Session<C: Link> {
    shared: Arc<Shared<C>>,
}

struct Shared<C> {
    class: &'static str,
    /// As the caller gave it.
    conninfo: String,
    parameters: ConnInfo,
    make_config: Box<dyn Fn() -> Result<Config, PostgresError> + Send + Sync>,
    allow_reconnect: AtomicBool,
    /// How long the server may be silent.
    timeout: PlainMutex<Option<Duration>>,
    /// Whether a backup was started on this connection: another one could not stop it.
    is_in_backup: AtomicBool,
    state: Mutex<State<C>>,
}

struct State<C> {
    link: Option<C>,
    /// Why the connection was lost, until the object is closed or there is another.
    lost: Option<String>,
}

impl<C: Link> Session<C> {
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
            state: Mutex::new(State { link: None, lost: None }),
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

    /// Takes note that the connection is more than a means to ask: no other can take its place until the
    /// backup is stopped or the object closed.
    pub(super) fn set_in_backup(&self, is_in_backup: bool) {
        self.shared.is_in_backup.store(is_in_backup, Ordering::Relaxed);
    }

    /// The connection, for as long as the answer is held. Nothing is sent over one that there is: whether the
    /// server has ended it shows at the socket.
    pub(super) async fn connect(&self) -> Result<Connected<'_, C>, PostgresError> {
        let mut state = self.shared.state.lock().await;
        // What has failed in a transaction of the caller's own is not to fail everything after it.
        if self.look(&mut state).await.is_none()
            && let Some(connection) = state.link.as_mut().map(Link::connection)
            && connection.transaction_status() == TransactionStatus::Failed
            && let Err(error) = connection.simple_query("ROLLBACK").await
        {
            self.forget(&mut state, &error);
        }
        if state.link.is_some() {
            return self.lend(state, false);
        }
        self.may_replace(&state)?;
        let mut config = (self.shared.make_config)()?;
        config.connect_timeout = config.connect_timeout.or_else(|| self.timeout());
        state.link = Some(C::open(&config).await.map_err(PostgresError::Connection)?);
        state.lost = None;
        registry::register(&self.shared);
        self.lend(state, true)
    }

    /// The connection that there is; none is made.
    pub(super) async fn held(&self) -> Result<Connected<'_, C>, PostgresError> {
        self.known(self.shared.state.lock().await).await
    }

    /// The connection that there is, if nobody uses it now.
    pub(super) async fn idle(&self) -> Result<Option<Connected<'_, C>>, PostgresError> {
        match self.shared.state.try_lock() {
            Ok(state) => self.known(state).await.map(Some),
            Err(_) => Ok(None),
        }
    }

    async fn known<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<C>>,
    ) -> Result<Connected<'a, C>, PostgresError> {
        if let Some(error) = self.look(&mut state).await {
            return Err(PostgresError::Connection(error));
        }
        if state.link.is_none() {
            self.may_replace(&state)?;
        }
        self.lend(state, false)
    }

    /// Asks the server over the connection that there is; false if there is none, or none any more.
    pub(super) async fn check(&self, query: &str) -> Result<bool, PostgresError> {
        let mut state = self.shared.state.lock().await;
        drop(self.look(&mut state).await);
        if let Some(link) = &mut state.link {
            link.connection().set_read_timeout(self.timeout());
            match link.connection().simple_query(query).await {
                Ok(_) => return Ok(true),
                Err(error) => self.forget(&mut state, &error),
            }
        }
        self.may_replace(&state)?;
        Ok(false)
    }

    /// Forgets the connection if the server has ended it, and tells why.
    async fn look(&self, state: &mut State<C>) -> Option<Error> {
        let error = state.link.as_mut()?.connection().ended_by_server().await?;
        self.forget(state, &error);
        Some(error)
    }

    fn may_replace(&self, state: &State<C>) -> Result<(), PostgresError> {
        let is_needed = self.shared.is_in_backup.load(Ordering::Relaxed) || !self.allow_reconnect();
        match &state.lost {
            Some(reason) if is_needed => Err(PostgresError::ReconnectForbidden { reason: reason.clone() }),
            _ => Ok(()),
        }
    }

    fn lend<'a>(
        &self,
        state: MutexGuard<'a, State<C>>,
        is_new: bool,
    ) -> Result<Connected<'a, C>, PostgresError> {
        let Ok(mut link) = MutexGuard::try_map(state, |state| state.link.as_mut()) else {
            return Err(PostgresError::NoConnection);
        };
        link.connection().set_read_timeout(self.timeout());
        Ok(Connected { link, is_new })
    }

    pub(super) async fn has_connection(&self) -> bool {
        self.shared.state.lock().await.link.is_some()
    }

    fn forget(&self, state: &mut State<C>, error: &Error) {
        state.link = None;
        state.lost = Some(error.to_string());
        registry::unregister(Arc::as_ptr(&self.shared).cast());
    }

    pub(super) async fn close(&self) {
        Live::close(self.shared.as_ref()).await;
    }
}

/// Puts a statement together for a server's version. Not a type parameter: what runs the statement is the same for
/// all of them, and large.
pub(super) type Sql<'a> = &'a (dyn Fn(ServerVersion) -> String + Sync);

/// A statement and its parameters.
pub(super) type Statement<'a> = (&'a str, &'a [Option<&'a str>]);

impl Session<Connection> {
    /// Runs a statement that only reads: where the connection turns out to be lost, once more on another one.
    pub(super) async fn read(
        &self,
        what: &'static str,
        sql: Sql<'_>,
        params: &[Option<&str>],
    ) -> Result<ResultSet, PostgresError> {
        let connection = self.connect().await?;
        let sql = sql(connection.server_version().map_err(PostgresError::Connection)?);
        drop(connection);
        let results = self.read_all(what, &[(&sql, params)]).await?;
        let result = results.into_iter().next().unwrap_or(Err(Error::Closed));
        result.map_err(|error| PostgresError::failed(what, error))
    }

    /// Runs statements that only read in one round trip; each has its own result.
    pub(super) async fn read_all(
        &self,
        what: &'static str,
        statements: &[Statement<'_>],
    ) -> Result<Vec<Result<ResultSet, Error>>, PostgresError> {
        let mut connection = self.connect().await?;
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

impl<C: Link> Live for Shared<C> {
    fn class(&self) -> &'static str {
        self.class
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let mut state = self.state.lock().await;
            let link = state.link.take();
            state.lost = None;
            self.is_in_backup.store(false, Ordering::Relaxed);
            registry::unregister(core::ptr::from_ref(self).cast());
            drop(state);
            if let Some(link) = link
                && let Err(error) = link.close().await
            {
                log::debug!("closing a connection: {error}");
            }
        })
    }
}

/// The connection of an object, which nobody else uses while this is held.
pub struct Connected<'a, C: Link> {
    link: MappedMutexGuard<'a, C>,
    is_new: bool,
}

impl<C: Link> Connected<'_, C> {
    /// Whether a call that only reads may be made once more, on another connection: the one there was turned out
    /// to be lost. A server that is silent would be so again.
    pub(super) fn may_repeat(&self, error: &Error) -> bool {
        !self.is_new && error.is_connection_lost() && !error.is_timeout()
    }
}

impl<C: Link> Deref for Connected<'_, C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.link
    }
}

impl<C: Link> DerefMut for Connected<'_, C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.link
    }
}

impl<C: Link> fmt::Debug for Connected<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connected").field("is_new", &self.is_new).finish_non_exhaustive()
    }
}

impl<C: Link> fmt::Debug for Session<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.shared.class).field("parameters", &self.shared.parameters).finish_non_exhaustive()
    }
}
