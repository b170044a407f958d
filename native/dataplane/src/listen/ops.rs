//! What operators ask: alive, ready, how much of what.

use std::sync::atomic::Ordering;

use http::{Response, StatusCode};
use serde_json::json;

use super::Core;
use super::body::Reply;
use super::rest::{JSON, TEXT, respond};

/// Alive: the process answers.
pub(super) fn live() -> Response<Reply> {
    respond(StatusCode::OK, JSON, &br#"{"live": true}"#[..])
}

/// Ready: every wanted version is available and the server is not stopping; else 503 with the reasons.
pub(super) fn ready(core: &Core) -> Response<Reply> {
    let routes = core.router.routes();
    let (ready, reasons) = routes.readiness();
    let (ready, reasons) = match core.stopping.load(Ordering::Relaxed) {
        true => (false, vec!["stopping".to_owned()]),
        false => (ready, reasons.to_vec()),
    };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    respond(status, JSON, json!({"ready": ready, "reasons": reasons}).to_string())
}

/// Started: the first load is over, whatever came of it.
pub(super) fn started(core: &Core) -> Response<Reply> {
    let started = core.router.routes().is_started();
    let status = if started { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    respond(status, JSON, json!({"started": started}).to_string())
}

pub(super) fn metrics(core: &Core) -> Response<Reply> {
    respond(StatusCode::OK, TEXT, metrics_page(core))
}

pub(super) fn metrics_page(core: &Core) -> String {
    let mut page = String::with_capacity(16 << 10);
    core.router.routes().write_metrics(&mut page);
    core.router.write_metrics(&mut page);
    core.metrics.write(&mut page);
    core.router.logs().write_metrics(&mut page);
    core.router.skew().write_metrics(&mut page);
    page
}
