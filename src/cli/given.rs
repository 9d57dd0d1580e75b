//! What the user gave to a command, repeated in hints so that they can be pasted.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use tapster::client::quote_ident;
use tapster::conninfo::{ConnInfo, KEYWORDS};

/// The connection, slot and directory of a command, and what the connection leads to.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    /// The connection's arguments for a shell, in the form that they had, but never with a password.
    pub(super) connection: String,
    /// The role that logs in, quoted where SQL needs that; empty if nothing is known.
    pub(super) role: String,
    /// The database, likewise.
    pub(super) database: String,
    pub(super) slot: Option<String>,
    /// The WAL archive.
    pub(super) directory: Option<PathBuf>,
}

impl Given {
    /// A command of this program for the same server: `slot create`, and what stands behind the connection.
    pub(super) fn tapster(&self, command: &str, more: &str) -> String {
        let words = ["tapster", command, &self.connection, more];
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// The slot for a shell.
    pub(super) fn slot(&self) -> Option<String> {
        self.slot.as_deref().map(|slot| for_shell(slot).into_owned())
    }

    /// The directory for a shell.
    pub(super) fn directory(&self) -> Option<String> {
        self.directory.as_deref().map(path_for_shell)
    }

    /// The role, or a placeholder.
    pub(super) fn role(&self) -> &str {
        if self.role.is_empty() { "ROLE" } else { &self.role }
    }

    /// The database, or a placeholder.
    pub(super) fn database(&self) -> &str {
        if self.database.is_empty() { "DATABASE" } else { &self.database }
    }
}

/// A connection string for a shell, without its passwords.
pub(super) fn connection_for_shell(connection: &str) -> String {
    let Ok(mut conninfo) = ConnInfo::from_dbname_argument(connection) else { return String::new() };
    let secrets: Vec<&str> =
        KEYWORDS.iter().filter(|keyword| keyword.secret).map(|keyword| keyword.name).collect();
    let removed = secrets.into_iter().filter(|name| conninfo.remove(name)).count();
    if removed == 0 { for_shell(connection).into_owned() } else { for_shell(&conninfo.encode()).into_owned() }
}

/// A word that a shell takes as it is.
pub(super) fn for_shell(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''")).into()
}

fn path_for_shell(path: &Path) -> String {
    // A path that is not UTF-8 cannot be written in a text; what is shown of it is at least quoted.
    for_shell(&path.to_string_lossy()).into_owned()
}

/// A name quoted for SQL and `pg_hba.conf`, where the server could not be asked.
pub(super) fn sql_name(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let is_word = || RESERVED.split_ascii_whitespace().any(|word| word == name);
    if is_plain && !is_word() { name.into() } else { quote_ident(name) }
}

/// Words that are no names in SQL, of any version, and words that mean something else in `pg_hba.conf`.
const RESERVED: &str = "all analyse analyze and any array as asc asymmetric authorization between bigint binary bit \
     boolean both case cast char character check coalesce collate collation column concurrently constraint create \
     cross current_catalog current_date current_role current_schema current_time current_timestamp current_user dec \
     decimal default deferrable desc distinct do else end except exists extract false fetch float for foreign freeze \
     from full grant greatest group grouping having ilike in initially inner inout int integer intersect interval into \
     is isnull join lateral leading least left like limit localtime localtimestamp merge_action national natural nchar \
     none normalize not notnull null nullif numeric offset on only or order out outer overlaps overlay placing position \
     precision primary real references replication returning right row samegroup samerole sameuser select session_user \
     setof similar smallint some substring symmetric system_user table tablesample then time timestamp to trailing \
     treat trim true union unique user using values varchar variadic verbose when where window with xmlattributes \
     xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_not_quoted() {
        for (name, quoted) in [
            ("barman", "barman"),
            ("_x1", "_x1"),
            ("Barman", "\"Barman\""),
            ("my-role", "\"my-role\""),
            ("a b", "\"a b\""),
            ("a\"b", "\"a\"\"b\""),
            ("it's", "\"it's\""),
            ("1x", "\"1x\""),
            ("all", "\"all\""),
            ("replication", "\"replication\""),
            ("user", "\"user\""),
        ] {
            assert_eq!(sql_name(name), quoted);
        }
    }

    #[test]
    fn a_connection_is_repeated_as_it_was_given_but_without_its_password() {
        for (given, repeated) in [
            ("service=db1", "service=db1"),
            ("shop", "shop"),
            ("host=db1 user='it''s'", ""),
            (r"host=db1 user='it\'s'", r"'host=db1 user='\''it\'\''s'\'''"),
            ("postgresql://u@db1/shop?sslmode=require", "'postgresql://u@db1/shop?sslmode=require'"),
            ("host=db1 password=s3cret user=u", "'host=db1 user=u'"),
            ("postgresql://u:s3cret@db1:5433/shop", "'dbname=shop host=db1 port=5433 user=u'"),
        ] {
            let shown = connection_for_shell(given);
            let sorted = |text: &str| {
                let mut words: Vec<String> = text.trim_matches('\'').split(' ').map(String::from).collect();
                words.sort();
                words
            };
            assert!(!shown.contains("s3cret"));
            assert_eq!(sorted(&shown), sorted(repeated), "{given}: {shown}");
        }
        let given = Given { connection: "service=db1".into(), ..Given::default() };
        assert_eq!(given.tapster("slot create", "tap"), "tapster slot create service=db1 tap");
        assert_eq!(Given::default().tapster("check", ""), "tapster check");
        assert_eq!((for_shell("a b"), for_shell("")), ("'a b'".into(), "''".into()));
    }
}
