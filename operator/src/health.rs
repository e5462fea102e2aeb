//! The health port: `/livez`; `/readyz` once the API server has answered and while every object is looked at in time; and `/metrics`. A
//! standby is ready too.
//!
//! In: a listener, a flag and the [`Watchdog`]. Out: 200, 503 or 404. Readiness guards no endpoint here: it is for the people and the alarms
//! that look at the Deployment. Absent: members, of which no answer depends; a label per object, whose values would be as many as there are
//! objects.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::net::TcpListener;

use crate::watchdog::{Kind, Report, Watchdog};

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the API server has answered.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// From now on `/readyz` is 200, unless the watchdog has something to tell.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, readiness: Readiness, watchdog: Watchdog) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: they come back.
                tracing::warn!(%error, "the health port cannot accept");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let (readiness, watchdog) = (readiness.clone(), watchdog.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(&request, &readiness, &watchdog);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the health port broke");
            }
        });
    }
}

fn answer<B>(request: &Request<B>, readiness: &Readiness, watchdog: &Watchdog) -> Response<Full<Bytes>> {
    let (status, content_type, text) = match request.uri().path() {
        "/livez" => (StatusCode::OK, TEXT, "alive\n".to_owned()),
        "/readyz" => {
            let (status, text) = ready(readiness, &watchdog.report(Instant::now()));
            (status, TEXT, text)
        }
        "/metrics" => (StatusCode::OK, OPEN_METRICS, exposition(&watchdog.report(Instant::now()))),
        _ => (
            StatusCode::NOT_FOUND,
            TEXT,
            "there are /livez, /readyz and /metrics here\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn ready(readiness: &Readiness, report: &Report) -> (StatusCode, String) {
    if !readiness.0.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the API server has not answered yet\n".to_owned());
    }
    match report.trouble() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(trouble) => (StatusCode::SERVICE_UNAVAILABLE, format!("{trouble}\n")),
    }
}

/// A label of a fixed set.
type Labels = Vec<(&'static str, &'static str)>;

/// The text of one scrape: everything is read when it is asked for.
fn exposition(report: &Report) -> String {
    let active: Gauge = Gauge::default();
    active.set(i64::from(report.active));
    let objects: Family<Labels, Gauge> = Family::default();
    let late: Family<Labels, Gauge> = Family::default();
    let latest: Family<Labels, Gauge> = Family::default();
    let looks: Family<Labels, Counter> = Family::default();
    let gauge = |family: &Family<Labels, Gauge>, kind: &Kind, value: u64| {
        let labels = vec![("kind", kind.kind)];
        family.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
    };
    for kind in &report.kinds {
        gauge(&objects, kind, kind.objects as u64);
        gauge(&late, kind, kind.late as u64);
        gauge(&latest, kind, kind.latest_seconds);
        for (result, count) in [("done", kind.done), ("failed", kind.failed)] {
            let labels = vec![("kind", kind.kind), ("result", result)];
            looks.get_or_create(&labels).inc_by(count);
        }
    }
    let mut registry = Registry::with_prefix("kvfleet_operator");
    registry.register("active", "1 while this replica holds the lease", active);
    registry.register("objects", "Objects that there are", objects);
    registry.register(
        "objects_late",
        "Objects that were not looked at in time; above 0 something is wrong",
        late,
    );
    registry.register("latest_seconds", "By how much the latest object is late, 0 while none is", latest);
    registry.register("reconciliations", "Looks at an object since the process started", looks);
    let mut text = String::new();
    // Writing into a `String` does not fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(late: usize) -> Report {
        Report {
            active: true,
            kinds: vec![Kind {
                kind: "Tenant",
                objects: 9,
                late,
                latest_seconds: 70,
                done: 3,
                failed: 1,
                deaf: false,
            }],
            named: vec!["Tenant apps/acme (70 s)".to_owned(); late.min(1)],
        }
    }

    #[test]
    fn readiness_names_what_was_not_looked_at() {
        let readiness = Readiness::default();
        assert_eq!(ready(&readiness, &report(0)).0, StatusCode::SERVICE_UNAVAILABLE);
        readiness.set();
        assert_eq!(ready(&readiness, &report(0)).0, StatusCode::OK);
        assert_eq!(ready(&readiness, &Report::default()).0, StatusCode::OK, "a standby is ready");
        let (status, text) = ready(&readiness, &report(3));
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("Tenant apps/acme (70 s) and 2 more"), "{text}");
    }

    #[test]
    fn a_scrape_shows_what_is_late() {
        let text = exposition(&report(2));
        for line in [
            "kvfleet_operator_active 1",
            "kvfleet_operator_objects{kind=\"Tenant\"} 9",
            "kvfleet_operator_objects_late{kind=\"Tenant\"} 2",
            "kvfleet_operator_latest_seconds{kind=\"Tenant\"} 70",
            "kvfleet_operator_reconciliations_total{kind=\"Tenant\",result=\"failed\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        }
    }
}
