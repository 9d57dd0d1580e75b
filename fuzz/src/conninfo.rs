//! Properties of connection strings and URIs.

use tapster::conninfo::{ConnInfo, Environment, KEYWORDS};

/// A connection string, a URI, or the password in one.
pub fn conninfo(input: &[u8]) {
    let Ok(text) = core::str::from_utf8(input) else { return };
    for parsed in [text.parse(), ConnInfo::from_dbname_argument(text)] {
        match parsed {
            Ok(conninfo) => {
                check_encoding(&conninfo);
                check_shown_text(&conninfo);
                check_resolving(conninfo);
            }
            // The error is libpq's message around a part of the text.
            Err(error) => assert!(error.to_string().len() <= 2 * text.len() + 200),
        }
    }
    check_secrets_in(text);
}

fn check_encoding(conninfo: &ConnInfo) {
    assert_eq!(conninfo.encode().parse().as_ref(), Ok(conninfo));
    let mut copy = ConnInfo::new();
    for (keyword, value) in conninfo.iter() {
        copy.set(keyword, value).expect("a parsed value can be set");
        assert_eq!(copy.get(keyword), Some(value));
    }
    assert_eq!(copy, *conninfo);
    for (keyword, _) in conninfo.iter() {
        assert!(copy.remove(keyword));
    }
    assert_eq!(copy, ConnInfo::new());
}

/// Checks that the shown text does not depend on the secrets, and that it can be parsed.
fn check_shown_text(conninfo: &ConnInfo) {
    let mut other = conninfo.clone();
    for keyword in KEYWORDS.iter().filter(|keyword| keyword.secret) {
        if conninfo.get(keyword.name).is_some() {
            other.set(keyword.name, "another").expect("no NUL in it");
        }
    }
    assert_eq!(conninfo.to_string(), other.to_string());
    assert_eq!(format!("{conninfo:?}"), format!("{other:?}"));
    let shown: ConnInfo = conninfo.to_string().parse().expect("the shown text is a connection string");
    for ((keyword, value), (same, shown)) in conninfo.iter().zip(shown.iter()) {
        let is_secret = KEYWORDS.iter().any(|known| known.secret && known.name == keyword);
        assert_eq!((same, shown), (keyword, if is_secret { "***" } else { value }));
    }
}

/// Checks that resolving, whether it fails or not, shows no secret.
fn check_resolving(mut conninfo: ConnInfo) {
    const SECRET: &str = "q8-Secret-8q";
    if conninfo.encode().contains(SECRET) {
        return;
    }
    // Files of this machine must not influence the result.
    for file in ["service", "servicefile", "passfile"] {
        conninfo.remove(file);
    }
    for keyword in KEYWORDS.iter().filter(|keyword| keyword.secret) {
        if conninfo.get(keyword.name).is_some() {
            conninfo.set(keyword.name, SECRET).expect("no NUL in it");
        }
    }
    let len = conninfo.encode().len();
    let shown = match conninfo.resolve(&Environment::empty().with_user("mia")) {
        Ok(resolved) => {
            for (keyword, value) in conninfo.iter().filter(|(_, value)| !value.is_empty()) {
                assert_eq!(resolved.get(keyword), Some(value));
            }
            let config = resolved.config();
            if let Ok(config) = &config {
                assert!((1..=1 + len).contains(&config.hosts.len()));
                assert!(!config.user.is_empty() && !config.dbname.is_empty());
            }
            format!("{resolved:?} {config:?}")
        }
        Err(error) => error.to_string(),
    };
    assert!(!shown.contains(SECRET), "{shown}");
}

/// Checks that a password is shown nowhere, not even in the error about the string that it breaks.
fn check_secrets_in(text: &str) {
    const SECRET: &str = "q8-Secret-8q";
    // After one of these characters the rest is no longer the password but another part of the string.
    if text.contains(['=', '&', '@', '/']) || text.contains(SECRET) {
        return;
    }
    for broken in [
        format!("password={SECRET}{text}"),
        format!("password={text}{SECRET}"),
        format!("user=mia password='{SECRET}{text}' host=db1"),
        format!("user=mia password='{text}{SECRET}' host=db1"),
        format!("postgresql://mia:{SECRET}{text}@db1/postgres"),
        format!("postgresql://mia:{text}{SECRET}@db1/postgres"),
        format!("postgresql://db1/postgres?password={SECRET}{text}"),
        format!("postgresql://db1/postgres?password={text}{SECRET}"),
    ] {
        let shown = match broken.parse::<ConnInfo>() {
            Ok(conninfo) => format!("{conninfo} {conninfo:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(!shown.contains(SECRET), "{broken}: {shown}");
    }
}
