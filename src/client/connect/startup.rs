use zeroize::Zeroizing;

use crate::auth::{AuthPolicy, ScramKeys};
use crate::codec::{EncodeError, ParametersBuf};
use crate::conninfo::{self, Config, HostConfig};
use crate::session::{Encryption, HandshakeConfig};

/// The part of the configuration that the handshake needs.
pub(super) fn handshake_config(
    config: &Config,
    host: &HostConfig,
    encryption: Encryption,
) -> Result<HandshakeConfig, EncodeError> {
    let mut parameters = ParametersBuf::new();
    let mut add = |name: &str, value: &str| parameters.push((name.as_bytes(), value.as_bytes()));
    add("user", &config.user)?;
    add("database", &config.dbname)?;
    match config.replication {
        conninfo::Replication::None => {}
        conninfo::Replication::Physical => add("replication", "true")?,
        conninfo::Replication::Database => add("replication", "database")?,
    }
    for (name, value) in [
        ("options", &config.options),
        ("application_name", &config.application_name),
        ("client_encoding", &config.client_encoding),
    ] {
        if let Some(value) = value {
            add(name, value)?;
        }
    }
    for (name, value) in &config.session_defaults {
        add(name, value)?;
    }
    let scram_keys = match (&config.scram_client_key, &config.scram_server_key) {
        (Some(client), Some(server)) => Some(ScramKeys::new(*client.as_bytes(), *server.as_bytes())),
        _ => None,
    };
    Ok(HandshakeConfig {
        max_version: config.max_protocol_version,
        min_version: config.min_protocol_version,
        encryption,
        policy: AuthPolicy {
            allowed: config.require_auth,
            channel_binding: config.channel_binding,
            ..AuthPolicy::default()
        },
        password: host.password.as_ref().map(|password| Zeroizing::new(password.as_bytes().to_vec())),
        scram_keys,
        ..HandshakeConfig::new(parameters)
    })
}
