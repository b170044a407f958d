//! The model repository: models listed, uploaded, removed, loaded and unloaded by clients.
//!
//! Here a request is read and turned into a JSON description, and a body is streamed to a file; what is to happen is
//! decided by the handler, on a thread apart from those that own sockets.
//!
//! Source: <https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md>.
//! Uploads and removals are our own.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, oneshot};

use super::body::Reply;
use super::dispatch::stopped;
use super::path::decoded;
use super::rest::{JSON, read, respond};
use super::{Core, upload};
use crate::{Code, Error, Result};

/// Takes a request as JSON, `{"action", "model", "version", ...}`, and gives the answer as JSON. May take as long as
/// loading a model does.
pub type RepositoryHandler = Arc<dyn Fn(String) -> Result<String> + Send + Sync>;

/// Requests of each kind, looks and changes, that are worked on at one time; others wait.
const AT_ONCE: usize = 16;
/// Uploads at one time; others are told to come back.
const UPLOADS: usize = 4;
/// Longest name of a model in a path, before it is decoded.
const LONGEST_NAME: usize = 1024;

/// What clients may do with the repository, and whoever does it.
pub(super) struct Repository {
    pub(super) handler: Option<RepositoryHandler>,
    pub(super) uploads: Arc<Semaphore>,
    looks: Arc<Semaphore>,
    changes: Arc<Semaphore>,
}

impl Repository {
    pub(super) fn new(handler: Option<RepositoryHandler>) -> Repository {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Repository { handler, uploads: semaphore(UPLOADS), looks: semaphore(AT_ONCE), changes: semaphore(AT_ONCE) }
    }

    /// Has the handler answer one request. What has begun is finished, also where the client goes away.
    ///
    /// # Errors
    /// Those of the handler; `UNIMPLEMENTED` where there is none.
    pub(super) async fn run(&self, request: Value) -> Result<String> {
        let handler = self.handler.clone().ok_or_else(is_off)?;
        // A change may wait for a model to load; nobody who only looks is to wait for that.
        let turns =
            if only_looks(request["action"].as_str().unwrap_or_default()) { &self.looks } else { &self.changes };
        let turn = turns.clone().acquire_owned().await.map_err(|_| stopped())?;
        let (sender, receiver) = oneshot::channel();
        apart(move || {
            let done = handler(request.to_string());
            drop(turn);
            // Nobody may be waiting any more.
            let _ = sender.send(done);
        })?;
        receiver.await.unwrap_or_else(|_| Err(Error::internal("The request to the repository failed inside")))
    }
}

fn only_looks(action: &str) -> bool {
    matches!(action, "index" | "model")
}

/// Does work that may take long on a thread of its own.
pub(super) fn apart(work: impl FnOnce() + Send + 'static) -> Result<()> {
    let named = std::thread::Builder::new().name("servable-repository".to_owned());
    named.spawn(work).map(drop).map_err(|error| Error::internal(format!("No thread can be started: {error}")))
}

pub(super) fn is_off() -> Error {
    Error::new(Code::Unimplemented, "This server has no repository of models").with_reason("no_repository")
}

/// Answers a request under `/v2/repository`; `parts` are those of the path behind that.
pub(super) async fn answer(core: &Core, head: &Parts, parts: &[&str], incoming: Incoming) -> Result<Response<Reply>> {
    let method = &head.method;
    let (action, name, version) = match (method, parts) {
        (&Method::POST, ["index"]) => ("index", "", None),
        (&Method::GET, ["models", name]) => ("model", *name, None),
        (&Method::POST, ["models", name, "load"]) => ("load", *name, None),
        (&Method::POST, ["models", name, "unload"]) => ("unload", *name, None),
        (&Method::POST, ["models", name, "versions", version, "load"]) => ("load", *name, Some(*version)),
        (&Method::DELETE, ["models", name, "pin"]) => ("unpin", *name, None),
        (&Method::DELETE, ["models", name]) => ("remove", *name, None),
        (&Method::DELETE, ["models", name, "versions", version]) => ("remove", *name, Some(*version)),
        (&Method::POST, ["models", name, "versions"]) => ("upload", *name, None),
        (&Method::PUT, ["models", name, "versions", version]) => ("upload", *name, Some(*version)),
        _ => return Err(no_route(head)),
    };
    if !only_looks(action) {
        check_origin(core, head)?;
    }
    let request = json!({
        "action": action,
        "model": name_of(name)?,
        "version": version.map(number).transpose()?,
        "query": head.uri.query().unwrap_or_default(),
    });
    let answer = match action {
        "upload" => upload::receive(core, head, request, incoming).await?,
        _ => core.repository.run(with_body(core, head, request, incoming).await?).await?,
    };
    Ok(respond(StatusCode::OK, JSON, answer))
}

