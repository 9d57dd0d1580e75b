//! Makes objects of the `postgres` classes from the command line's arguments.

use super::about::About;
use super::connection::Target;
use super::failure::Failure;
use tapster::postgres::{ConnectionOptions, PostgreSQL as _, PostgreSQLConnection, StreamingConnection};

/// A connected object, one for the replication protocol that is not connected yet, and what is known
/// about the server.
pub(super) struct Postgres {
    pub(super) postgres: PostgreSQLConnection,
    pub(super) streaming: StreamingConnection,
    pub(super) about: About,
}

impl Postgres {
    /// Awaits `work` of this server. Its failure is one about the server.
    pub(super) async fn ask<T, E: Into<Failure>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        work.await.map_err(|error| error.into().about(&self.about))
    }
}

impl Target {
    /// Connects, and asks for a password where the server wants one.
    pub(super) async fn connect_postgres(&mut self, slot_name: Option<&str>) -> Result<Postgres, Failure> {
        self.with_password(async |target| {
            let (postgres, streaming) = target.unconnected(slot_name)?;
            let about = About::connected(&*postgres.connect().await?);
            Ok(Postgres { postgres, streaming, about })
        })
        .await
    }

    /// The objects, without connections.
    pub(super) fn unconnected(
        &self,
        slot_name: Option<&str>,
    ) -> Result<(PostgreSQLConnection, StreamingConnection), Failure> {
        let mut options = ConnectionOptions::default();
        options.slot_name = slot_name.map(str::to_string);
        options.application_name = self.application_name()?;
        options.environment = self.environment().clone();
        // A StreamingConnection takes no options but its conninfo.
        let mut conninfo = self.conninfo().clone();
        if conninfo.get("application_name").is_none() {
            conninfo.set("application_name", options.application_name.as_str())?;
        }
        let streaming = StreamingConnection::with_environment(&conninfo, options.environment.clone())?;
        let postgres = PostgreSQLConnection::with_options(conninfo, options)?;
        postgres.set_timeout(self.timeout());
        streaming.set_timeout(self.timeout());
        Ok((postgres, streaming))
    }
}
