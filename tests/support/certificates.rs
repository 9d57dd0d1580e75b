//! Certificates for the servers and clients of the tests, made by the `openssl` program.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::process::{clean_environment, run};

/// The kind of a key, and thereby of the signatures made with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384; an authority with it signs with SHA-384, all others with SHA-256.
    P384,
    /// RSA, 2048 bits.
    Rsa,
    /// RSA that may only be used for RSA-PSS.
    RsaPss,
    /// Ed25519, whose signatures have no hash function to bind a channel with.
    Ed25519,
}

impl Key {
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::P256 => &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Self::P384 => &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
            Self::Rsa => &["-newkey", "rsa:2048"],
            Self::RsaPss => &["-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"],
            Self::Ed25519 => &["-newkey", "ed25519"],
        }
    }

    /// Options of signing: by default OpenSSL 3.0 uses an RSA-PSS salt longer than the usual length of the
    /// hash.
    fn signature_options(self) -> &'static [&'static str] {
        if self == Self::RsaPss { &["-sigopt", "rsa_pss_saltlen:digest"] } else { &[] }
    }
}

/// A certificate, followed by those of the authorities between it and the root, and its key; all in PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

impl Identity {
    /// A self-signed certificate, made as PostgreSQL's manual describes.
    pub fn self_signed(common_name: &str, key: Key) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let subject = format!("/CN={common_name}");
        let mut arguments = vec!["req", "-x509", "-noenc", "-days", "10", "-subj", &subject];
        arguments.extend_from_slice(key.options());
        arguments.extend_from_slice(key.signature_options());
        arguments.extend_from_slice(&["-keyout", "key", "-out", "crt"]);
        openssl(dir.path(), &arguments);
        Self { certificate: read(dir.path(), "crt"), key: read(dir.path(), "key") }
    }
}

/// The contents of a certificate to be issued.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub common_name: &'a str,
    /// As OpenSSL's configuration has them: `DNS:db1.example,IP:10.0.0.1`; empty for none.
    pub alternative_names: &'a str,
    pub key: Key,
    /// Whether the certificate has expired.
    pub is_expired: bool,
    pub is_authority: bool,
    /// The names that an authority may vouch for, as OpenSSL's configuration has them:
    /// `permitted;DNS:good.example`; empty for any.
    pub name_constraints: &'a str,
    /// Whether the certificate is of version 1, without extensions, as PostgreSQL's manual long described.
    pub is_version_1: bool,
}

impl<'a> Request<'a> {
    /// A certificate with one name, valid for some days.
    pub fn new(common_name: &'a str) -> Self {
        Self {
            common_name,
            alternative_names: "",
            key: Key::P256,
            is_expired: false,
            is_authority: false,
            name_constraints: "",
            is_version_1: false,
        }
    }
}

/// An authority with its root certificate.
pub struct Authority {
    dir: TempDir,
    key: Key,
    /// The certificates between an issued one and the root.
    between: Vec<u8>,
}

impl Authority {
    pub fn new(common_name: &str, key: Key) -> Self {
        let root = Identity::self_signed(common_name, key);
        Self::with(&root, key, Vec::new())
    }

    /// An authority with this key and certificate, which need not be those of an authority.
    pub fn with(identity: &Identity, key: Key, between: Vec<u8>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = CONFIG.replace("HASH", if key == Key::P384 { "sha384" } else { "sha256" });
        for (name, contents) in [
            ("ca.crt", &identity.certificate[..]),
            ("ca.key", &identity.key),
            ("config", config.as_bytes()),
            ("index", b""),
            ("serial", b"1000\n"),
            ("crlnumber", b"01\n"),
        ] {
            fs::write(dir.path().join(name), contents).expect("the directory is ours");
        }
        Self { dir, key, between }
    }

    /// An authority that this one vouches for.
    pub fn subordinate(&self, common_name: &str) -> Self {
        self.constrained(common_name, "")
    }