async fn with_body(core: &Core, head: &Parts, mut request: Value, incoming: Incoming) -> Result<Value> {
    let held = read(core, head, incoming).await?;
    let text = std::str::from_utf8(&held.bytes)
        .map_err(|_| Error::invalid("The body of the request is not UTF-8").with_reason("bad_body"))?;
    request["body"] = Value::from(text);
    Ok(request)
}

fn name_of(name: &str) -> Result<String> {
    if name.len() > LONGEST_NAME {
        return Err(Error::invalid("The name of the model is too long").with_reason("bad_name"));
    }
    Ok(decoded(name).into_owned())
}

fn number(version: &str) -> Result<i64> {
    let is_number = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    is_number
        .then(|| version.parse().ok())
        .flatten()
        .ok_or_else(|| Error::invalid(format!("{version:?} is not the number of a version")).with_reason("bad_version"))
}

fn no_route(head: &Parts) -> Error {
    let message = format!(
        "There is nothing at {} {}. Models: POST /v2/repository/index, GET /v2/repository/models/NAME",
        head.method,
        head.uri.path()
    );
    Error::new(Code::NotFound, message).with_reason("no_route")
}

/// Keeps web pages from changing models by way of the browser of somebody who can reach this server.
///
/// A browser tells the origin of a page with every request that could change something, and sends none of the
/// content types refused here without it having been asked first (CORS). Behind a name that an attacker points at this
/// machine (DNS rebinding), the host is not one that this machine has. Where tokens are asked for, none of this is
/// needed: a browser never sends one by itself.
///
/// # Errors
/// `PERMISSION_DENIED` for what could come from a web page.
fn check_origin(core: &Core, head: &Parts) -> Result<()> {
    if core.gate.is_closed() {
        return Ok(());
    }
    let refused = |message: String| Err(Error::new(Code::PermissionDenied, message).with_reason("cross_site"));
    if head.headers.contains_key(header::ORIGIN) {
        return refused("Web pages may change models only where the server asks for tokens".to_owned());
    }
    if let Some(kind) = simple_type(&head.headers) {
        return refused(format!(
            "The content type {kind} could come from a web page: send application/octet-stream with a model, \
             application/json else"
        ));
    }
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    let host = authority.or_else(|| head.headers.get(header::HOST).and_then(|host| host.to_str().ok()));
    match host {
        Some(host) if core.settings.tls.is_none() && !is_own_host(host) => refused(format!(
            "Models can be changed under an IP address or localhost, not under the name {host}, unless the server asks \
             for tokens"
        )),
        _ => Ok(()),
    }
}

/// The content type, where a web page may send it anywhere without asking.
fn simple_type(headers: &HeaderMap) -> Option<&str> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim();
    let simple = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"];
    simple.iter().any(|known| kind.eq_ignore_ascii_case(known)).then_some(kind)
}

/// Whether a host is an IP address or this machine by name: what no attacker's name can be.
fn is_own_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name.parse::<std::net::IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn only_addresses_and_localhost_are_hosts_of_our_own() {
        for own in ["127.0.0.1:8501", "localhost", "LOCALHOST:1", "[::1]:8501", "10.0.0.7", "a.localhost:80"] {
            assert!(is_own_host(own), "{own}");
        }
        for other in ["evil.example:8501", "localhost.evil.example", "127.0.0.1.nip.io", "", "[evil", "::1x"] {
            assert!(!is_own_host(other), "{other}");
        }
    }

    #[test]
    fn types_that_a_form_can_send_are_simple() {
        let kind = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]);
            simple_type(&headers).is_some()
        };
        assert!(kind("text/plain; charset=utf-8") && kind("Multipart/Form-Data; boundary=x"));
        assert!(!kind("application/json") && !kind("application/x-tar") && simple_type(&HeaderMap::new()).is_none());
    }

    #[test]
    fn a_version_is_a_number_of_63_bits() {
        assert_eq!(number("007").unwrap(), 7);
        for bad in ["", "-1", "+1", "x", "9223372036854775808", "1 "] {
            assert_eq!(number(bad).unwrap_err().code, Code::InvalidArgument, "{bad}");
        }
    }
}
