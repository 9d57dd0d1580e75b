use std::format;
use std::prelude::v1::*;

use core::time::Duration;

use base64ct::{Base64, Encoding as _};
use zeroize::Zeroizing;

use super::error::ConnInfoErrorKind;
use super::numbers::{integer, positive, seconds};
use super::{
    ConnInfoError, HostConfig, LoadBalanceHosts, Replication, Resolved, ScramKey, TargetSessionAttrs,
    TlsConfig, options,
};
use crate::auth::{AuthMethod, AuthMethods, ChannelBindingMode, ParseAuthMethodsError};
use crate::codec::ProtocolVersion;

/// Every parameter of a connection, checked and typed.
///
/// Parameters that ask for something this implementation does not have (GSSAPI encryption, OAuth, TLS before
/// 1.2) have already been refused; none is silently ignored. `Debug` shows `***` for passwords and keys.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The servers to try, in order; at least one.
    pub hosts: Vec<HostConfig>,
    /// The user's name in the database, not empty.
    pub user: String,
    /// The database, by default the user's name; not empty.
    pub dbname: String,
    /// The kind of session to ask for.
    pub replication: Replication,
    /// Command-line options for the server (`-c name=value`), not empty.
    pub options: Option<String>,
    /// `application_name` or else `fallback_application_name`, not empty.
    pub application_name: Option<String>,
    /// The encoding to ask for, not empty; `auto` is `UTF8`.
    pub client_encoding: Option<String>,
    /// Settings from `PGDATESTYLE`, `PGTZ` and `PGGEQO` to send as startup parameters.
    pub session_defaults: Vec<(&'static str, String)>,
    /// How long one address may take until the session is ready; `None` for no limit.
    pub connect_timeout: Option<Duration>,
    /// Keep-alive packets on TCP; `None` if switched off.
    pub keepalives: Option<Keepalives>,
    /// How long sent data may stay unacknowledged; `None` for the system's default.
    pub tcp_user_timeout: Option<Duration>,
    /// Which servers may be used.
    pub target_session_attrs: TargetSessionAttrs,
    /// In which order hosts and addresses are tried.
    pub load_balance_hosts: LoadBalanceHosts,
    /// The operating system's user that a server behind a Unix socket must run as, not empty.
    pub require_peer: Option<String>,
    /// TLS.
    pub tls: TlsConfig,
    /// Whether SCRAM has to be bound to the TLS connection.
    pub channel_binding: ChannelBindingMode,
    /// Which authentication methods may be used.
    pub require_auth: AuthMethods,
    /// The oldest version of the protocol to agree to.
    pub min_protocol_version: ProtocolVersion,
    /// The version to ask for, not below `min_protocol_version`.
    pub max_protocol_version: ProtocolVersion,
    /// The SCRAM key with which the client proves its identity, instead of a password.
    pub scram_client_key: Option<ScramKey>,
    /// The SCRAM key with which the client checks the server's proof, instead of a password.
    pub scram_server_key: Option<ScramKey>,
}

/// Keep-alive packets; `None` is the system's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalives {
    /// The silence after which the first packet is sent.
    pub idle: Option<Duration>,
    /// The time between two packets.
    pub interval: Option<Duration>,
    /// How many packets may remain unanswered before the connection counts as lost.
    pub count: Option<u32>,
}

impl Resolved {
    /// Checks every value.
    ///
    /// # Errors
    /// If libpq would refuse a value (the error has libpq's words), or a value asks for something that is not
    /// supported. A bad port or socket path is an error of its host only: see [`HostConfig::endpoint`].
    pub fn config(&self) -> Result<Config, ConnInfoError> {
        let text = |keyword| self.get(keyword).unwrap_or_default();
        let given = |keyword| self.get(keyword).filter(|value| !value.is_empty()).map(String::from);
        // In libpq's order, so that of several mistakes the same one is reported.
        let require_auth = require_auth(text("require_auth"))?;
        let channel_binding = channel_binding(text("channel_binding"))?;
        let tls = TlsConfig::new(self)?;
        self.refuse_unsupported()?;
        let target_session_attrs = TargetSessionAttrs::parse(text("target_session_attrs"))?;
        let scram_client_key =
            self.get("scram_client_key").map(|key| scram_key("client", key)).transpose()?;
        let scram_server_key =
            self.get("scram_server_key").map(|key| scram_key("server", key)).transpose()?;
        let load_balance_hosts = LoadBalanceHosts::parse(text("load_balance_hosts"))?;
        let (min_protocol_version, max_protocol_version) = self.protocol_versions()?;
        Ok(Config {
            hosts: self.hosts.clone(),
            user: text("user").into(),
            dbname: text("dbname").into(),
            replication: Replication::parse(text("replication"))?,
            options: given("options"),
            application_name: given("application_name").or_else(|| given("fallback_application_name")),
            client_encoding: given("client_encoding")
                .map(|name| if name == "auto" { "UTF8".into() } else { name }),
            session_defaults: self.session_defaults.clone(),
            connect_timeout: self.parse("connect_timeout", seconds)?,
            keepalives: self.keepalives()?,
            tcp_user_timeout: self
                .parse("tcp_user_timeout", positive)?
                .map(|milliseconds| Duration::from_millis(milliseconds.into())),
            target_session_attrs,
            load_balance_hosts,
            require_peer: given("requirepeer"),
            tls,
            channel_binding,
            require_auth,
            min_protocol_version,
            max_protocol_version,
            scram_client_key,
            scram_server_key,
        })
    }

