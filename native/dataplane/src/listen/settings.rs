//! What Python sets about sockets and limits.

use std::time::Duration;

use serde::Deserialize;

use super::tls::TlsSettings;
use super::tokens::Token;

/// Every key may be left out. Zero means "no limit" where a limit is meant.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `host:port`, port 0 for a free one; empty: no REST.
    pub rest_address: String,
    /// `host:port`, port 0 for a free one; empty: no gRPC over TCP.
    pub grpc_address: String,
    /// Also answer gRPC on this Unix socket; empty: none. A stale socket file is replaced.
    pub grpc_socket_path: String,
    /// Certificates; none: plain text.
    pub tls: Option<TlsSettings>,
    /// Who may do what; none: everybody everything. An empty list lets nobody in.
    pub tokens: Option<Vec<Token>>,
    /// Of gRPC connections.
    pub grpc: GrpcSettings,
    /// Threads that own sockets; 0: one a core.
    pub io_threads: usize,
    /// Threads that run engines; 0: one a core.
    pub engine_threads: usize,
    /// Largest request body, also after unpacking.
    pub max_body_bytes: usize,
    /// Largest archive of a model that is uploaded.
    pub max_upload_bytes: u64,
    /// Largest head of a request.
    pub max_header_bytes: usize,
    /// Most rows in one request.
    pub max_rows: usize,
    /// Longest time for a client to send one request, in seconds.
    pub send_timeout_s: f64,
    pub max_connections: usize,
    /// Most bytes of request bodies held at once.
    pub max_queued_bytes: usize,
    /// Longest time for one answer, in seconds, where the request does not say.
    pub request_timeout_s: f64,
    /// Most requests held at once while a version is swapped.
    pub max_held: usize,
    /// File of the access log; `-` for standard error; empty: none.
    pub access_log: String,
    /// TensorFlow Serving's place for the metrics page.
    pub metrics_path: String,
    /// Predict answers carry `tensor_content` instead of typed fields.
    pub tensor_content: bool,
    /// Classify and Regress demand the `method_name` of the signature that TensorFlow Serving knows them by.
    pub check_method_names: bool,
    /// Answers of REST carry the three CORS headers.
    pub cors: bool,
    /// Shown by OIP's server metadata.
    pub server_version: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            rest_address: "127.0.0.1:8501".to_owned(),
            grpc_address: "127.0.0.1:8500".to_owned(),
            grpc_socket_path: String::new(),
            tls: None,
            tokens: None,
            grpc: GrpcSettings::default(),
            io_threads: 0,
            engine_threads: 0,
            max_body_bytes: 64 << 20,
            max_upload_bytes: 10 << 30,
            max_header_bytes: 64 << 10,
            max_rows: 0,
            send_timeout_s: 30.0,
            max_connections: 10_000,
            max_queued_bytes: 1 << 30,
            request_timeout_s: 30.0,
            max_held: 10_000,
            access_log: String::new(),
            metrics_path: "/monitoring/prometheus/metrics".to_owned(),
            tensor_content: false,
            check_method_names: false,
            cors: false,
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// What is said of every gRPC connection. Zero means "no limit" but for the streams.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcSettings {
    /// Largest message; 0: as `max_body_bytes`.
    pub max_message_bytes: usize,
    /// Calls that one connection may have open at once.
    pub max_streams: u32,
    /// Silence after which a client is asked whether it is there, in seconds.
    pub keepalive_s: f64,
    /// Silence after that which ends the connection, in seconds.
    pub keepalive_timeout_s: f64,
    /// Age at which a connection takes no more calls, in seconds, give or take a tenth.
    pub max_connection_age_s: f64,
}

impl Default for GrpcSettings {
    fn default() -> Self {
        GrpcSettings {
            max_message_bytes: 0,
            max_streams: 1000,
            keepalive_s: 60.0,
            keepalive_timeout_s: 20.0,
            max_connection_age_s: 0.0,
        }
    }
}

impl GrpcSettings {
    pub fn keepalive(&self) -> Option<Duration> {
        seconds(self.keepalive_s)
    }

    pub fn keepalive_timeout(&self) -> Duration {
        seconds(self.keepalive_timeout_s).unwrap_or(Duration::MAX)
    }

    pub fn max_connection_age(&self) -> Option<Duration> {
        seconds(self.max_connection_age_s)
    }
}

impl Settings {
    pub fn send_timeout(&self) -> Option<Duration> {
        seconds(self.send_timeout_s)
    }

    pub fn request_timeout(&self) -> Option<Duration> {
        seconds(self.request_timeout_s)
    }
}

fn seconds(value: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(value).ok().filter(|time| !time.is_zero())
}

/// `asked`, or one a core where nothing is asked for.
pub(super) fn thread_count(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}
