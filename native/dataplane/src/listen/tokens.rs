//! Bearer tokens: who a request comes from, and whether that is enough for what it asks.
//!
//! A token is `svb_<id>_<secret>`: 16 hex digits by which it is found, and 64 that only its owner knows. The server keeps
//! a salted SHA-256 of the secret. A slow hash (bcrypt, Argon2) protects words that people choose, which can be guessed;
//! 256 random bits cannot, and a check that takes a microsecond can be made for every request.
//!
//! Source: RFC 6750 (bearer tokens).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use http::{HeaderValue, Method};
use ring::digest::{Context, SHA256};
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::{health, oip_grpc, tfs_grpc};
use crate::{Code, Error, Result};

pub(super) const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"servable\"");
const PREFIX: &str = "svb_";
const ID: usize = 16;
const SECRET: usize = 64;
const HASH: usize = 32;

/// What a token is good for; `admin` is good for everything.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scope {
    /// Inference calls.
    Predict,
    /// Metadata, status, metrics.
    Read,
    /// What changes which models are served.
    Write,
    Admin,
}

impl Scope {
    fn name(self) -> &'static str {
        match self {
            Scope::Predict => "predict",
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Admin => "admin",
        }
    }
}

/// A token as the file has it: all but its secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    id: String,
    /// What people call it.
    name: String,
    salt: String,
    /// SHA-256 of salt and secret, both as they are written; in hex.
    hash: String,
    scopes: Vec<Scope>,
    /// Seconds since 1970 from which on it is of no use.
    #[serde(default)]
    expires: Option<f64>,
}

struct Known {
    name: String,
    salt: String,
    hash: [u8; HASH],
    scopes: Vec<Scope>,
    expires: Option<SystemTime>,
}

/// Lets requests in by their token; all of them where no tokens were set.
#[derive(Default)]
pub(super) struct Gate(ArcSwapOption<HashMap<String, Known>>);

impl Gate {
    /// Takes the tokens that are good from now on.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when one of them cannot be read; then the ones before stay.
    pub(super) fn set(&self, tokens: &[Token]) -> Result<()> {
        let known = tokens.iter().map(known).collect::<Result<_>>()?;
        self.0.store(Some(Arc::new(known)));
        Ok(())
    }

    /// Whether requests need a token.
    pub(super) fn is_closed(&self) -> bool {
        self.0.load().is_some()
    }

    /// Whether a request comes in with this `Authorization`. `scope` is what it needs (none: everybody may); it is only
    /// asked for where tokens are.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` without a token that is known and has not expired, `PERMISSION_DENIED` where its scopes are not
    /// enough.
    pub(super) fn admit(&self, scope: impl FnOnce() -> Option<Scope>, authorization: Option<&[u8]>) -> Result<()> {
        let known = self.0.load();
        let Some(known) = known.as_ref() else { return Ok(()) };
        let Some(scope) = scope() else { return Ok(()) };
        let presented = authorization.and_then(bearer).ok_or_else(|| {
            refused("no_token", "This server asks for a token: send the header Authorization: Bearer TOKEN")
        })?;
        let token = find(known, presented).ok_or_else(|| refused("bad_token", "The token is not known here"))?;
        if token.expires.is_some_and(|end| end <= SystemTime::now()) {
            return Err(refused("token_expired", "The token has expired"));
        }
        if !token.scopes.contains(&scope) && !token.scopes.contains(&Scope::Admin) {
            let message = format!("The token {} lacks the scope {}", token.name, scope.name());
            return Err(Error::new(Code::PermissionDenied, message).with_reason("no_scope"));
        }
        Ok(())
    }
}

fn known(token: &Token) -> Result<(String, Known)> {
    let wrong =
        |what: &str| Error::invalid(format!("The token {} has a wrong {what}", token.name)).with_reason("tokens");
    let hash = unhex(&token.hash).ok_or_else(|| wrong("hash"))?;
    if token.id.len() != ID {
        return Err(wrong("id"));
    }
    let expires = token.expires.map(|seconds| {
        let since = Duration::try_from_secs_f64(seconds).ok();
        since.and_then(|since| UNIX_EPOCH.checked_add(since)).ok_or_else(|| wrong("time of expiry"))
    });
    let known = Known {
        name: token.name.clone(),
        salt: token.salt.clone(),
        hash,
        scopes: token.scopes.clone(),
        expires: expires.transpose()?,
    };
    Ok((token.id.clone(), known))
}

