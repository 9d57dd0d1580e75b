//! Parameters whose value is one of a few words.

use std::prelude::v1::*;

use super::ConnInfoError;
use crate::codec::ProtocolVersion;

/// The value that `words` lists for `word`. Words are case-sensitive, as in libpq.
pub(super) fn choose<T: Copy>(keyword: &str, word: &str, words: &[(&str, T)]) -> Result<T, ConnInfoError> {
    let found = words.iter().find(|(known, _)| *known == word);
    found.map(|&(_, value)| value).ok_or_else(|| ConnInfoError::invalid_value(keyword, word))
}

/// `target_session_attrs`: which servers of the list may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TargetSessionAttrs {
    /// Every server.
    #[default]
    Any,
    /// Sessions are read-write by default: no standby, and `default_transaction_read_only` is off.
    ReadWrite,
    /// Sessions are read-only by default.
    ReadOnly,
    /// Servers that are not in hot standby.
    Primary,
    /// Servers in hot standby.
    Standby,
    /// A standby if the list has one, else any server.
    PreferStandby,
}

impl TargetSessionAttrs {
    pub(super) fn parse(word: &str) -> Result<Self, ConnInfoError> {
        choose(
            "target_session_attrs",
            word,
            &[
                ("any", Self::Any),
                ("read-write", Self::ReadWrite),
                ("read-only", Self::ReadOnly),
                ("primary", Self::Primary),
                ("standby", Self::Standby),
                ("prefer-standby", Self::PreferStandby),
            ],
        )
    }
}

/// `load_balance_hosts`: in which order hosts and the addresses of each are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LoadBalanceHosts {
    /// Hosts in the order written, addresses in the order that the look-up returns.
    #[default]
    Disable,
    /// In random order.
    Random,
}

impl LoadBalanceHosts {
    pub(super) fn parse(word: &str) -> Result<Self, ConnInfoError> {
        choose("load_balance_hosts", word, &[("disable", Self::Disable), ("random", Self::Random)])
    }
}

/// The version that `latest` stands for.
pub(super) const LATEST_PROTOCOL: ProtocolVersion = ProtocolVersion::V3_2;

/// The protocol version that a word stands for. There never was a version 3.1.
pub(super) fn protocol_version(keyword: &str, word: &str) -> Result<ProtocolVersion, ConnInfoError> {
    let words = [("latest", LATEST_PROTOCOL), ("3.0", ProtocolVersion::V3_0), ("3.2", ProtocolVersion::V3_2)];
    choose(keyword, word, &words)
}

/// `replication`: the kind of session to ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Replication {
    /// An ordinary session (`false`, or not given).
    #[default]
    None,
    /// A session for physical replication (`true`), which belongs to no database.
    Physical,
    /// A session that replicates a database logically (`database`); it accepts SQL as well.
    Database,
}

impl Replication {
    /// Parses `database`, or any spelling of a boolean that the server accepts for a setting.
    pub(super) fn parse(text: &str) -> Result<Self, ConnInfoError> {
        if text == "database" {
            return Ok(Self::Database);
        }
        let word = text.to_ascii_lowercase();
        let abbreviates = |full: &str, least| word.len() >= least && full.starts_with(&word);
        if word == "1" || abbreviates("true", 1) || abbreviates("yes", 1) || abbreviates("on", 2) {
            Ok(Self::Physical)
        } else if word.is_empty()
            || word == "0"
            || abbreviates("false", 1)
            || abbreviates("no", 1)
            || abbreviates("off", 2)
        {
            Ok(Self::None)
        } else {
            Err(ConnInfoError::invalid_value("replication", text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_must_match_exactly() {
        assert_eq!(TargetSessionAttrs::parse("prefer-standby"), Ok(TargetSessionAttrs::PreferStandby));
        assert_eq!(LoadBalanceHosts::parse("random"), Ok(LoadBalanceHosts::Random));
        for error in [
            TargetSessionAttrs::parse("").unwrap_err(),
            TargetSessionAttrs::parse("Any").unwrap_err(),
            LoadBalanceHosts::parse("on").unwrap_err(),
        ] {
            assert!(error.to_string().starts_with("invalid "), "{error}");
        }
    }

    #[test]
    fn only_protocol_versions_3_0_and_3_2_exist() {
        let parse = |word| protocol_version("max_protocol_version", word).ok();
        assert_eq!(parse("3.0"), Some(ProtocolVersion::V3_0));
        assert_eq!(parse("3.2"), Some(ProtocolVersion::V3_2));
        assert_eq!(parse("latest"), Some(ProtocolVersion::V3_2));
        for word in ["", "3", "3.1", "3.3", "2.0", "Latest"] {
            assert_eq!(parse(word), None, "{word}");
        }
    }

    #[test]
    fn replication_accepts_the_servers_spellings_of_booleans() {
        for word in ["true", "TRUE", "t", "tr", "yes", "y", "on", "1"] {
            assert_eq!(Replication::parse(word), Ok(Replication::Physical), "{word}");
        }
        for word in ["false", "F", "no", "n", "off", "of", "0", ""] {
            assert_eq!(Replication::parse(word), Ok(Replication::None), "{word}");
        }
        assert_eq!(Replication::parse("database"), Ok(Replication::Database));
        for word in ["Database", "o", "2", "truee", "physical", " true"] {
            assert!(Replication::parse(word).is_err(), "{word}");
        }
    }
}
