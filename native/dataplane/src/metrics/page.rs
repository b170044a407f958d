//! The page that Prometheus reads, in its text format 0.0.4.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{BatchCounts, CODES, Metrics, PROTOCOLS, lock};
use crate::Code;

impl Metrics {
    /// The page in Prometheus' text format 0.0.4, without the lines about states that only the routes know.
    pub fn write(&self, page: &mut String) {
        self.write_gauges(page);
        self.write_requests(page);
        self.write_batches(page);
        self.write_tensorflow(page);
    }

    fn write_gauges(&self, page: &mut String) {
        let gauges = [
            ("servable_connections", "Open connections", &self.connections),
            ("servable_in_flight", "Requests being answered", &self.in_flight),
            ("servable_queued_bytes", "Bytes of request bodies held", &self.queued_bytes),
        ];
        for (name, help, gauge) in gauges {
            head(page, name, "gauge", help);
            let _ = writeln!(page, "{name} {}", gauge.load(Ordering::Relaxed));
        }
        head(page, "servable_rejected_total", "counter", "Requests refused before any work, by reason");
        for (reason, count) in lock(&self.refused).iter() {
            let _ = writeln!(page, "servable_rejected_total{{reason=\"{reason}\"}} {count}");
        }
    }

    fn write_requests(&self, page: &mut String) {
        let versions = lock(&self.versions).clone();
        let mut times = String::new();
        head(page, "servable_requests_total", "counter", "Answered requests");
        head(&mut times, "servable_request_seconds", "histogram", "Time from the whole request to its answer");
        for ((model, version), counted) in &versions {
            let model = escaped(model);
            for signature in &counted.signatures {
                for (protocol, text) in PROTOCOLS {
                    let metrics = &signature.protocols[protocol as usize];
                    let labels = format!(
                        "model=\"{model}\",version=\"{version}\",signature=\"{}\",protocol=\"{text}\"",
                        escaped(&signature.name)
                    );
                    write_codes(page, "servable_requests_total", &labels, "code", &metrics.codes);
                    if !metrics.seconds.is_empty() {
                        metrics.seconds.write(&mut times, "servable_request_seconds", &labels, 1e9);
                    }
                }
            }
        }
        page.push_str(&times);
    }

    fn write_batches(&self, page: &mut String) {
        let versions = lock(&self.versions).clone();
        let each = |page: &mut String, write: &dyn Fn(&mut String, &str, &BatchCounts)| {
            for ((model, version), counted) in &versions {
                write(page, &format!("model=\"{}\",version=\"{version}\"", escaped(model)), &counted.batch.counts);
            }
        };
        head(page, "servable_queue_depth", "gauge", "Requests that wait for an engine");
        each(page, &|page, labels, counts| {
            let _ = writeln!(page, "servable_queue_depth{{{labels}}} {}", counts.waiting.load(Ordering::Relaxed));
        });
        head(page, "servable_queue_seconds", "histogram", "Time in the queue");
        each(page, &|page, labels, counts| counts.wait.write(page, "servable_queue_seconds", labels, 1e9));
        head(page, "servable_batch_size", "histogram", "Rows in one run of the engine");
        each(page, &|page, labels, counts| counts.rows.write(page, "servable_batch_size", labels, 1.0));
        head(page, "servable_run_seconds", "histogram", "Time of one run of the engine");
        each(page, &|page, labels, counts| counts.run.write(page, "servable_run_seconds", labels, 1e9));
    }
}

pub(super) fn write_codes(page: &mut String, name: &str, labels: &str, label: &str, codes: &[AtomicU64; CODES]) {
    for (number, count) in codes.iter().enumerate() {
        let count = count.load(Ordering::Relaxed);
        if count > 0 {
            let code = Code::from_number(number as i64).name();
            let _ = writeln!(page, "{name}{{{labels},{label}=\"{code}\"}} {count}");
        }
    }
}

/// The two lines in front of a metric.
pub fn head(page: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A label's value as the text format wants it.
pub fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
