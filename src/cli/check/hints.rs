//! Hints that can be pasted. Statements end with a semicolon; commands, lines for a file and instructions do not.

use super::super::advice::{SCRAM, remedy};
use super::super::failure::Failure;
use super::super::given::Given;
use tapster::postgres::Readiness;
use tapster::types::Advice;

pub(super) const RESTART: &str = "then restart the server";

/// What an ordinary connection lacks.
pub(super) fn connection(failure: &Failure, given: &Given) -> Vec<String> {
    let advice = failure.advice();
    if let Some(lines) = advice.and_then(|advice| remedy(advice, given)) {
        return lines;
    }
    match advice {
        Some(Advice::CheckPassword) => {
            let method =
                "one that is stored as MD5 (before 14: unless told) needs the method md5 in pg_hba.conf";
            let files =
                "give the right password in ~/.pgpass or PGPASSWORD; where the present one comes from:";
            Vec::from([files.into(), given.tapster("conninfo", ""), method.into()])
        }
        Some(Advice::AllowLogin | Advice::GrantPrivilege) => {
            Vec::from(["the server's log, or the pooler's, says more".into()])
        }
        Some(Advice::NameDatabase) => {
            Vec::from(["name a database that exists, in the connection string or with -d".into()])
        }
        Some(Advice::GivePassword) => {
            Vec::from(["give the password by PGPASSWORD, or by a line of ~/.pgpass".into()])
        }
        _ => Vec::from([given.tapster("conninfo", "")]),
    }
}

/// The method of `pg_hba.conf` that takes passwords as this server stores them. Before 14 that is MD5 unless told;
/// the method `md5` takes SCRAM as well.
pub(super) fn password_method(readiness: &Readiness) -> &'static str {
    if readiness.password_encryption == SCRAM { SCRAM } else { "md5" }
}