    /// An authority that this one vouches for, as long as it keeps to these names.
    pub fn constrained(&self, common_name: &str, name_constraints: &str) -> Self {
        let request = Request { is_authority: true, name_constraints, ..Request::new(common_name) };
        let identity = self.issue(request);
        Self::with(&identity, Key::P256, identity.certificate.clone())
    }

    pub fn certificate(&self) -> Vec<u8> {
        read(self.dir.path(), "ca.crt")
    }

    pub fn issue(&self, request: Request<'_>) -> Identity {
        let dir = self.dir.path();
        let subject = format!("/CN={}", request.common_name);
        let names = format!("subjectAltName={}", request.alternative_names);
        let mut arguments = vec!["req", "-new", "-noenc", "-subj", &subject, "-keyout", "key", "-out", "csr"];
        arguments.extend_from_slice(request.key.options());
        if !request.alternative_names.is_empty() {
            arguments.extend_from_slice(&["-addext", &names]);
        }
        openssl(dir, &arguments);
        let days = if request.is_expired { "-1" } else { "10" };
        let mut arguments = match request.is_version_1 {
            true => {
                vec!["x509", "-req", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", days]
            }
            false => vec!["ca", "-batch", "-notext", "-config", "config"],
        };
        if request.is_authority {
            let constraints = match request.name_constraints {
                "" => String::new(),
                names => format!("nameConstraints = critical,{names}\n"),
            };
            fs::write(dir.join("authority"), [AUTHORITY, &constraints].concat())
                .expect("the directory is ours");
            arguments.extend_from_slice(&["-extfile", "authority", "-extensions", "authority"]);
        }
        if request.is_expired && !request.is_version_1 {
            arguments.extend_from_slice(&["-startdate", "20200101000000Z", "-enddate", "20201231000000Z"]);
        }
        arguments.extend_from_slice(self.key.signature_options());
        arguments.extend_from_slice(&["-in", "csr", "-out", "crt"]);
        openssl(dir, &arguments);
        let certificate = [read(dir, "crt"), self.between.clone()].concat();
        Identity { certificate, key: read(dir, "key") }
    }

    /// Revokes a certificate.
    pub fn revoke(&self, identity: &Identity) {
        fs::write(self.dir.path().join("revoked"), &identity.certificate).expect("the directory is ours");
        openssl(self.dir.path(), &["ca", "-config", "config", "-revoke", "revoked"]);
    }

    /// The list of revoked certificates, in PEM.
    pub fn revocation_list(&self) -> Vec<u8> {
        openssl(self.dir.path(), &["ca", "-config", "config", "-gencrl", "-out", "crl"]);
        read(self.dir.path(), "crl")
    }
}

const CONFIG: &str = "
[ca]
default_ca = authority_files
[authority_files]
certificate = ca.crt
private_key = ca.key
database = index
serial = serial
crlnumber = crlnumber
new_certs_dir = .
default_md = HASH
default_days = 10
default_crl_days = 10
policy = policy
unique_subject = no
copy_extensions = copy
x509_extensions = server
crl_extensions = crl
[policy]
commonName = supplied
[server]
basicConstraints = CA:FALSE
[crl]
authorityKeyIdentifier = keyid:always
";

const AUTHORITY: &str = "
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
";

/// Converts an input by `openssl`, such as a key into another form.
pub fn convert(input: &[u8], arguments: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("in"), input).expect("the directory is ours");
    openssl(dir.path(), &[arguments, &["-in", "in", "-out", "out"]].concat());
    read(dir.path(), "out")
}

/// Gives the revocation lists and certificates in a directory the names by which OpenSSL finds them.
pub fn rehash(dir: &Path) {
    openssl(dir, &["rehash", "."]);
}

fn openssl(dir: &Path, arguments: &[&str]) {
    let mut command = Command::new("openssl");
    clean_environment(&mut command).current_dir(dir).args(arguments);
    run(command, "").unwrap_or_else(|said| panic!("openssl {arguments:?}: {said}"));
}

fn read(dir: &Path, name: &str) -> Vec<u8> {
    fs::read(dir.join(name)).expect("openssl has written the file")
}
