//! TLS by rustls, with libpq's idea of trust.
//!
//! | file | holds |
//! |---|---|
//! | `session` | what the parameters name, read once; TLS over a TCP connection |
//! | `verifier` | what has to hold of a server's certificate: a signature always, chain and name by `sslmode` |
//! | `roots` | whom to trust, and revoked certificates |
//! | `version_1` | what webpki does not have: server certificates of version 1 |
//! | `names` | the names in a certificate, compared as libpq compares them |
//! | `algorithms` | the signatures that are understood |
//! | `identity`, `encrypted_key` | the client's certificate and its key |
//! | `end_point` | what channel binding binds to |
//! | `certificate`, `der` | the few fields of a certificate that the above look at |

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
