/// One connection parameter as libpq knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keyword {
    /// The word in a connection string, case-sensitive.
    pub name: &'static str,
    /// The environment variable that sets the parameter where neither a string nor a service does.
    pub variable: Option<&'static str>,
    /// The value where nothing else sets the parameter. Defaults that depend on the system (`user`, `host`,
    /// the files in the home directory) are not in this table.
    pub default: Option<&'static str>,
    /// Whether the value is a password or a key, which is never shown.
    pub secret: bool,
    /// The first major version of PostgreSQL whose libpq has the parameter; 9 for every version before 10.
    pub since: u8,
}

/// Every connection parameter of libpq 18, in libpq's order, and `servicefile` of 19.
pub const KEYWORDS: &[Keyword] = &[
    keyword("service", 9).variable("PGSERVICE"),
    keyword("servicefile", 19).variable("PGSERVICEFILE"),
    keyword("user", 9).variable("PGUSER"),
    keyword("password", 9).variable("PGPASSWORD").secret(),
    keyword("passfile", 10).variable("PGPASSFILE"),
    keyword("channel_binding", 13).variable("PGCHANNELBINDING").default("prefer"),
    keyword("connect_timeout", 9).variable("PGCONNECT_TIMEOUT"),
    keyword("dbname", 9).variable("PGDATABASE"),
    keyword("host", 9).variable("PGHOST"),
    keyword("hostaddr", 9).variable("PGHOSTADDR"),
    keyword("port", 9).variable("PGPORT").default("5432"),
    keyword("client_encoding", 9).variable("PGCLIENTENCODING"),
    keyword("options", 9).variable("PGOPTIONS").default(""),
    keyword("application_name", 9).variable("PGAPPNAME"),
    keyword("fallback_application_name", 9),
    keyword("keepalives", 9),
    keyword("keepalives_idle", 9),
    keyword("keepalives_interval", 9),
    keyword("keepalives_count", 9),
    keyword("tcp_user_timeout", 12),
    keyword("sslmode", 9).variable("PGSSLMODE").default("prefer"),
    keyword("sslnegotiation", 17).variable("PGSSLNEGOTIATION").default("postgres"),
    keyword("sslcompression", 9).variable("PGSSLCOMPRESSION").default("0"),
    keyword("sslcert", 9).variable("PGSSLCERT"),
    keyword("sslkey", 9).variable("PGSSLKEY"),
    keyword("sslcertmode", 16).variable("PGSSLCERTMODE"),
    keyword("sslpassword", 13).secret(),
    keyword("sslrootcert", 9).variable("PGSSLROOTCERT"),
    keyword("sslcrl", 9).variable("PGSSLCRL"),
    keyword("sslcrldir", 14).variable("PGSSLCRLDIR"),
    keyword("sslsni", 14).variable("PGSSLSNI").default("1"),
    keyword("requirepeer", 9).variable("PGREQUIREPEER"),
    keyword("require_auth", 16).variable("PGREQUIREAUTH"),
    keyword("min_protocol_version", 18).variable("PGMINPROTOCOLVERSION"),
    keyword("max_protocol_version", 18).variable("PGMAXPROTOCOLVERSION"),
    keyword("ssl_min_protocol_version", 13).variable("PGSSLMINPROTOCOLVERSION").default("TLSv1.2"),
    keyword("ssl_max_protocol_version", 13).variable("PGSSLMAXPROTOCOLVERSION"),
    // `disable` is libpq's default where it is built without GSSAPI, as this implementation is.
    keyword("gssencmode", 12).variable("PGGSSENCMODE").default("disable"),
    keyword("krbsrvname", 9).variable("PGKRBSRVNAME").default("postgres"),
    keyword("gsslib", 9).variable("PGGSSLIB"),
    keyword("gssdelegation", 16).variable("PGGSSDELEGATION").default("0"),
    keyword("replication", 9),
    keyword("target_session_attrs", 10).variable("PGTARGETSESSIONATTRS").default("any"),
    keyword("load_balance_hosts", 16).variable("PGLOADBALANCEHOSTS").default("disable"),
    keyword("scram_client_key", 18).secret(),
    keyword("scram_server_key", 18).secret(),
    keyword("oauth_issuer", 18),
    keyword("oauth_client_id", 18),
    keyword("oauth_client_secret", 18).secret(),
    keyword("oauth_scope", 18),
    keyword("sslkeylogfile", 18),
];

/// Looks a keyword up by its exact name.
pub(super) fn find(name: &str) -> Option<&'static Keyword> {
    KEYWORDS.iter().find(|keyword| keyword.name == name)
}

const fn keyword(name: &'static str, since: u8) -> Keyword {
    Keyword { name, variable: None, default: None, secret: false, since }
}

impl Keyword {
    const fn variable(self, variable: &'static str) -> Self {
        Self { variable: Some(variable), ..self }
    }

    const fn default(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_variables_are_unique() {
        for (i, a) in KEYWORDS.iter().enumerate() {
            for b in KEYWORDS.iter().skip(i + 1) {
                assert_ne!(a.name, b.name);
                assert!(a.variable.is_none() || a.variable != b.variable, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn names_are_case_sensitive() {
        assert_eq!(find("host").map(|keyword| keyword.variable), Some(Some("PGHOST")));
        assert_eq!(find("Host"), None);
    }
}
