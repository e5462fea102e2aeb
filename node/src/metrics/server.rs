//! The registry and the metrics port.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    routing::get,
};
use kvfleet_api::{Code, Problem};
use prometheus_client::{metrics::info::Info, registry::Registry};

use super::{Requests, Source, member::MemberCollector, ports::PortsCollector, process::ProcessCollector};
use crate::{connections::Roster, problem};

/// Everything that a scrape shows; names begin with `kvfleet_`, but for the process's own, which have names that every dashboard knows.
pub fn registry(requests: &Requests, ports: Vec<Arc<Roster>>, source: Source) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(ProcessCollector));
    let own = registry.sub_registry_with_prefix("kvfleet");
    own.register(
        "build",
        "The version of the program",
        Info::new([("version", env!("CARGO_PKG_VERSION"))]),
    );
    requests.register(own);
    own.register_collector(Box::new(PortsCollector(ports)));
    own.register_collector(Box::new(MemberCollector(source)));
    registry
}

/// The text of one scrape.
///
/// # Errors
/// Never with the collectors of this module: writing into a `String` does not fail.
pub fn exposition(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    Ok(text)
}

/// `GET /metrics` and nothing else.
pub fn router(registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .fallback(problem::route_not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .with_state(registry)
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    render(&registry)
}

/// One scrape as an HTTP answer.
pub(crate) fn render(registry: &Registry) -> Response {
    match exposition(registry) {
        Ok(text) => ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response(),
        Err(error) => problem::answer(Problem::new(
            Code::Internal,
            format!("the metrics cannot be written: {error}"),
            problem::trace_id(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use kvfleet_api::Code;

    use super::*;
    use crate::metrics::{LogCounters, MemberFigures, Observation};

    /// covers row 25
    #[test]
    fn a_scrape_shows_requests_errors_latency_and_the_member() {
        let requests = Requests::new();
        let observed = Observation {
            route: "/keys/{key}",
            method: "PUT",
            status: 201,
            code: None,
            elapsed: Duration::from_micros(300),
        };
        requests.observe(observed);
        requests.observe(Observation {
            status: 403,
            code: Some(Code::StorageQuotaExceeded),
            ..observed
        });
        let figures = MemberFigures {
            term: 7,
            leading: true,
            purged_index: 9,
            digest: u128::MAX - 42,
            log: LogCounters {
                fsyncs: 5,
                ..Default::default()
            },
            ..Default::default()
        };
        let text =
            exposition(&registry(&requests, vec![Roster::new("data", 7)], Arc::new(move || Some(figures)))).expect("writing into a string");
        for line in [
            r#"kvfleet_http_requests_total{route="/keys/{key}",method="PUT",status="201",code=""} 1"#,
            r#"kvfleet_http_requests_total{route="/keys/{key}",method="PUT",status="403",code="storage-quota-exceeded"} 1"#,
            r#"kvfleet_http_request_duration_seconds_bucket{le="0.0005",route="/keys/{key}",method="PUT"} 2"#,
            "kvfleet_raft_term 7",
            "kvfleet_raft_is_leader 1",
            "kvfleet_log_fsyncs_total 5",
            "kvfleet_raft_purged_index 9",
            "kvfleet_state_digest 9007199254740949",
            "kvfleet_state_digest_index 0",
            r#"kvfleet_changes_total{kind="put"} 0"#,
            r#"kvfleet_changes_total{kind="delete"} 0"#,
            r#"kvfleet_changes_total{kind="expire"} 0"#,
            r#"kvfleet_connections{port="data"} 0"#,
            r#"kvfleet_connections_limit{port="data"} 7"#,
            r#"kvfleet_connections_shed_total{port="data"} 0"#,
            "kvfleet_logging_lost_lines_total 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "`{line}` is missing in:\n{text}");
        }
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
    }

    /// A time series is kept for as long as the reader keeps its history, whatever becomes of it.
    #[test]
    fn the_series_of_a_member_stay_the_same_whatever_its_figures() {
        let series = |figures: MemberFigures| {
            let text = exposition(&registry(&Requests::new(), Vec::new(), Arc::new(move || Some(figures)))).expect("a string");
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            let names: Vec<String> = lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect();
            names
        };
        let one = MemberFigures::default();
        let other = MemberFigures {
            term: 7,
            last_log_index: 9,
            applied_index: 8,
            revision: 5,
            digest: 42 << 80,
            ..one
        };
        assert_eq!(series(one), series(other));
    }

    #[test]
    fn a_member_that_is_not_open_yet_shows_no_raft_figures() {
        let text = exposition(&registry(&Requests::new(), Vec::new(), Arc::new(|| None))).expect("writing into a string");
        assert!(!text.contains("raft_term"), "{text}");
    }
}
