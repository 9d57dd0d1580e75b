use crate::types::ServerVersion;

/// Names that PostgreSQL has changed: newest name, first release with it, name before.
const RENAMED: [(&str, ServerVersion, &str); 14] = {
    const V10: ServerVersion = ServerVersion::release(10);
    const V15: ServerVersion = ServerVersion::release(15);
    [
        ("pg_backup_start", V15, "pg_start_backup"),
        ("pg_backup_stop", V15, "pg_stop_backup"),
        ("pg_switch_wal", V10, "pg_switch_xlog"),
        ("pg_walfile_name", V10, "pg_xlogfile_name"),
        ("pg_walfile_name_offset", V10, "pg_xlogfile_name_offset"),
        ("pg_wal", V10, "pg_xlog"),
        ("pg_last_wal_replay_lsn", V10, "pg_last_xlog_replay_location"),
        ("pg_last_wal_receive_lsn", V10, "pg_last_xlog_receive_location"),
        ("pg_current_wal_lsn", V10, "pg_current_xlog_location"),
        ("pg_current_wal_insert_lsn", V10, "pg_current_xlog_insert_location"),
        ("sent_lsn", V10, "sent_location"),
        ("write_lsn", V10, "write_location"),
        ("flush_lsn", V10, "flush_location"),
        ("replay_lsn", V10, "replay_location"),
    ]
};

/// The server's names for functions, columns and the WAL directory, which other versions name differently.
///
/// The keys are the newest names; from PostgreSQL 15 on every name is its own key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameMap {
    version: ServerVersion,
}

impl NameMap {
    /// The names of a server of this version.
    #[must_use]
    pub const fn new(version: ServerVersion) -> Self {
        Self { version }
    }

    /// The newest names, for a server whose version is not known.
    #[must_use]
    pub const fn newest() -> Self {
        Self::new(ServerVersion::release(15))
    }

    /// The server's name for what is called `key` today; `None` if that name has never changed.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'static str> {
        self.iter().find(|(newest, _)| *newest == key).map(|(_, name)| name)
    }

    /// Every key with the server's name for it.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
        let version = self.version;
        RENAMED
            .into_iter()
            .map(move |(newest, since, before)| (newest, if version >= since { newest } else { before }))
    }

    /// As [`get`](Self::get), for names that may never have changed.
    pub(super) fn name(self, key: &'static str) -> &'static str {
        self.get(key).unwrap_or(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_changed_in_10_and_in_15() {
        for (version, function, position) in [
            (90_624, "pg_start_backup", "pg_current_xlog_location"),
            (100_000, "pg_start_backup", "pg_current_wal_lsn"),
            (149_999, "pg_start_backup", "pg_current_wal_lsn"),
            (150_000, "pg_backup_start", "pg_current_wal_lsn"),
        ] {
            let names = NameMap::new(ServerVersion::from_num(version));
            assert_eq!(names.get("pg_backup_start"), Some(function));
            assert_eq!(names.get("pg_current_wal_lsn"), Some(position));
            assert_eq!(names.get("pg_is_in_recovery"), None);
            assert_eq!(names.name("pg_is_in_recovery"), "pg_is_in_recovery");
        }
        assert!(NameMap::newest().iter().all(|(key, name)| key == name));
    }
}
