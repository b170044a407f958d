//! How gRPC says what went wrong, and how long a call may take, in headers.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::time::Duration;

use http::HeaderMap;

use crate::{Code, Error, Result};

const NUMBER: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// What the trailers say; `None` where they say nothing.
pub(super) fn read(trailers: &HeaderMap) -> Option<Result<()>> {
    let number = trailers.get(NUMBER)?.to_str().ok().and_then(|text| text.parse().ok());
    let code = number.map_or(Code::Unknown, Code::from_number);
    if code == Code::Ok {
        return Some(Ok(()));
    }
    let message = trailers.get(MESSAGE).map(|value| percent_decoded(value.as_bytes())).unwrap_or_default();
    let mut error = Error::new(code, message);
    let pushback = trailers.get(PUSHBACK).and_then(|value| value.to_str().ok()?.parse().ok());
    error.retry_after = pushback.map(Duration::from_millis);
    Some(Err(error))
}

/// The text whose bytes outside printable ASCII stand as `%XX`; what is not UTF-8 is replaced.
fn percent_decoded(value: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = tail.get(..2).filter(|_| first == b'%').and_then(hex_byte);
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    Some((digit(digits[0])? * 16 + digit(digits[1])?) as u8)
}

/// A time limit as `grpc-timeout` writes it: at most eight digits and a unit. Rounded up: the other side must not give
/// up first.
pub(super) fn timeout(limit: Duration) -> String {
    const MOST: u128 = 99_999_999;
    let units = [("u", 1_000), ("m", 1_000_000), ("S", 1_000_000_000)];
    let nanos = limit.as_nanos();
    let fitting = units.iter().find(|(_, unit)| nanos.div_ceil(*unit) <= MOST);
    fitting.map_or_else(|| format!("{MOST}S"), |(name, unit)| format!("{}{name}", nanos.div_ceil(*unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
    }

    #[test]
    fn code_and_message_come_through() {
        assert_eq!(read(&trailers(&[])), None);
        assert_eq!(read(&trailers(&[(NUMBER, "0")])), Some(Ok(())));
        let error = read(&trailers(&[(NUMBER, "8"), (MESSAGE, "100%25 \u{25}C3%BC 5%"), (PUSHBACK, "1500")]));
        let error = error.unwrap().unwrap_err();
        assert_eq!((error.code, &*error.message), (Code::ResourceExhausted, "100% ü 5%"));
        assert_eq!(error.retry_after, Some(Duration::from_millis(1500)));
        assert_eq!(read(&trailers(&[(NUMBER, "x")])).unwrap().unwrap_err().code, Code::Unknown);
    }

    #[test]
    fn a_limit_has_at_most_eight_digits() {
        assert_eq!(timeout(Duration::from_nanos(1)), "1u");
        assert_eq!(timeout(Duration::from_secs(30)), "30000000u");
        assert_eq!(timeout(Duration::from_secs(100)), "100000m");
        assert_eq!(timeout(Duration::from_secs(1_000_000)), "1000000S");
        assert_eq!(timeout(Duration::MAX), "99999999S");
    }
}
