//! What every new ordinary session of the classes is set to, by one statement after the login.
//!
//! Not by the startup parameter `options`: poolers refuse it (PgBouncer, RDS Proxy).

use std::format;
use std::string::String;

use crate::client::{Connection, Error};
use crate::conninfo::Config;

/// Sets a new session up. Every setting that all sessions need belongs into this one statement.
pub(super) async fn apply(connection: &mut Connection, config: &Config) -> Result<(), Error> {
    if sets_search_path(config.options.as_deref().unwrap_or_default()) {
        return Ok(());
    }
    let process_id = connection.cancel_key().map(|key| key.process_id);
    connection.simple_query(&statement(process_id)).await.map(drop)
}

/// Empties `search_path`. The classes qualify every name with its schema; this is for what cannot be qualified, such
/// as some operators.
///
/// A pooler gives the key of a session of its own, whose process is not the server's. Behind one, the setting ends
/// with the statement: the pooler may give the server's session to another client next, who would not find its
/// tables.
fn statement(process_id: Option<i32>) -> String {
    let is_pooled = match process_id {
        Some(id) => format!("pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.<>) ({id})"),
        None => "true".into(),
    };
    format!("SELECT pg_catalog.set_config('search_path', '', {is_pooled})")
}

/// Whether the user's own `options` say what `search_path` shall be.
fn sets_search_path(options: &str) -> bool {
    options.to_ascii_lowercase().replace('-', "_").contains("search_path")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_own_search_path_stays() {
        for options in ["-c search_path=mine", "-csearch_path=", "--search-path=a", "-c SEARCH_PATH=b"] {
            assert!(sets_search_path(options), "{options}");
        }
        assert!(!sets_search_path("-c work_mem=1MB") && !sets_search_path(""));
    }

    #[test]
    fn without_a_key_nothing_outlasts_the_statement() {
        assert!(statement(None).ends_with("'', true)"));
        assert!(statement(Some(-7)).ends_with("<>) (-7))"));
    }
}