    /// The value of `keyword` through `parse`; `None` where the parameter is absent.
    fn parse<T>(
        &self,
        keyword: &str,
        parse: fn(&str, &str) -> Result<Option<T>, ConnInfoError>,
    ) -> Result<Option<T>, ConnInfoError> {
        self.get(keyword).map_or(Ok(None), |text| parse(keyword, text))
    }

    fn keepalives(&self) -> Result<Option<Keepalives>, ConnInfoError> {
        let is_on = self.get("keepalives").map_or(Ok(true), |text| Ok(integer("keepalives", text)? != 0))?;
        let keepalives = Keepalives {
            idle: self.parse("keepalives_idle", seconds)?,
            interval: self.parse("keepalives_interval", seconds)?,
            count: self.parse("keepalives_count", positive)?,
        };
        Ok(is_on.then_some(keepalives))
    }

    /// The oldest and the newest version to agree to. Without bounds both are 3.0, which every server and
    /// pooler understands. A lower bound above 3.0 without an upper bound asks for the latest version.
    fn protocol_versions(&self) -> Result<(ProtocolVersion, ProtocolVersion), ConnInfoError> {
        let parse =
            |keyword| self.get(keyword).map(|word| options::protocol_version(keyword, word)).transpose();
        let min = parse("min_protocol_version")?.unwrap_or(ProtocolVersion::V3_0);
        let max = match parse("max_protocol_version")? {
            Some(max) => max,
            None if min > ProtocolVersion::V3_0 => options::LATEST_PROTOCOL,
            None => ProtocolVersion::V3_0,
        };
        if min > max {
            return Err(ConnInfoError::conflict(
                "\"min_protocol_version\" is greater than \"max_protocol_version\"",
            ));
        }
        Ok((min, max))
    }

    fn refuse_unsupported(&self) -> Result<(), ConnInfoError> {
        match self.get("gssencmode").unwrap_or_default() {
            "disable" | "prefer" => {}
            "require" => {
                return Err(ConnInfoError::unsupported(
                    "gssencmode value \"require\" invalid when GSSAPI support is not compiled in",
                ));
            }
            word => return Err(ConnInfoError::invalid_value("gssencmode", word)),
        }
        for keyword in ["oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope"] {
            if self.get(keyword).is_some_and(|value| !value.is_empty()) {
                return Err(ConnInfoError::unsupported(format!(
                    "connection option \"{keyword}\" asks for OAuth, which is not supported"
                )));
            }
        }
        Ok(())
    }
}

fn channel_binding(word: &str) -> Result<ChannelBindingMode, ConnInfoError> {
    word.parse().map_err(|_| ConnInfoError::invalid_value("channel_binding", word))
}

/// Parses the list, which has to allow at least one method that this implementation has.
fn require_auth(text: &str) -> Result<AuthMethods, ConnInfoError> {
    let methods: AuthMethods = text.parse().map_err(|error| match error {
        ParseAuthMethodsError::Unknown(word) => ConnInfoError::invalid_value("require_auth", &word),
        conflict => ConnInfoError::conflict(conflict.to_string()),
    })?;
    let possible = [AuthMethod::None, AuthMethod::Password, AuthMethod::Md5, AuthMethod::ScramSha256];
    if possible.into_iter().any(|method| methods.contains(method)) {
        return Ok(methods);
    }
    Err(ConnInfoError::unsupported(format!(
        "require_auth \"{text}\" allows none of the supported methods: none, password, md5, scram-sha-256"
    )))
}

