//! Requests for authentication and the answers to them.

use alloc::vec::Vec;
use core::fmt;

use super::error::{DecodeError, DecodeErrorKind, EncodeError};
use super::list::{Item, List, ListBuf, sealed};
use super::reader::Reader;
use super::writer::{Writer, framed};

/// `Authentication` (`R`): what the server wants the client to prove, or that it is satisfied.
///
/// Layout: `Int32 code`, then by code.
///
/// Spec: <https://www.postgresql.org/docs/current/protocol-message-formats.html>
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Authentication<'a> {
    /// Authentication is over; parameters, the cancel key and `ReadyForQuery` follow.
    #[doc(alias = "AuthenticationOk")]
    Ok,
    /// Kerberos V4, which no server has offered since 8.1.
    KerberosV4,
    /// Kerberos V5, not offered since 9.4.
    #[doc(alias = "AuthenticationKerberosV5")]
    KerberosV5,
    /// Asks for the password as it is.
    #[doc(alias = "AuthenticationCleartextPassword")]
    CleartextPassword,
    /// Asks for the password through `crypt`, not offered since 8.4.
    CryptPassword {
        /// The salt of `crypt`.
        salt: [u8; 2],
    },
    /// Asks for the password through MD5.
    #[doc(alias = "AuthenticationMD5Password")]
    Md5Password {
        /// The salt of the second round.
        salt: [u8; 4],
    },
    /// A credential over a Unix socket, not offered since 9.1.
    ScmCredential,
    /// Asks for GSSAPI.
    #[doc(alias = "AuthenticationGSS")]
    Gss,
    /// The next token of GSSAPI or SSPI.
    #[doc(alias = "AuthenticationGSSContinue")]
    GssContinue {
        /// The token.
        data: &'a [u8],
    },
    /// Asks for SSPI.
    #[doc(alias = "AuthenticationSSPI")]
    Sspi,
    /// Asks for one of these SASL mechanisms.
    #[doc(alias = "AuthenticationSASL")]
    Sasl {
        /// Their names, in the server's order of preference.
        mechanisms: Names<'a>,
    },
    /// The next challenge of the mechanism.
    #[doc(alias = "AuthenticationSASLContinue")]
    SaslContinue {
        /// The challenge.
        data: &'a [u8],
    },
    /// The last word of the mechanism; `Ok` follows.
    #[doc(alias = "AuthenticationSASLFinal")]
    SaslFinal {
        /// The outcome, for SCRAM with the server's own proof.
        data: &'a [u8],
    },
}

impl<'a> Authentication<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If it does not follow its layout to its last byte, or the code is unknown.
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("Authentication", body);
        let code = r.i32("code")?;
        let request = match code {
            0 => Self::Ok,
            1 => Self::KerberosV4,
            2 => Self::KerberosV5,
            3 => Self::CleartextPassword,
            4 => Self::CryptPassword { salt: r.take("salt")? },
            5 => Self::Md5Password { salt: r.take("salt")? },
            6 => Self::ScmCredential,
            7 => Self::Gss,
            8 => Self::GssContinue { data: r.rest() },
            9 => Self::Sspi,
            10 => Self::Sasl { mechanisms: List::terminated(&mut r, "mechanisms")? },
            11 => Self::SaslContinue { data: r.rest() },
            12 => Self::SaslFinal { data: r.rest() },
            _ => return Err(r.error("code", DecodeErrorKind::Value(i64::from(code)))),
        };
        r.finish()?;
        Ok(request)
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// If it is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        framed(b'R', "Authentication", out, |w| {
            w.i32(self.code());
            match self {
                Self::CryptPassword { salt } => w.bytes(salt),
                Self::Md5Password { salt } => w.bytes(salt),
                Self::GssContinue { data } | Self::SaslContinue { data } | Self::SaslFinal { data } => {
                    w.bytes(data)
                }
                Self::Sasl { mechanisms } => {
                    w.bytes(mechanisms.as_bytes());
                    w.u8(0);
                }
                _ => {}
            }
            Ok(())
        })
    }

    /// The name of the request in PostgreSQL's documentation.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ok => "AuthenticationOk",
            Self::KerberosV4 => "AuthenticationKerberosV4",
            Self::KerberosV5 => "AuthenticationKerberosV5",
            Self::CleartextPassword => "AuthenticationCleartextPassword",
            Self::CryptPassword { .. } => "AuthenticationCryptPassword",
            Self::Md5Password { .. } => "AuthenticationMD5Password",
            Self::ScmCredential => "AuthenticationSCMCredential",
            Self::Gss => "AuthenticationGSS",
            Self::GssContinue { .. } => "AuthenticationGSSContinue",
            Self::Sspi => "AuthenticationSSPI",
            Self::Sasl { .. } => "AuthenticationSASL",
            Self::SaslContinue { .. } => "AuthenticationSASLContinue",
            Self::SaslFinal { .. } => "AuthenticationSASLFinal",
        }
    }

    /// The number of the request on the wire.
    #[must_use]
    pub const fn code(&self) -> i32 {
        match self {
            Self::Ok => 0,
            Self::KerberosV4 => 1,
            Self::KerberosV5 => 2,
            Self::CleartextPassword => 3,
            Self::CryptPassword { .. } => 4,
            Self::Md5Password { .. } => 5,
            Self::ScmCredential => 6,
            Self::Gss => 7,
            Self::GssContinue { .. } => 8,
            Self::Sspi => 9,
            Self::Sasl { .. } => 10,
            Self::SaslContinue { .. } => 11,
            Self::SaslFinal { .. } => 12,
        }
    }
}

