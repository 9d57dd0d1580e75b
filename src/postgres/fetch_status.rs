//! The status of a server, and what else is asked in the same round trip.

use std::prelude::v1::*;

use super::connection::PostgreSQLConnection;
use super::error::PostgresError;
use super::postgresql::{PostgreSQL, first_line, versions};
use super::read::{only_row, readable};
use super::readiness::{Readiness, SlotAvailability};
use super::slots::SlotStatus;
use super::sql::{self, StatusPart};
use super::status::{PostgresStatus, StatusError};
use super::wal_senders::WalSender;
use crate::client::{ColumnError, Error, ResultSet, Row};
use crate::types::ServerVersion;

const WHAT: &str = "asking for the status";
/// The first release that tells how close a slot is to being lost.
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
    /// The connection's, or the server's about the clients or the slots. What the server refuses of the status is
    /// in [`PostgresStatus::errors`].
    pub async fn fetch_overview(&self) -> Result<Overview, PostgresError> {
        let more = |version| Vec::from([sql::wal_senders(version), sql::slots(version)]);
        let (status, results) = self.gather_status(more).await?;
        let mut results = results.into_iter();
        let wal_senders = rows("asking for replication clients", results.next(), WalSender::read)?;
        let slots = rows("asking for slots", results.next(), SlotStatus::read)?;
        Ok(Overview { status, wal_senders, slots })
    }

    /// The status with what else decides whether the role can receive WAL and take backups, in one round trip.
    ///
    /// # Errors
    /// The connection's, or the server's. What the server refuses of the status is in
    /// [`PostgresStatus::errors`].
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
                let (message, sqlstate) = (first_line(&error), error.sqlstate());
                let connection_error = Some(StatusError { message, sqlstate });
                PostgresStatus { connection_error, ..PostgresStatus::default() }
            }
        }
    }

    /// The status, and the results of the statements that `more` gives for the server's version. Where a statement
    /// has a parameter it is the slot's name.
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
        let batch: Vec<_> = statements.iter().map(|sql| (sql.as_str(), used(sql, &params))).collect();
        let mut results = self.reconnecting.read_on(connection, WHAT, &batch).await?.into_iter();
        match results.next() {
            Some(Ok(set)) => status.take(&set),
            _ => self.gather_parts(&mut status, &parts, &params).await?,
        }
        Ok((status, results.collect()))
    }

    /// Asks for each part by itself, as the server refused one: the others are taken, and of that one the reason.
    async fn gather_parts(
        &self,
        status: &mut PostgresStatus,
        parts: &[StatusPart],
        params: &[Option<&str>],
    ) -> Result<(), PostgresError> {
        let batch: Vec<_> = parts.iter().map(|part| (part.sql.as_str(), used(&part.sql, params))).collect();
        let connection = self.reconnecting.connect().await?;
        let results = self.reconnecting.read_on(connection, WHAT, &batch).await?;
        for (part, result) in parts.iter().zip(results) {
            match result {
                Ok(set) => status.take(&set),
                Err(error) => {
                    let (message, sqlstate) = (first_line(&error), error.sqlstate());
                    let error = StatusError { message, sqlstate };
                    status.errors.extend(part.keys.iter().map(|key| (*key, error.clone())));
                }
            }
        }
        Ok(())
    }
}

/// The parameters that `sql` uses: all, or none.
fn used<'a>(sql: &str, params: &'a [Option<&'a str>]) -> &'a [Option<&'a str>] {
    if sql.contains("$1") { params } else { &[] }
}

/// The result of the statement `what`, or why there is none.
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
