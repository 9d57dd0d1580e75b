//! What every new ordinary session of the classes is set to, by one statement after the login.
//!
//! Not by the startup parameter `options`: poolers refuse it (PgBouncer, RDS Proxy).

use std::format;
use std::string::String;
use std::vec::Vec;

use crate::client::{Connection, Error};
use crate::conninfo::Config;
use crate::types::ServerVersion;

/// Settings with which a role, a database or the server would cancel our statements or end the session, and the version that
/// brought each. Ours is the limit that the caller sets ([`set_timeout`](super::PostgreSQL::set_timeout)): a checkpoint,
/// or the stop of a backup, takes as long as it takes.
///
/// `idle_session_timeout` is left alone but during a backup: an idle object connects again.
const TIMEOUTS: [(&str, ServerVersion); 3] = [
    ("statement_timeout", OLDEST),
    ("lock_timeout", OLDEST),
    ("transaction_timeout", ServerVersion::release(17)),
];
const OLDEST: ServerVersion = ServerVersion::release(10);

/// Sets a new session up. Every setting that all sessions need belongs into this one statement.
pub(super) async fn apply(connection: &mut Connection, config: &Config) -> Result<(), Error> {
    let process_id = connection.cancel_key().map(|key| key.process_id);
    let version = connection.server_version().unwrap_or(OLDEST);
    let options = config.options.as_deref().unwrap_or_default();
    match statement(process_id, version, options) {
        Some(statement) => connection.simple_query(&statement).await.map(drop),
        None => Ok(()),
    }
}

/// Empties `search_path`, and switches the timeouts off; `None` if the user's own options say all that. The classes
/// qualify every name with its schema; an empty `search_path` is for what cannot be qualified, such as some operators.
///
/// A database without an encoding has names of any bytes. With another `client_encoding`, which `PGCLIENTENCODING`, the
/// role or the database may say, the server would refuse to send one that is not valid there, and the rest with it.
///
/// A pooler gives the key of a session of its own, whose process is not the server's. Behind one, the settings end
/// with the statement: the pooler may give the server's session to another client next, who would not find its
/// tables.
fn statement(process_id: Option<i32>, version: ServerVersion, options: &str) -> Option<String> {
    let is_pooled = match process_id {
        Some(id) => format!("pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.<>) ({id})"),
        None => "true".into(),
    };
    let timeouts = TIMEOUTS.iter().filter(|(_, since)| version >= *since).map(|(name, _)| (*name, "0"));
    let raw = format!(
        "CASE WHEN pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'SQL_ASCII' \
         THEN pg_catalog.set_config('client_encoding', 'SQL_ASCII', {is_pooled}) END"
    );
    let raw = (!sets(options, "client_encoding")).then_some(raw);
    let settings = [("search_path", "")].into_iter().chain(timeouts);
    let settings = settings
        .filter(|(name, _)| !sets(options, name))
        .map(|(name, value)| format!("pg_catalog.set_config('{name}', '{value}', {is_pooled})"));
    let calls: Vec<String> = settings.chain(raw).collect();
    if calls.is_empty() { None } else { Some(format!("SELECT {}", calls.join(", "))) }
}

/// Whether the user's own `options` say what the setting shall be.
fn sets(options: &str, name: &str) -> bool {
    options.to_ascii_lowercase().replace('-', "_").contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: ServerVersion = ServerVersion::release(18);

    #[test]
    fn what_the_user_sets_stays() {
        for options in ["-c search_path=mine", "-csearch_path=", "--search-path=a", "-c SEARCH_PATH=b"] {
            assert!(!statement(Some(7), NEW, options).unwrap().contains("search_path"), "{options}");
        }
        for options in ["-c work_mem=1MB", ""] {
            assert!(statement(Some(7), NEW, options).unwrap().contains("'search_path', ''"), "{options}");
        }
        let kept = statement(Some(7), NEW, "-c statement_timeout=5s").unwrap();
        assert!(!kept.contains("statement_timeout") && kept.contains("'lock_timeout', '0'"), "{kept}");
    }

    #[test]
    fn no_server_is_asked_for_a_setting_that_it_does_not_have() {
        let old = statement(Some(7), ServerVersion::release(13), "").unwrap();
        assert!(old.contains("'statement_timeout', '0'") && !old.contains("transaction_timeout"), "{old}");
        assert!(statement(Some(7), NEW, "").unwrap().contains("'transaction_timeout', '0'"));
    }

    #[test]
    fn without_a_key_nothing_outlasts_the_statement() {
        assert!(statement(None, NEW, "").unwrap().ends_with("'SQL_ASCII', true) END"));
        assert!(statement(Some(-7), NEW, "").unwrap().ends_with("<>) (-7)) END"));
    }
}
