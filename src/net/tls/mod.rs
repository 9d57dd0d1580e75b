//! TLS by rustls, with libpq's rules about which server to trust.
//!
//! | file | holds |
//! |---|---|
//! | `session` | the files that the parameters name, read once; TLS over a TCP connection |
//! | `verifier` | the checks of a server's certificate: a signature always, chain and name by `sslmode` |
//! | `roots` | trusted and revoked certificates |
//! | `version_1` | server certificates of version 1, which webpki refuses |
//! | `names` | the names in a certificate, compared as libpq compares them |
//! | `name_constraints` | what an authority may vouch for by a common name |
//! | `algorithms` | the supported signature algorithms |
//! | `identity`, `encrypted_key` | the client's certificate and its key |
//! | `end_point` | the hash for channel binding |
//! | `certificate`, `der` | the few fields of a certificate that these files need |

mod error;
#[cfg(not(feature = "tls"))]
mod without;

#[cfg(feature = "tls")]
mod algorithms;
#[cfg(feature = "tls")]
mod certificate;
#[cfg(feature = "tls")]
mod der;
#[cfg(feature = "encrypted-key")]
mod encrypted_key;
#[cfg(feature = "tls")]
mod end_point;
#[cfg(feature = "tls")]
mod files;
#[cfg(feature = "tls")]
mod identity;
#[cfg(feature = "tls")]
mod key_log;
#[cfg(feature = "tls")]
mod name_constraints;
#[cfg(feature = "tls")]
mod names;
#[cfg(feature = "tls")]
mod roots;
#[cfg(feature = "tls")]
mod session;
#[cfg(feature = "tls")]
mod verifier;
#[cfg(feature = "tls")]
mod version_1;

pub use error::{TlsError, TlsErrorKind};
#[cfg(feature = "tls")]
pub(crate) use session::{Tls, TlsStream};
#[cfg(not(feature = "tls"))]
pub(crate) use without::Tls;
