//! The status of a server, and further statements in the same round trip.

use std::prelude::v1::*;

use super::connection::PostgreSQLConnection;
use super::error::PostgresError;
use super::postgresql::{PostgreSQL, versions};
use super::read::{only_row, readable};
use super::readiness::{Readiness, SlotAvailability};
use super::slots::SlotStatus;
use super::sql::{self, StatusPart};
use super::status::{PostgresStatus, StatusError};
use super::wal_senders::WalSender;
use crate::client::{ColumnError, Error, ResultSet, Row};
use crate::types::ServerVersion;

const WHAT: &str = "asking for the status";
/// The first release that reports how close a slot is to being lost.
const SLOT_AVAILABILITY: ServerVersion = ServerVersion::release(13);

/// A server as of one moment: its status, its replication clients and its slots.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Overview {
    /// The status; its `connection_error` is `None`.
    pub status: PostgresStatus,
    /// The replication clients, by application name and process.
    pub wal_senders: Vec<WalSender>,
    /// All replication slots, by name.
    pub slots: Vec<SlotStatus>,
}

impl PostgreSQLConnection {
    /// The status with all replication clients and slots, in one round trip.
    ///
    /// # Errors
    /// If the connection fails, or the server refuses to list the clients or the slots. If the server refuses
    /// a value of the status, [`PostgresStatus::errors`] has the reason.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn fetch_overview(&self) -> Result<Overview, PostgresError> {
        let more = |version| Vec::from([sql::wal_senders(version), sql::slots(version)]);
        let (status, results) = self.gather_status(more).await?;
        let mut results = results.into_iter();
        let wal_senders = rows("asking for replication clients", results.next(), WalSender::read)?;
        let slots = rows("asking for slots", results.next(), SlotStatus::read)?;
        Ok(Overview { status, wal_senders, slots })
    }

    /// The status, and everything else that decides whether the role can receive WAL and take backups, in one
    /// round trip.
    ///
    /// # Errors
    /// If the connection fails, or the server refuses a value of [`Readiness`]. If the server refuses a value
    /// of the status, [`PostgresStatus::errors`] has the reason.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn fetch_readiness(&self) -> Result<(PostgresStatus, Readiness), PostgresError> {
        let what = "asking for what receiving needs";
        let has_slot = self.slot_name().is_some();
        let more = |version| {
            let mut statements = Vec::from([sql::READINESS.to_string()]);
            if has_slot && version >= SLOT_AVAILABILITY {
                statements.push(sql::SLOT_AVAILABILITY.to_string());
            }
            statements
        };
        let (status, results) = self.gather_status(more).await?;
        let mut results = results.into_iter();
        let readiness = result(what, results.next())?;
        let slot = match results.next() {
            Some(slot) => rows("asking for the slot", Some(slot), SlotAvailability::read)?.pop(),
            None => None,
        };
        let readiness = readable(what, only_row(&readiness).and_then(|row| Readiness::read(row, slot)))?;
        Ok((status, readiness))
    }

    pub(super) async fn fetch_status(&self) -> PostgresStatus {
        match self.gather_status(|_| Vec::new()).await {
            Ok((status, _)) => status,
            Err(error) => {
                let connection_error = Some(StatusError::of(&error));
                PostgresStatus { connection_error, ..PostgresStatus::default() }
            }
        }
    }

    /// The status, and the results of the statements that `more` returns for the server's version. The only
    /// parameter that a statement may have is the slot's name.
    async fn gather_status(
        &self,
        more: impl FnOnce(ServerVersion) -> Vec<String>,
    ) -> Result<(PostgresStatus, Vec<Result<ResultSet, Error>>), PostgresError> {
        let connection = self.reconnecting.connect().await?;
        let (version, text) = versions(&connection)?;
        let mut status = PostgresStatus {
            server_txt_version: Some(text),
            version_supported: Some(version >= Self::MINIMAL_VERSION),
            replication_slot_support: Some(true),
            ..PostgresStatus::default()
        };
        let params: Vec<Option<&str>> = self.slot_name().map(Some).into_iter().collect();
        let parts = sql::status_parts(version, !params.is_empty());
        let statements: Vec<String> = [sql::status(&parts)].into_iter().chain(more(version)).collect();
        let batch: Vec<_> =
            statements.iter().map(|sql| (sql.as_str(), params_used_by(sql, &params))).collect();
        let mut results = self.reconnecting.read_on(connection, WHAT, &batch).await?.into_iter();
        match results.next() {
            Some(Ok(set)) => status.set_from(&set),
            _ => self.gather_parts(&mut status, &parts, &params).await?,
        }
        Ok((status, results.collect()))
    }

    /// Asks for each part by itself, because the server refused one of them. The status gets the values of
    /// the other parts, and the reason of the refusal.
    async fn gather_parts(
        &self,
        status: &mut PostgresStatus,
        parts: &[StatusPart],
        params: &[Option<&str>],
    ) -> Result<(), PostgresError> {
        let batch: Vec<_> =
            parts.iter().map(|part| (part.sql.as_str(), params_used_by(&part.sql, params))).collect();
        let connection = self.reconnecting.connect().await?;
        let results = self.reconnecting.read_on(connection, WHAT, &batch).await?;
        for (part, result) in parts.iter().zip(results) {
            match result {
                Ok(set) => status.set_from(&set),
                Err(error) => {
                    let error = StatusError::of(&PostgresError::Connection(error));
                    status.errors.extend(part.keys.iter().map(|key| (*key, error.clone())));
                }
            }
        }
        Ok(())
    }
}

/// The parameters that `sql` uses: all of them, or none.
fn params_used_by<'a>(sql: &str, params: &'a [Option<&'a str>]) -> &'a [Option<&'a str>] {
    if sql.contains("$1") { params } else { &[] }
}

/// The result of the statement `what`, or why it failed.
fn result(what: &'static str, result: Option<Result<ResultSet, Error>>) -> Result<ResultSet, PostgresError> {
    result.unwrap_or(Err(Error::Closed)).map_err(|error| PostgresError::failed(what, error))
}

fn rows<T>(
    what: &'static str,
    set: Option<Result<ResultSet, Error>>,
    read: fn(Row<'_>) -> Result<T, ColumnError>,
) -> Result<Vec<T>, PostgresError> {
    readable(what, result(what, set)?.rows().map(read).collect())
}
