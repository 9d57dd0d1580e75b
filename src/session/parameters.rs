use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;

use crate::codec::ParameterStatus;
use crate::types::{ServerVersion, text_of};

/// The settings that a server reports, kept up to date by its `ParameterStatus` messages.
///
/// # Limits
/// 64 settings and 16 KiB of text; a PostgreSQL 18 reports 15 settings in about 400 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionParameters {
    values: BTreeMap<String, String>,
    bytes: usize,
}

const MAX_SETTINGS: usize = 64;
const MAX_BYTES: usize = 16 * 1024;

impl SessionParameters {
    /// The value of a setting, if the server reports it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Names and values in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The server's version, if the server reports one that can be parsed.
    #[must_use]
    pub fn server_version(&self) -> Option<ServerVersion> {
        self.get("server_version")?.parse().ok()
    }

    /// Stores a reported setting.
    ///
    /// # Errors
    /// If the setting would make the table larger than its limits; the table then stays as it was.
    pub fn update(&mut self, status: &ParameterStatus<'_>) -> Result<(), TooManyParameters> {
        let name = text_of(status.name);
        let value = text_of(status.value);
        let (old, entries) = match self.values.get(&name) {
            Some(old) => (name.len().saturating_add(old.len()), self.values.len()),
            None => (0, self.values.len().saturating_add(1)),
        };
        let new = name.len().saturating_add(value.len());
        let bytes = self.bytes.saturating_sub(old).saturating_add(new);
        if entries > MAX_SETTINGS || bytes > MAX_BYTES {
            return Err(TooManyParameters(()));
        }
        self.bytes = bytes;
        self.values.insert(name, value);
        Ok(())
    }
}

/// The server reports more settings than any PostgreSQL has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyParameters(());

impl fmt::Display for TooManyParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server reports more settings than any PostgreSQL server has")
    }
}

impl core::error::Error for TooManyParameters {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;

    #[test]
    fn a_new_report_replaces_the_old_one() {
        let mut parameters = SessionParameters::default();
        for value in ["15.18 (Debian)", "18.4"] {
            let status = ParameterStatus { name: b"server_version", value: value.as_bytes() };
            parameters.update(&status).unwrap();
        }
        assert_eq!(parameters.server_version().map(ServerVersion::num), Some(180_004));
        assert_eq!(parameters.iter().count(), 1);
    }

    #[test]
    fn a_flood_of_names_is_refused() {
        let mut parameters = SessionParameters::default();
        for i in 0..MAX_SETTINGS {
            let name = format!("p{i}");
            parameters.update(&ParameterStatus { name: name.as_bytes(), value: b"" }).unwrap();
        }
        assert!(parameters.update(&ParameterStatus { name: b"one_more", value: b"" }).is_err());
        assert!(parameters.update(&ParameterStatus { name: b"p0", value: b"changed" }).is_ok());
    }

    #[test]
    fn a_flood_of_bytes_is_refused_and_replacing_a_value_frees_its_bytes() {
        let mut parameters = SessionParameters::default();
        let long = vec![b'x'; MAX_BYTES - 1];
        for _ in 0..3 {
            parameters.update(&ParameterStatus { name: b"n", value: &long }).unwrap();
        }
        assert!(parameters.update(&ParameterStatus { name: b"m", value: b"" }).is_err());
    }
}
