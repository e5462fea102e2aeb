//! Requests of the data port, by route, method and outcome.

use std::{sync::Arc, time::Duration};

use kvfleet_api::Code;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::logging::Sample;

/// One answered request.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    /// The route as a template (`/keys/{key}`), never the path that was asked for.
    pub route: &'static str,
    /// The method; anything that HTTP does not define goes as `OTHER`.
    pub method: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// The code of the problem, none for an answer below 400.
    pub code: Option<Code>,
    /// From the request's head to the answer's head.
    pub elapsed: Duration,
}

/// Counts requests. A clone counts into the same figures; recording allocates only the first time that a combination is seen.
#[derive(Clone, Debug)]
pub struct Requests {
    answered: Family<Answered, Counter>,
    latency: Family<Timed, Histogram, fn() -> Histogram>,
    /// In the order of [`Code::ALL`].
    samples: Arc<[Sample]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: &'static str,
    method: &'static str,
    status: u16,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Timed {
    route: &'static str,
    method: &'static str,
}

impl Default for Requests {
    fn default() -> Self {
        Self::new()
    }
}

impl Requests {
    /// Counters that stand at zero.
    pub fn new() -> Self {
        Requests {
            answered: Family::default(),
            latency: Family::new_with_constructor(latency_histogram),
            samples: Code::ALL.iter().map(|_| Sample::new()).collect(),
        }
    }

    /// Counts one request.
    pub fn observe(&self, observation: Observation) {
        let Observation {
            route,
            method,
            status,
            code,
            elapsed,
        } = observation;
        let code = code.map_or("", Code::as_str);
        self.answered
            .get_or_create(&Answered {
                route,
                method,
                status,
                code,
            })
            .inc();
        self.latency.get_or_create(&Timed { route, method }).observe(elapsed.as_secs_f64());
    }

    /// Whether a failure with this code is to be logged, and how many were not since the last that was. All of them are counted; but a client
    /// without a token can cause as many as it likes, and a line of the log costs more than a refusal.
    pub fn is_logged(&self, code: Code) -> Option<u64> {
        // The enumeration's order is that of the catalogue.
        self.samples.get(code as usize).and_then(Sample::due)
    }

    /// The name under which a method is counted: a client cannot make a new time series by inventing one.
    pub fn method_label(method: &axum::http::Method) -> &'static str {
        match method.as_str() {
            "GET" => "GET",
            "HEAD" => "HEAD",
            "PUT" => "PUT",
            "POST" => "POST",
            "PATCH" => "PATCH",
            "DELETE" => "DELETE",
            "OPTIONS" => "OPTIONS",
            _ => "OTHER",
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("http_requests", "Requests answered on the data port", self.answered.clone());
        registry.register(
            "http_request_duration_seconds",
            "Time from a request's head to its answer's head on the data port",
            self.latency.clone(),
        );
    }
}

/// 0.25 ms to 8.2 s in powers of two: a hot read is in the first bucket, the default deadline of 5 s in the last but one.
fn latency_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
}
