//! Makes objects of the `postgres` classes from the command line's arguments.

use super::about::About;
use super::connection::Target;
use super::failure::Failure;
use super::given::Given;
use tapster::postgres::{
    ConnectionOptions, PostgreSQL as _, PostgreSQLConnection, PostgresError, Privilege, StreamingConnection,
};
use tapster::types::ServerVersion;

/// A connected object, one for the replication protocol that is not connected yet, and what is known
/// about the server.
pub(super) struct Postgres {
    pub(super) postgres: PostgreSQLConnection,
    pub(super) streaming: StreamingConnection,
    pub(super) about: About,
    /// What hints repeat.
    pub(super) given: Given,
}

impl Postgres {
    /// Awaits `work` of this server. Its failure is one about the server.
    pub(super) async fn ask<T, E: Into<Failure>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        work.await.map_err(|error| error.into().about(&self.about).given(&self.given))
    }

    /// As [`ask`](Self::ask). If the role lacks one of the privileges that `needed` gives for the server's version, the
    /// hint is the statements that grant them.
    pub(super) async fn ask_with<T, E: Into<Failure>>(
        &self,
        needed: fn(ServerVersion) -> Vec<Privilege>,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        match self.ask(work).await {
            Err(failure) => Err(with_grants(&self.postgres, &self.given, needed, failure).await),
            done => done,
        }
    }
}

impl Target {
    /// Connects, and asks for a password where the server wants one.
    pub(super) async fn connect_postgres(&mut self, slot_name: Option<&str>) -> Result<Postgres, Failure> {
        self.with_password(async |target| {
            let (postgres, streaming) = target.unconnected(slot_name)?;
            let about = About::connected(&*postgres.connect().await?);
            Ok(Postgres { postgres, streaming, about, given: target.given() })
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

/// The failure with the statements that grant what the role lacks of `needed`, if that is the cause and the server
/// tells. Otherwise the failure as it is.
pub(super) async fn with_grants(
    postgres: &PostgreSQLConnection,
    given: &Given,
    needed: fn(ServerVersion) -> Vec<Privilege>,
    failure: Failure,
) -> Failure {
    if !failure.lacks_privilege() {
        return failure;
    }
    match grants(postgres, given, needed).await {
        Ok(lines) if !lines.is_empty() => failure.with_lines(lines),
        _ => failure,
    }
}

async fn grants(
    postgres: &PostgreSQLConnection,
    given: &Given,
    needed: fn(ServerVersion) -> Vec<Privilege>,
) -> Result<Vec<String>, PostgresError> {
    let version = postgres.server_version().await?;
    let (status, readiness) = postgres.fetch_readiness().await?;
    let needed = needed(version);
    let only_superuser = needed.is_empty();
    let missing = postgres.missing_privileges(needed).await?;
    let statements = grant_statements(&missing, only_superuser, &readiness.role);
    if statements.is_empty() {
        return Ok(statements);
    }
    let on_primary = if status.is_in_recovery == Some(true) { " of the primary" } else { "" };
    let place = format!("as a superuser, in the database {}{on_primary}:", given.database());
    Ok([place].into_iter().chain(statements).collect())
}

/// The statements that grant these privileges to the role, which is quoted already. Where no privilege suffices only a
/// superuser may do it.
pub(super) fn grant_statements(missing: &[Privilege], only_superuser: bool, role: &str) -> Vec<String> {
    if only_superuser {
        return Vec::from([format!("ALTER ROLE {role} SUPERUSER;")]);
    }
    missing.iter().map(|privilege| format!("{} {role};", privilege.grant)).collect()
}
