//! Whether a call is let in: who calls, by certificate, secret or signed token, and whether they may.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use http::{HeaderMap, Request, header};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use tonic::Status;

use crate::accept::Peer;
use crate::access::Role;
use crate::config::{Jwt, Server, Token};
use crate::fault;
use crate::serve::Context;
use crate::watched::Watched;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The name of the certificate, the token or the subject.
    pub(crate) name: String,
    roles: Vec<Role>,
}

/// Lets calls in.
#[derive(Debug)]
pub(crate) struct Guard {
    stage: &'static str,
    callers: BTreeMap<Role, Vec<String>>,
    tokens: Vec<(blake3::Hash, Caller)>,
    signed: Option<Signed>,
}

/// Whose signed tokens are believed.
#[derive(Debug)]
struct Signed {
    keys: Arc<Watched<JwkSet>>,
    rules: Jwt,
}

/// What is read of a token (RFC 7519).
#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    role: String,
    #[serde(default)]
    tenant: String,
}

impl Guard {
    /// `None` where the configuration asks nobody who they are.
    ///
    /// # Errors
    /// The keys of `server.jwt` cannot be read.
    pub(crate) fn new(stage: &'static str, context: &Context) -> anyhow::Result<Option<Self>> {
        let Server { callers, tokens, jwt, .. } = &context.server;
        if !context.server.asks_callers() {
            return Ok(None);
        }
        let known = |(name, Token { token, role }): (&String, &Token)| {
            let caller = Caller { name: name.clone(), roles: vec![*role] };
            (blake3::hash(token.expose_secret().as_bytes()), caller)
        };
        let signed = match jwt.keys.as_os_str().is_empty() {
            true => None,
            false => {
                let make = |files: &[Vec<u8>]| {
                    let text = files.first().map(Vec::as_slice).unwrap_or_default();
                    serde_json::from_slice(text).context("server.jwt.keys is no JWK set")
                };
                let keys = Watched::open(vec![jwt.keys.clone()], context, make)?;
                Some(Signed { keys, rules: jwt.clone() })
            }
        };
        let tokens = tokens.iter().map(known).collect();
        Ok(Some(Self { stage, callers: callers.clone(), tokens, signed }))
    }

    /// Who calls, where they may.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for nobody, `PERMISSION_DENIED` for somebody who may not.
    pub(crate) fn admit<B>(&self, request: &Request<B>) -> Result<Caller, Status> {
        let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
        let caller = match bearer(request.headers()) {
            Some(token) => self.by_token(token)?,
            None => self.by_certificate(&peer)?,
        };
        let path = request.uri().path();
        if caller.roles.iter().any(|role| role.may(path)) {
            return Ok(caller);
        }
        let Caller { name, roles } = &caller;
        let roles: Vec<_> = roles.iter().map(|role| role.name()).collect();
        tracing::warn!(stage = self.stage, caller = name, ?roles, path, "a call is refused");
        let what = format!("{name:?} may not call {path}; see server.callers for who may");
        Err(fault::denied(self.stage, "NOT_ALLOWED", what))
    }

    fn by_certificate(&self, peer: &Peer) -> Result<Caller, Status> {
        let Some(name) = peer.0.first() else {
            return Err(self.nobody("a client certificate or an authorization header is needed"));
        };
        let is = |role: &Role| peer.0.iter().any(|name| self.is(name, *role));
        Ok(Caller { name: name.clone(), roles: Role::ALL.into_iter().filter(is).collect() })
    }

    /// Whether a name of a certificate is of this role. The orchestrator need not be listed: where it is not, its
    /// certificate is the one that names it.
    fn is(&self, name: &str, role: Role) -> bool {
        match self.callers.get(&role) {
            Some(listed) => listed.iter().any(|listed| listed == name),
            None => role == Role::Orchestrator && stage_of(name) == role.name(),
        }
    }

    fn by_token(&self, token: &str) -> Result<Caller, Status> {
        // Compared by their hashes, in constant time.
        let hash = blake3::hash(token.as_bytes());
        if let Some((_, caller)) = self.tokens.iter().find(|(known, _)| *known == hash) {
            return Ok(caller.clone());
        }
        let signed = self.signed.as_ref().ok_or_else(|| self.nobody("the token is not known"))?;
        signed.read(token).map_err(|why| self.nobody(&why))
    }

    fn nobody(&self, why: &str) -> Status {
        fault::unauthenticated(self.stage, "UNAUTHENTICATED", why)
    }
}

impl Signed {
    fn read(&self, token: &str) -> Result<Caller, String> {
        let header = jsonwebtoken::decode_header(token)
            .map_err(|error| format!("the token cannot be read: {error}"))?;
        let keys = self.keys.now();
        let key = header
            .kid
            .as_ref()
            .and_then(|kid| keys.find(kid))
            .ok_or("the token names no key of server.jwt.keys")?;
        let decoding =
            DecodingKey::from_jwk(key).map_err(|error| format!("its key cannot be used: {error}"))?;
        if !signs_by(key, header.alg) {
            return Err("the token is not signed as its key says (alg)".to_owned());
        }
        let mut rules = Validation::new(header.alg);
        rules.set_issuer(&[&self.rules.issuer]);
        rules.set_audience(&[&self.rules.audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        rules.validate_nbf = true;
        let claims = jsonwebtoken::decode::<Claims>(token, &decoding, &rules);
        let Claims { sub, role, tenant } =
            claims.map_err(|error| format!("the token is refused: {error}"))?.claims;
        if !self.rules.tenant.is_empty() && tenant != self.rules.tenant {
            return Err("the token is of another tenant".to_owned());
        }
        let role = Role::named(&role).filter(|role| *role != Role::Orchestrator);
        let role = role.ok_or("the token has no role that is known: service, desk or operator")?;
        Ok(Caller { name: sub, roles: vec![role] })
    }
}

/// Whether a key signs by an algorithm: the one it names, else any of its kind. The token alone never says so, and a secret
/// that both sides have is no key here.
fn signs_by(key: &Jwk, algorithm: Algorithm) -> bool {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let of_its_kind = match &key.algorithm {
        AlgorithmParameters::RSA(_) => matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512),
        AlgorithmParameters::EllipticCurve(_) => matches!(algorithm, ES256 | ES384),
        AlgorithmParameters::OctetKeyPair(_) => algorithm == EdDSA,
        _ => false,
    };
    of_its_kind && key.common.key_algorithm.is_none_or(|own| own.to_string().parse().ok() == Some(algorithm))
}

/// The stage that a name of a certificate says: the first label of a DNS name, the last part of a URI.
fn stage_of(name: &str) -> &str {
    match name.split_once("://") {
        Some((_, path)) => path.rsplit('/').next().unwrap_or_default(),
        None => name.split('.').next().unwrap_or_default(),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
