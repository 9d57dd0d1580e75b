use tapster::client::{self, ColumnError, ResultSet};

/// What only the checks want to know.
pub(super) struct Facts {
    /// The role's name as SQL and `pg_hba.conf` write it.
    pub(super) role: String,
    /// Where the server sees us; `None` over a Unix socket.
    pub(super) client: Option<String>,
    /// The method of `pg_hba.conf` that takes passwords as this server stores them.
    pub(super) password_method: &'static str,
    pub(super) may_replicate: bool,
    pub(super) senders: u32,
    pub(super) slots: u32,
    pub(super) wal_sender_timeout_ms: Option<u64>,
    pub(super) archive_mode: String,
    pub(super) wal_status: Option<String>,
    pub(super) safe_wal_size: Option<i64>,
}

pub(super) const FACTS: &str = "SELECT pg_catalog.quote_ident(CURRENT_USER) AS role, \
     pg_catalog.host(pg_catalog.inet_client_addr()) AS client, \
     pg_catalog.current_setting('password_encryption') AS password_encryption, \
     (SELECT rolreplication OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER) \
     AS may_replicate, \
     (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication) AS senders, \
     (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots) AS slots, \
     (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout') AS wal_sender_timeout, \
     pg_catalog.current_setting('archive_mode') AS archive_mode";

/// The setting before 14 is MD5 unless told; the method `md5` takes SCRAM as well.
pub(super) const SCRAM: &str = "scram-sha-256";

/// How close slots are to being lost (servers from 13 on).
pub(super) const SLOTS: &str =
    "SELECT slot_name, wal_status, safe_wal_size FROM pg_catalog.pg_replication_slots";

impl Facts {
    /// Reads the answers; the second is that about slots, from servers that know it.
    pub(super) fn read(
        facts: &ResultSet,
        slots: Option<&ResultSet>,
        name: Option<&str>,
    ) -> Result<Self, ColumnError> {
        let row = facts.rows().next();
        let missing =
            || client::ColumnError { column: "role".into(), kind: client::ColumnErrorKind::Missing };
        let row = row.ok_or_else(missing)?;
        let mut rows = slots.into_iter().flat_map(ResultSet::rows);
        let slot = rows.find(|row| name.is_some() && row.text("slot_name").ok() == name);
        Ok(Self {
            role: row.text("role")?.into(),
            client: row.optional_text("client")?.map(str::to_string),
            password_method: match row.text("password_encryption")? {
                SCRAM => SCRAM,
                _ => "md5",
            },
            may_replicate: row.optional_text("may_replicate")? == Some("t"),
            senders: row.parse("senders")?,
            slots: row.parse("slots")?,
            wal_sender_timeout_ms: row.optional("wal_sender_timeout")?,
            archive_mode: row.text("archive_mode")?.into(),
            wal_status: match slot {
                Some(slot) => slot.optional_text("wal_status")?.map(str::to_string),
                None => None,
            },
            safe_wal_size: match slot {
                Some(slot) => slot.optional("safe_wal_size")?,
                None => None,
            },
        })
    }
}
