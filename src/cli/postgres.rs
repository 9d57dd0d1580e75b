//! Makes objects of the `postgres` classes from the command line's arguments.

use super::connection::Target;
use super::failure::Failure;
use tapster::client::ServerName;
use tapster::postgres::{ConnectionOptions, PostgreSQL as _, PostgreSQLConnection, StreamingConnection};

/// A connected object, one for the replication protocol that is not connected yet, and the name of the server.
pub(super) struct Postgres {
    pub(super) postgres: PostgreSQLConnection,
    pub(super) streaming: StreamingConnection,
    pub(super) server: ServerName,
}

impl Target {
    /// Connects, and asks for a password where the server wants one.
    pub(super) async fn connect_postgres(&mut self, slot_name: Option<&str>) -> Result<Postgres, Failure> {
        self.with_password(async |target| {
            let (postgres, streaming) = target.unconnected(slot_name)?;
            let server = postgres.connect().await?.server().clone();
            Ok(Postgres { postgres, streaming, server })
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