impl fmt::Debug for Authentication<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Sasl { mechanisms } => {
                let names = mechanisms.iter().map(alloc::string::String::from_utf8_lossy);
                f.write_str("(")?;
                f.debug_list().entries(names).finish()?;
                f.write_str(")")
            }
            // What the others hold are salts, tokens and proofs.
            _ => Ok(()),
        }
    }
}

/// The kind of list item that is a non-empty name; see [`Names`].
#[derive(Debug)]
pub enum NameItem {}

impl Item for NameItem {}
impl sealed::Item for NameItem {
    type Item<'a> = &'a [u8];

    fn read<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
        match reader.cstr("name")? {
            [] => Err(reader.error("name", DecodeErrorKind::Empty)),
            name => Ok(name),
        }
    }

    fn write(item: &&[u8], writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.non_empty_cstr(item, "name")
    }
}

/// Names, such as those of SASL mechanisms; items are `&[u8]`.
pub type Names<'a> = List<'a, NameItem>;
/// [`Names`] to fill.
pub type NamesBuf = ListBuf<NameItem>;

/// What a client answers (`p`) to a request for authentication.
///
/// One type byte serves four layouts; which one it is follows from the request before it. A reader gets the
/// [body](crate::codec::FrontendMessage::AuthenticationResponse) and names the layout.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationResponse<'a> {
    /// `PasswordMessage`: the password, or its MD5 form.
    #[doc(alias = "PasswordMessage")]
    Password {
        /// Without the NUL that ends it on the wire.
        password: &'a [u8],
    },
    /// `SASLInitialResponse`: the mechanism chosen and its first message.
    #[doc(alias = "SASLInitialResponse")]
    SaslInitial {
        /// The name of the mechanism.
        mechanism: &'a [u8],
        /// The mechanism's first message, if it has one.
        data: Option<&'a [u8]>,
    },
    /// `SASLResponse`: the mechanism's next message.
    #[doc(alias = "SASLResponse")]
    Sasl {
        /// The message.
        data: &'a [u8],
    },
    /// `GSSResponse`: a token of GSSAPI or SSPI.
    #[doc(alias = "GSSResponse")]
    Gss {
        /// The token.
        data: &'a [u8],
    },
}

impl<'a> AuthenticationResponse<'a> {
    /// Reads the body as a `PasswordMessage`.
    ///
    /// # Errors
    /// If it is not one string.
    pub fn parse_password(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("PasswordMessage", body);
        let password = r.cstr("password")?;
        r.finish()?;
        Ok(Self::Password { password })
    }

    /// Reads the body as a `SASLInitialResponse`.
    ///
    /// # Errors
    /// If it does not follow its layout to its last byte.
    pub fn parse_sasl_initial(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("SASLInitialResponse", body);
        let message = Self::SaslInitial { mechanism: r.cstr("mechanism")?, data: r.value("data")? };
        r.finish()?;
        Ok(message)
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// If a string holds a NUL or the message is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        framed(b'p', "AuthenticationResponse", out, |w| match self {
            Self::Password { password } => w.cstr(password, "password"),
            Self::SaslInitial { mechanism, data } => {
                w.cstr(mechanism, "mechanism")?;
                w.value(*data, "data")
            }
            Self::Sasl { data } | Self::Gss { data } => {
                w.bytes(data);
                Ok(())
            }
        })
    }
}

impl fmt::Debug for AuthenticationResponse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Passwords and proofs stay out of logs.
        f.write_str(match self {
            Self::Password { .. } => "Password(***)",
            Self::SaslInitial { .. } => "SaslInitial(***)",
            Self::Sasl { .. } => "Sasl(***)",
            Self::Gss { .. } => "Gss(***)",
        })
    }
}