fn unhex(text: &str) -> Option<[u8; HASH]> {
    let mut bytes = [0; HASH];
    if text.len() != 2 * HASH || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

/// The token of an `Authorization` header; the word `Bearer` may be in any case.
fn bearer(value: &[u8]) -> Option<&str> {
    let (scheme, token) = std::str::from_utf8(value).ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

/// The token that was presented, found by its id; its secret is compared in constant time.
fn find<'a>(known: &'a HashMap<String, Known>, presented: &str) -> Option<&'a Known> {
    let (id, secret) = presented.strip_prefix(PREFIX)?.split_once('_')?;
    if id.len() != ID || secret.len() != SECRET {
        return None;
    }
    let token = known.get(id)?;
    let mut digest = Context::new(&SHA256);
    digest.update(token.salt.as_bytes());
    digest.update(secret.as_bytes());
    bool::from(digest.finish().as_ref().ct_eq(&token.hash)).then_some(token)
}

fn refused(reason: &'static str, message: &'static str) -> Error {
    Error::new(Code::Unauthenticated, message).with_reason(reason)
}

/// The error of a server that is to take tokens and asks for none: connections that are open would not hear of it.
pub(super) fn are_off() -> Error {
    Error::new(Code::FailedPrecondition, "The server was started without tokens").with_reason("tokens")
}

/// What a client is told whose token was taken into the file between two looks at it.
pub(super) fn changed() -> Error {
    Error::new(Code::Unavailable, "The tokens have just changed")
        .with_reason("tokens_changed")
        .with_retry_after(Duration::from_millis(100))
}

/// What a REST request needs; `None` for what everybody may ask.
///
/// What is not known to be harmless needs `write`, so that a new route is closed before it is thought of here.
pub(super) fn rest_scope(method: &Method, path: &str) -> Option<Scope> {
    let is_word = |part: Option<&str>, word: &str| part.is_some_and(|part| part.eq_ignore_ascii_case(word));
    let between = |start: &str, end: &str| {
        is_word(path.get(..start.len()), start)
            && is_word(path.len().checked_sub(end.len()).and_then(|at| path.get(at..)), end)
    };
    let predicts = || {
        let verbs = [":predict", ":classify", ":regress"];
        verbs.iter().any(|verb| between("/v1/models/", verb)) || between("/v2/models/", "/infer")
    };
    match path {
        "/livez" | "/healthz" | "/readyz" | "/startupz" | "/v2/health/live" | "/v2/health/ready" => return None,
        _ => {}
    }
    match *method {
        // A browser asks before it sends, and sends no token with the question. No route answers it with anything.
        Method::OPTIONS => None,
        Method::GET | Method::HEAD => Some(Scope::Read),
        Method::POST if predicts() => Some(Scope::Predict),
        Method::POST if path == "/v2/repository/index" => Some(Scope::Read),
        _ => Some(Scope::Write),
    }
}

