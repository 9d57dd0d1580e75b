//! Authentication within the handshake: which requests are answered, and when `AuthenticationOk` is accepted.

use alloc::boxed::Box;
use alloc::vec::Vec;

use zeroize::Zeroizing;

use super::{Facts, State, Tls};
use crate::auth::{
    AuthDone, AuthMethod, AuthRequest, ChannelBinding, ScramClient, TlsEndPoint, md5_password,
};
use crate::codec::{Authentication, AuthenticationResponse, Names};
use crate::session::error::HandshakeError;

impl Facts {
    /// Handles a request for authentication, a message of a SCRAM exchange, or `AuthenticationOk`.
    pub(super) fn on_authentication(
        &mut self,
        state: State,
        request: Authentication<'_>,
        out: &mut Vec<u8>,
    ) -> Result<State, HandshakeError> {
        let (state, done) = match (state, request) {
            (State::ExpectScramServerFirst(client), Authentication::SaslContinue { data }) => {
                let mut client_final = Vec::new();
                let next = client.server_first(data, &mut client_final)?;
                let client_final = Zeroizing::new(client_final);
                AuthenticationResponse::Sasl { data: &client_final }.encode(out)?;
                return Ok(State::ExpectScramServerFinal(Box::new(next)));
            }
            (State::ExpectScramServerFinal(scram), Authentication::SaslFinal { data }) => {
                self.session.derived_keys = Some(scram.server_final(data)?);
                self.session.authentication = AuthMethod::ScramSha256;
                let done = if self.session.channel_bound { AuthDone::ScramBound } else { AuthDone::Scram };
                return Ok(State::ExpectAuthenticationOk(done));
            }
            (State::ExpectAuthentication { .. }, Authentication::Ok) => (None, AuthDone::Nothing),
            (State::ExpectAuthenticationOk(done), Authentication::Ok) => (None, done),
            (State::ExpectScramServerFirst(_) | State::ExpectScramServerFinal(_), Authentication::Ok) => {
                (None, AuthDone::ScramUnproven)
            }
            (State::ExpectAuthentication { .. }, request) => return self.answer(request, out),
            (state, _) => (Some(state), AuthDone::Nothing),
        };
        if let Some(state) = state {
            return Err(HandshakeError::Unexpected {
                expected: state.expected(),
                got: "another Authentication",
            });
        }
        self.config.policy.check_ok(done)?;
        Ok(State::ExpectReadyForQuery)
    }

    /// Answers the server's first request for authentication.
    fn answer(&mut self, request: Authentication<'_>, out: &mut Vec<u8>) -> Result<State, HandshakeError> {
        let kind = match request {
            Authentication::CleartextPassword => AuthRequest::CleartextPassword,
            Authentication::Md5Password { .. } => AuthRequest::Md5Password,
            Authentication::Gss | Authentication::GssContinue { .. } => AuthRequest::Gss,
            Authentication::Sspi => AuthRequest::Sspi,
            Authentication::Sasl { .. } => AuthRequest::Sasl,
            _ => AuthRequest::Other,
        };
        self.config.policy.check_request(kind)?;
        match request {
            Authentication::CleartextPassword => {
                let password = self.config.usable_password()?;
                AuthenticationResponse::Password { password }.encode(out)?;
                self.session.authentication = AuthMethod::Password;
            }
            Authentication::Md5Password { salt } => {
                let response = md5_password(&self.config.user(), self.config.usable_password()?, salt);
                AuthenticationResponse::Password { password: response.as_bytes() }.encode(out)?;
                self.session.authentication = AuthMethod::Md5;
            }
            Authentication::Sasl { mechanisms } => return self.begin_scram(mechanisms, out),
            Authentication::Gss | Authentication::GssContinue { .. } => {
                return Err(HandshakeError::Unsupported("GSSAPI"));
            }
            Authentication::Sspi => return Err(HandshakeError::Unsupported("SSPI")),
            Authentication::KerberosV4 | Authentication::KerberosV5 => {
                return Err(HandshakeError::Unsupported("Kerberos"));
            }
            Authentication::CryptPassword { .. } => return Err(HandshakeError::Unsupported("crypt")),
            Authentication::ScmCredential => return Err(HandshakeError::Unsupported("SCM credential")),
            Authentication::Ok | Authentication::SaslContinue { .. } | Authentication::SaslFinal { .. } => {
                return Err(HandshakeError::Unexpected {
                    expected: "a request for authentication",
                    got: "the continuation of one",
                });
            }
        }
        Ok(State::ExpectAuthenticationOk(AuthDone::Answered))
    }

    fn begin_scram(&mut self, offered: Names<'_>, out: &mut Vec<u8>) -> Result<State, HandshakeError> {
        let tls = match &self.tls {
            Tls::None => TlsEndPoint::NoTls,
            Tls::Hash(hash) => TlsEndPoint::Hash(hash),
            Tls::NoHash => TlsEndPoint::NoHash,
        };
        let policy = self.config.policy;
        let binding = policy.select_binding(offered.iter(), tls)?;
        let secret = self.config.scram_secret()?;
        // The states refuse a second request for SASL, so the nonce is used once.
        let nonce = self.nonce.take().ok_or(HandshakeError::Finished)?;
        self.session.channel_bound = matches!(binding, ChannelBinding::TlsServerEndPoint(_));
        let cached = self.config.derived_keys.clone();
        let client = ScramClient::new(&secret, nonce, binding, policy.max_scram_iterations, cached);

        let mut client_first = Vec::new();
        client.client_first(&mut client_first);
        let mechanism = client.mechanism().name().as_bytes();
        AuthenticationResponse::SaslInitial { mechanism, data: Some(&client_first) }.encode(out)?;
        Ok(State::ExpectScramServerFirst(Box::new(client)))
    }
}
