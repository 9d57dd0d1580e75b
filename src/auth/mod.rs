//! Authentication exchanges as pure functions and states, and the policy that says which requests may be
//! answered.
//!
//! Nothing here reads a clock, a random source, a socket or the environment: the nonce is an argument, a
//! message comes in as a slice and the answer is appended to a vector. A state is consumed by the message it
//! waited for, so no step can be repeated or left out.
//!
//! | server asks for | answer |
//! |---|---|
//! | `AuthenticationMD5Password` | [`md5_password`] |
//! | `AuthenticationSASL` | [`AuthPolicy::select_binding`], then [`ScramClient`] and [`ScramFinal`] |
//!
//! Ask [`AuthPolicy`] before each answer and before believing `AuthenticationOk`.
//!
//! Passwords, keys and proofs are overwritten when dropped and appear in no `Debug` output and no error.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod md5_password;
mod methods;
mod policy;
mod saslprep;
mod saslprep_tables;
mod scram;

pub use md5_password::{Md5Response, md5_password};
pub use methods::{AuthMethod, AuthMethods, ParseAuthMethodsError};
pub use policy::{
    AuthDone, AuthPolicy, AuthRefused, AuthRequest, ChannelBindingMode, ParseChannelBindingModeError,
    TlsEndPoint,
};
pub use saslprep::saslprep;
pub use scram::{
    ChannelBinding, DerivedKeys, Mechanism, Nonce, ParseScramKeyError, ParseScramVerifierError, ScramClient,
    ScramError, ScramFinal, ScramKeys, ScramSecret, ScramServer, ScramServerError, ScramServerFinal,
    ScramVerifier,
};
