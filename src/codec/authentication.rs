//! Requests for authentication and the answers to them.

use alloc::vec::Vec;
use core::fmt::{self, Debug as _};

use super::error::{DecodeError, DecodeErrorKind, EncodeError};
use super::list::{Item, List, ListBuf, sealed};
use super::readable::Text;
use super::reader::Reader;
use super::writer::{Writer, framed};

/// `Authentication` (`R`): the server's request for a proof of identity, or its consent.
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
    /// Asks for the password in clear text.
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
    /// The last message of the mechanism; `Ok` follows.
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
    /// If the body does not follow its layout to its last byte, or the code is unknown.
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
    /// If the message is too long.
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
        match self {
            Self::Sasl { mechanisms } => f.debug_tuple(self.name()).field(mechanisms).finish(),
            // The other variants hold salts, tokens and proofs.
            _ => f.write_str(self.name()),
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

    fn show(name: &&[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Text(name).fmt(f)
    }
}

/// Names, such as those of SASL mechanisms; items are `&[u8]`.
pub type Names<'a> = List<'a, NameItem>;
/// An owned list of [`Names`], to build messages with.
pub type NamesBuf = ListBuf<NameItem>;

/// A client's answer (`p`) to a request for authentication.
///
/// One type byte serves four layouts; the request before it decides which one. A reader gets the
/// [body](crate::codec::FrontendMessage::AuthenticationResponse) and names the layout.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationResponse<'a> {
    /// `PasswordMessage`: the password, or its MD5 form.
    #[doc(alias = "PasswordMessage")]
    Password {
        /// The bytes without the NUL that ends them in the message.
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
    /// If the body is not one string.
    pub fn parse_password(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("PasswordMessage", body);
        let password = r.cstr("password")?;
        r.finish()?;
        Ok(Self::Password { password })
    }

    /// Reads the body as a `SASLInitialResponse`.
    ///
    /// # Errors
    /// If the body does not follow its layout to its last byte.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::test_support::{golden, golden_open, list, malformed};
    use crate::codec::{Backend, BackendMessage, Frontend, FrontendMessage};
    use alloc::format;

    const fn request(request: Authentication<'_>) -> BackendMessage<'_> {
        BackendMessage::Authentication(request)
    }

    #[test]
    fn requests_are_their_bytes() {
        let mechanisms: NamesBuf = list([&b"SCRAM-SHA-256-PLUS"[..], b"SCRAM-SHA-256"]);
        for (bytes, message) in [
            (&b"R\0\0\0\x08\0\0\0\0"[..], Authentication::Ok),
            (b"R\0\0\0\x08\0\0\0\x01", Authentication::KerberosV4),
            (b"R\0\0\0\x08\0\0\0\x02", Authentication::KerberosV5),
            (b"R\0\0\0\x08\0\0\0\x03", Authentication::CleartextPassword),
            (b"R\0\0\0\x0a\0\0\0\x04ab", Authentication::CryptPassword { salt: *b"ab" }),
            (b"R\0\0\0\x0c\0\0\0\x05\xf7\x86+\xb3", Authentication::Md5Password { salt: *b"\xf7\x86+\xb3" }),
            (b"R\0\0\0\x08\0\0\0\x06", Authentication::ScmCredential),
            (b"R\0\0\0\x08\0\0\0\x07", Authentication::Gss),
            (b"R\0\0\0\x08\0\0\0\x09", Authentication::Sspi),
            (
                b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
                Authentication::Sasl { mechanisms: mechanisms.as_list() },
            ),
            (b"R\0\0\0\x09\0\0\0\x0a\0", Authentication::Sasl { mechanisms: Names::EMPTY }),
        ] {
            golden::<Backend>(bytes, request(message));
        }
    }

    #[test]
    fn requests_that_end_in_data_are_their_bytes() {
        let data = b"r=rOprNGfwEbeRWgbNEkqO3kyXVxoJdx04JA5lTmuiqAT81QjX,s=98AdxPR9byIX9KFFx/s75g==,i=4096";
        let bytes = [&b"R\0\0\0\x5c\0\0\0\x0b"[..], data].concat();
        golden_open::<Backend>(&bytes, 4, request(Authentication::SaslContinue { data }));
        let data = b"v=IwE2CKZYRVKA8bWJuXS1yGnDQw5QUCr0cFgPA6Kd3qk=";
        let bytes = [&b"R\0\0\0\x36\0\0\0\x0c"[..], data].concat();
        golden_open::<Backend>(&bytes, 4, request(Authentication::SaslFinal { data }));
        let token = request(Authentication::GssContinue { data: b"token" });
        golden_open::<Backend>(b"R\0\0\0\x0d\0\0\0\x08token", 4, token);
    }

    #[test]
    fn unknown_requests_are_malformed() {
        for code in [13, -1, i32::MIN, i32::MAX] {
            malformed::<Backend>(b"R", &code.to_be_bytes());
        }
        malformed::<Backend>(b"R", b"\0\0\0\x0aSCRAM-SHA-256\0");
    }

    #[test]
    fn answers_are_their_bytes() {
        for (bytes, answer) in [
            (&b"p\0\0\0\x0ethrowaway\0"[..], AuthenticationResponse::Password { password: b"throwaway" }),
            (
                b"p\0\0\0\x19SCRAM-SHA-256\0\0\0\0\x03n,,",
                AuthenticationResponse::SaslInitial { mechanism: b"SCRAM-SHA-256", data: Some(b"n,,") },
            ),
            (
                b"p\0\0\0\x0cGSS\0\xff\xff\xff\xff",
                AuthenticationResponse::SaslInitial { mechanism: b"GSS", data: None },
            ),
            (b"p\0\0\0\x0cc=biws,r", AuthenticationResponse::Sasl { data: b"c=biws,r" }),
            (b"p\0\0\0\x09token", AuthenticationResponse::Gss { data: b"token" }),
        ] {
            let mut out = Vec::new();
            answer.encode(&mut out).unwrap();
            assert_eq!(out, bytes);
            let body = &bytes[5..];
            golden_open::<Frontend>(bytes, 0, FrontendMessage::AuthenticationResponse { body });
            let parse = match answer {
                AuthenticationResponse::Password { .. } => AuthenticationResponse::parse_password,
                AuthenticationResponse::SaslInitial { .. } => AuthenticationResponse::parse_sasl_initial,
                _ => continue,
            };
            assert_eq!(parse(body), Ok(answer));
            assert!((0..body.len()).all(|cut| parse(&body[..cut]).is_err()), "a truncated body was read");
            assert!(parse(&[body, b"\0"].concat()).is_err(), "one byte more was read");
        }
        for len in [-2, i32::MIN, i32::MAX] {
            let body = [b"SCRAM-SHA-256\0", &len.to_be_bytes()[..], b"n,,"].concat();
            assert!(AuthenticationResponse::parse_sasl_initial(&body).is_err(), "{len}");
        }
    }

    #[test]
    fn debug_shows_neither_salts_nor_proofs_nor_passwords() {
        let mechanisms: NamesBuf = list([&b"SCRAM-SHA-256"[..]]);
        for (shown, expected) in [
            (
                format!("{:?}", Authentication::Sasl { mechanisms: mechanisms.as_list() }),
                r#"AuthenticationSASL(["SCRAM-SHA-256"])"#,
            ),
            (format!("{:?}", Authentication::Md5Password { salt: *b"salt" }), "AuthenticationMD5Password"),
            (format!("{:?}", Authentication::SaslFinal { data: b"v=" }), "AuthenticationSASLFinal"),
            (format!("{:?}", AuthenticationResponse::Password { password: b"secret" }), "Password(***)"),
            (format!("{:?}", AuthenticationResponse::Sasl { data: b"p=" }), "Sasl(***)"),
        ] {
            assert_eq!(shown, expected);
        }
    }
}