/// What a gRPC call needs; `None` for what everybody may ask.
pub(super) fn grpc_scope(path: &str) -> Option<Scope> {
    if path.starts_with(health::PREFIX) {
        return None;
    }
    let services = [tfs_grpc::PREDICTION, tfs_grpc::MODEL, oip_grpc::PREFIX];
    match services.iter().find_map(|service| path.strip_prefix(service)) {
        Some("ServerLive" | "ServerReady") => None,
        Some("Predict" | "Classify" | "Regress" | "MultiInference" | "ModelInfer" | "ModelStreamInfer") => {
            Some(Scope::Predict)
        }
        Some(
            "GetModelMetadata" | "GetModelStatus" | "ServerMetadata" | "ModelMetadata" | "ModelReady"
            | "RepositoryIndex",
        ) => Some(Scope::Read),
        _ => Some(Scope::Write),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET_TEXT: &str = "5ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7";

    fn token(scopes: &[&str], expires: Option<f64>) -> Token {
        let mut digest = Context::new(&SHA256);
        digest.update(b"ab");
        digest.update(SECRET_TEXT.as_bytes());
        let hash: String = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let json = serde_json::json!({
            "id": "0123456789abcdef", "name": "ci", "salt": "ab", "hash": hash, "scopes": scopes, "expires": expires,
        });
        serde_json::from_value(json).unwrap()
    }

    fn ask(token: &Token, scope: Scope, authorization: &str) -> Code {
        let gate = Gate::default();
        gate.set(std::slice::from_ref(token)).unwrap();
        gate.admit(|| Some(scope), Some(authorization.as_bytes())).err().map_or(Code::Ok, |error| error.code)
    }

    #[test]
    fn without_tokens_everybody_comes_in() {
        assert!(Gate::default().admit(|| Some(Scope::Admin), None).is_ok());
    }

    #[test]
    fn an_empty_list_lets_nobody_in_but_open_pages_stay_open() {
        let gate = Gate::default();
        gate.set(&[]).unwrap();
        assert_eq!(gate.admit(|| Some(Scope::Read), None).unwrap_err().code, Code::Unauthenticated);
        assert!(gate.admit(|| None, None).is_ok());
    }

    #[test]
    fn only_the_very_token_comes_in_and_only_for_its_scopes() {
        let (mine, right) = (token(&["predict"], None), format!("Bearer svb_0123456789abcdef_{SECRET_TEXT}"));
        assert_eq!(ask(&mine, Scope::Predict, &right), Code::Ok);
        assert_eq!(ask(&mine, Scope::Predict, &right.replace("Bearer", "bearer")), Code::Ok);
        assert_eq!(ask(&mine, Scope::Read, &right), Code::PermissionDenied);
        assert_eq!(ask(&token(&["admin"], None), Scope::Write, &right), Code::Ok);
        let truncated = &right[..right.len() - 1];
        let other = right.replace("5ec7", "5ec8");
        for wrong in [truncated, &other, "Bearer ", "Bearer svb_", "Basic abc", "", &right[7..]] {
            assert_eq!(ask(&mine, Scope::Predict, wrong), Code::Unauthenticated, "{wrong}");
        }
    }

    #[test]
    fn a_token_that_has_expired_is_refused() {
        let right = format!("Bearer svb_0123456789abcdef_{SECRET_TEXT}");
        assert_eq!(ask(&token(&["predict"], Some(1.0)), Scope::Predict, &right), Code::Unauthenticated);
        assert_eq!(ask(&token(&["predict"], Some(1e11)), Scope::Predict, &right), Code::Ok);
    }

    #[test]
    fn tokens_that_cannot_be_read_are_refused_and_the_ones_before_stay() {
        let gate = Gate::default();
        gate.set(&[token(&["predict"], None)]).unwrap();
        for (id, hash, expires) in
            [("x", "", None), ("0123456789abcdef", "zz", None), ("0123456789abcdef", "", Some(-1.0))]
        {
            let mut bad = token(&[], expires);
            bad.id = id.to_owned();
            if !hash.is_empty() {
                bad.hash = hash.to_owned();
            }
            assert_eq!(gate.set(&[bad]).unwrap_err().code, Code::InvalidArgument);
        }
        let right = format!("Bearer svb_0123456789abcdef_{SECRET_TEXT}");
        assert!(gate.admit(|| Some(Scope::Predict), Some(right.as_bytes())).is_ok());
    }

    #[test]
    fn what_is_not_known_to_be_harmless_needs_write() {
        let rest = |method, path| rest_scope(&method, path);
        assert_eq!(rest(Method::GET, "/readyz"), None);
        assert_eq!(rest(Method::GET, "/metrics"), Some(Scope::Read));
        assert_eq!(rest(Method::POST, "/V1/Models/m:PREDICT"), Some(Scope::Predict));
        assert_eq!(rest(Method::POST, "/v2/models/m/infer"), Some(Scope::Predict));
        assert_eq!(rest(Method::POST, "/v2/repository/models/m/load"), Some(Scope::Write));
        assert_eq!(rest(Method::POST, "/v2/repository/models/infer"), Some(Scope::Write));
        assert_eq!(rest(Method::DELETE, "/v2/models/m/infer"), Some(Scope::Write));
        assert_eq!(rest(Method::PUT, "/é"), Some(Scope::Write));
        assert_eq!(grpc_scope("/grpc.health.v1.Health/Check"), None);
        assert_eq!(grpc_scope("/tensorflow.serving.PredictionService/Predict"), Some(Scope::Predict));
        assert_eq!(grpc_scope("/tensorflow.serving.ModelService/GetModelStatus"), Some(Scope::Read));
        assert_eq!(grpc_scope("/tensorflow.serving.ModelService/HandleReloadConfigRequest"), Some(Scope::Write));
        assert_eq!(grpc_scope("/anything"), Some(Scope::Write));
    }
}
