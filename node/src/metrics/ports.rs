//! The connections of each port, and what the log has lost.

use std::sync::Arc;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use crate::{
    connections::{Roster, RosterFigures},
    logging,
};

type Read = fn(&RosterFigures) -> usize;

/// Puts them into each scrape.
#[derive(Debug)]
pub(super) struct PortsCollector(pub(super) Vec<Arc<Roster>>);

impl Collector for PortsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let figures: Vec<RosterFigures> = self.0.iter().map(|roster| roster.figures()).collect();
        let gauges: [(&str, &str, Read); 2] = [
            ("connections", "Connections of a port", |figures| figures.open),
            ("connections_limit", "The most connections that a port takes at a time", |figures| {
                figures.limit
            }),
        ];
        for (name, help, read) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for figures in &figures {
                let value = u64::try_from(read(figures)).unwrap_or(u64::MAX);
                ConstGauge::new(value).encode(family.encode_family(&[("port", figures.port)])?)?;
            }
        }
        let help = "Connections of a full port that were let go to make room for new ones";
        let mut family = encoder.encode_descriptor("connections_shed", help, None, MetricType::Counter)?;
        for RosterFigures { port, shed, .. } in &figures {
            ConstCounter::new(*shed).encode(family.encode_family(&[("port", *port)])?)?;
        }
        let lost = ConstCounter::new(logging::lost_lines());
        let help = "Lines of the process's log that were lost because standard error was not read fast enough";
        lost.encode(encoder.encode_descriptor("logging_lost_lines", help, None, lost.metric_type())?)
    }
}