/// Decodes a key: 32 bytes in base64.
fn scram_key(which: &str, text: &str) -> Result<ScramKey, ConnInfoError> {
    let error = |message: String| ConnInfoError::new(ConnInfoErrorKind::InvalidValue, message);
    let bytes = Base64::decode_vec(text).map_err(|_| error(format!("invalid SCRAM {which} key")))?;
    let bytes = Zeroizing::new(bytes);
    match <[u8; 32]>::try_from(bytes.as_slice()) {
        Ok(key) => Ok(ScramKey::from(key)),
        Err(_) => Err(error(format!("invalid SCRAM {which} key length: {}", bytes.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conninfo::{ConnInfo, Environment};

    fn config(conninfo: &str) -> Result<Config, String> {
        let environment = Environment::empty().with_user("jane").with_variable("PGTZ", "UTC");
        let resolved = conninfo.parse::<ConnInfo>().unwrap().resolve(&environment).unwrap();
        resolved.config().map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_libpqs() {
        let config = config("").unwrap();
        assert_eq!((config.user.as_str(), config.dbname.as_str()), ("jane", "jane"));
        assert_eq!(config.hosts.len(), 1);
        assert_eq!(config.replication, Replication::None);
        assert_eq!((config.options, config.application_name, config.client_encoding), (None, None, None));
        assert_eq!(config.session_defaults, [("timezone", String::from("UTC"))]);
        assert_eq!((config.connect_timeout, config.tcp_user_timeout), (None, None));
        assert_eq!(config.keepalives, Some(Keepalives::default()));
        assert_eq!(config.target_session_attrs, TargetSessionAttrs::Any);
        assert_eq!(config.load_balance_hosts, LoadBalanceHosts::Disable);
        assert_eq!(config.channel_binding, ChannelBindingMode::Prefer);
        assert!(config.require_auth.contains(AuthMethod::None));
        assert_eq!(config.min_protocol_version, ProtocolVersion::V3_0);
        assert_eq!(config.max_protocol_version, ProtocolVersion::V3_0);
        assert_eq!(config.require_peer, None);
        assert_eq!((config.scram_client_key, config.scram_server_key), (None, None));
    }

    #[test]
    fn numbers_get_their_unit_and_zero_means_the_systems_default() {
        let all = config(
            "connect_timeout=3 tcp_user_timeout=1500 keepalives_idle=10 keepalives_interval=2 keepalives_count=5",
        )
        .unwrap();
        assert_eq!(all.connect_timeout, Some(Duration::from_secs(3)));
        assert_eq!(all.tcp_user_timeout, Some(Duration::from_millis(1500)));
        let expected = Keepalives {
            idle: Some(Duration::from_secs(10)),
            interval: Some(Duration::from_secs(2)),
            count: Some(5),
        };
        assert_eq!(all.keepalives, Some(expected));
        let none =
            config("connect_timeout=-1 keepalives_idle=0 keepalives_count=-3 tcp_user_timeout=0").unwrap();
        assert_eq!((none.connect_timeout, none.tcp_user_timeout), (None, None));
        assert_eq!(none.keepalives, Some(Keepalives::default()));
        assert_eq!(config("keepalives=0").unwrap().keepalives, None);
        assert_eq!(config("keepalives=-7").unwrap().keepalives, Some(Keepalives::default()));
        for keyword in [
            "connect_timeout",
            "tcp_user_timeout",
            "keepalives",
            "keepalives_idle",
            "keepalives_interval",
            "keepalives_count",
        ] {
            for value in ["", "x", "2147483648"] {
                let message =
                    format!("invalid integer value \"{value}\" for connection option \"{keyword}\"");
                assert_eq!(config(&format!("{keyword}='{value}'")), Err(message));
            }
        }
    }

    #[test]
    fn empty_values_count_as_absent() {
        let name = |conninfo| config(conninfo).unwrap().application_name;
        assert_eq!(name("application_name=a fallback_application_name=f"), Some("a".into()));
        assert_eq!(name("application_name='' fallback_application_name=f"), Some("f".into()));
        assert_eq!(name("fallback_application_name=''"), None);
        assert_eq!(config("client_encoding=auto").unwrap().client_encoding, Some("UTF8".into()));
        assert_eq!(config("client_encoding=latin1").unwrap().client_encoding, Some("latin1".into()));
        let empty = config("options='' client_encoding='' requirepeer=''").unwrap();
        assert_eq!((empty.options, empty.client_encoding, empty.require_peer), (None, None, None));
    }

    #[test]
    fn protocol_versions_form_a_range() {
        const V3_0: ProtocolVersion = ProtocolVersion::V3_0;
        const V3_2: ProtocolVersion = ProtocolVersion::V3_2;
        let range = |conninfo| {
            config(conninfo).map(|config| (config.min_protocol_version, config.max_protocol_version))
        };
        assert_eq!(range("max_protocol_version=latest"), Ok((V3_0, V3_2)));
        assert_eq!(range("min_protocol_version=3.2"), Ok((V3_2, V3_2)));
        assert_eq!(range("min_protocol_version=3.0"), Ok((V3_0, V3_0)));
        assert_eq!(
            range("min_protocol_version=3.2 max_protocol_version=3.0"),
            Err("\"min_protocol_version\" is greater than \"max_protocol_version\"".into())
        );
        assert_eq!(
            range("min_protocol_version=3.1"),
            Err("invalid min_protocol_version value: \"3.1\"".into())
        );
        assert_eq!(range("max_protocol_version=''"), Err("invalid max_protocol_version value: \"\"".into()));
    }

    #[test]
    fn scram_keys_are_32_bytes_of_base64() {
        let key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        let config_with = config(&format!("scram_client_key={key} scram_server_key={key}")).unwrap();
        assert_eq!(config_with.scram_client_key.unwrap().as_bytes(), &[1; 32]);
        assert_eq!(config_with.scram_server_key.unwrap().as_bytes(), &[1; 32]);
        for (conninfo, message) in [
            ("scram_client_key=''", "invalid SCRAM client key length: 0"),
            ("scram_client_key=abc", "invalid SCRAM client key"),
            ("scram_server_key=AAAA", "invalid SCRAM server key length: 3"),
            ("scram_server_key='AA A'", "invalid SCRAM server key"),
        ] {
            assert_eq!(config(conninfo), Err(message.into()), "{conninfo}");
        }
    }

    #[test]
    fn an_unsupported_request_is_refused_and_its_parameter_named() {
        for (conninfo, named) in [
            ("gssencmode=require", "gssencmode"),
            ("oauth_issuer=https://x", "oauth_issuer"),
            ("oauth_client_id=x", "oauth_client_id"),
            ("oauth_client_secret=x", "oauth_client_secret"),
            ("oauth_scope=x", "oauth_scope"),
            ("require_auth=gss", "require_auth"),
            ("ssl_min_protocol_version='' ssl_max_protocol_version=TLSv1.1", "ssl_max_protocol_version"),
        ] {
            let resolved =
                conninfo.parse::<ConnInfo>().unwrap().resolve(&Environment::empty().with_user("u")).unwrap();
            let error = resolved.config().unwrap_err();
            assert_eq!(error.kind(), ConnInfoErrorKind::Unsupported, "{conninfo}");
            assert!(error.to_string().contains(named), "{conninfo}: {error}");
        }
        assert!(config("gssencmode=prefer").is_ok());
        assert_eq!(config("gssencmode=x"), Err("invalid gssencmode value: \"x\"".into()));
    }

    #[test]
    fn a_bad_port_is_an_error_of_its_host_only() {
        let config = config("host=a,b port=0,5").unwrap();
        let error = config.hosts[0].endpoint.clone().unwrap_err();
        assert_eq!(error.kind(), ConnInfoErrorKind::Port);
        assert!(config.hosts[1].endpoint.is_ok());
    }

    #[test]
    fn secrets_are_never_shown() {
        let key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        let config = config(&format!(
            "password=s3cret sslpassword=s3cret scram_client_key={key} scram_server_key={key}"
        ))
        .unwrap();
        let shown = format!("{config:?}");
        assert!(shown.contains("password: Some(***)"), "{shown}");
        for secret in ["s3cret", "[1, 1", "AQEB", "115, 51"] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
    }

    #[test]
    fn bad_authentication_values_are_refused_in_libpqs_words() {
        for (text, message) in [
            ("channel_binding=no", "invalid channel_binding value: \"no\""),
            ("channel_binding=' prefer'", "invalid channel_binding value: \" prefer\""),
            ("require_auth=MD5", "invalid require_auth value: \"MD5\""),
            ("require_auth=md5,", "invalid require_auth value: \"\""),
            ("require_auth=md5,md5", "require_auth method \"md5\" is specified more than once"),
        ] {
            assert_eq!(
                config(text).map_err(|error| error.to_string()).err().as_deref(),
                Some(message),
                "{text}"
            );
        }
    }

    #[test]
    fn a_require_auth_list_without_a_supported_method_is_refused() {
        for list in ["gss", "sspi,oauth", "!password,!md5,!scram-sha-256,!none"] {
            let message = config(&format!("require_auth={list}")).unwrap_err().to_string();
            assert!(message.contains("allows none of the supported methods"), "{list}: {message}");
        }
    }
}
