//! What was measured: `target/bench.json`, and the same as tables.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    fs,
    thread::available_parallelism,
};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{cluster::System, point::Figures};

/// Everything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// How often each point was measured; figures are medians.
    pub rounds: u32,
    /// Seconds of each measurement.
    pub seconds: u64,
    /// Durable writes, by connections.
    pub puts: BTreeMap<usize, Comparison>,
    /// Linearizable reads.
    pub gets: BTreeMap<usize, Comparison>,
    /// Reads of what the asked member has.
    pub any: BTreeMap<usize, Comparison>,
    /// Writes of new keys per second, 64 connections, one run.
    pub creates: BTreeMap<String, f64>,
    /// kvfleet alone, in several ways.
    pub rows: Vec<Row>,
    /// What `cargo bench --bench log` found.
    pub log: Option<Value>,
    /// What `cargo bench --bench reads` found.
    pub point_reads: Option<Value>,
}

/// Systems at one point.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Comparison {
    /// Requests per second.
    pub kvfleet: f64,
    /// Requests per second.
    pub etcd: f64,
    /// kvfleet's rate over etcd's.
    pub ratio: f64,
    /// kvfleet's 99th percentile over etcd's; lower is better.
    pub p99_ratio: f64,
    /// kvfleet's rate over that of a bare handler.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub of_bare: Option<f64>,
    /// The medians, by system.
    pub figures: BTreeMap<String, Figures>,
    /// The rate of each round, by system.
    pub rounds: BTreeMap<String, Vec<f64>>,
}

impl Comparison {
    /// From the runs of each system.
    pub fn of<'a>(runs: impl Iterator<Item = (System, &'a [Figures])>) -> Comparison {
        let mut comparison = Comparison::default();
        for (system, runs) in runs {
            let name = system.name().to_owned();
            comparison.figures.insert(name.clone(), Figures::median(runs));
            comparison.rounds.insert(name, runs.iter().map(|run| run.rate).collect());
        }
        let of = |system: System| comparison.figures.get(system.name()).cloned().unwrap_or_default();
        let (kvfleet, etcd, bare) = (of(System::Kvfleet), of(System::Etcd), of(System::Bare));
        comparison.kvfleet = kvfleet.rate;
        comparison.etcd = etcd.rate;
        comparison.ratio = ratio(kvfleet.rate, etcd.rate);
        comparison.p99_ratio = ratio(kvfleet.p99_ms, etcd.p99_ms);
        comparison.of_bare = (bare.rate > 0.0).then(|| ratio(kvfleet.rate, bare.rate));
        comparison
    }
}

fn ratio(one: f64, other: f64) -> f64 {
    if other > 0.0 { one / other } else { 0.0 }
}

/// kvfleet at one point, in one of several ways.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What is compared.
    pub section: String,
    /// Which way.
    pub name: String,
    /// Connections.
    pub connections: usize,
    /// The median.
    pub figures: Figures,
}

impl Row {
    /// From several runs.
    pub fn new(section: &str, name: &str, connections: usize, runs: &[Figures]) -> Row {
        Row {
            section: section.to_owned(),
            name: name.to_owned(),
            connections,
            figures: Figures::median(runs),
        }
    }
}

/// What the machine is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Processors.
    pub processors: usize,
    /// What they call themselves.
    pub model: String,
    /// The kernel's release.
    pub kernel: String,
}

impl Machine {
    /// This one.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn here() -> Result<Machine> {
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Ok(Machine {
            processors: available_parallelism()?.get(),
            model: model.map_or_else(|| "unknown".to_owned(), |(_, model)| model.trim().to_owned()),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{} processors ({}), Linux {}; {} rounds of {} s, medians\n",
            self.machine.processors, self.machine.model, self.machine.kernel, self.rounds, self.seconds
        )?;
        for (title, comparisons) in [
            ("Durable puts, 3 members", &self.puts),
            ("Linearizable gets, 3 members", &self.gets),
            (
                "Gets of what the asked member has (`consistency=any`; etcd: `serializable`)",
                &self.any,
            ),
        ] {
            compared(formatter, title, comparisons)?;
        }
        for (system, rate) in &self.creates {
            writeln!(formatter, "{system}: {rate:.0} new keys a second through 64 connections.")?;
        }
        let mut section = "";
        for row in &self.rows {
            if row.section != section {
                section = &row.section;
                writeln!(formatter, "\n### kvfleet: {section}\n\n| what | connections {HEAD}")?;
            }
            writeln!(formatter, "| {} | {} {}", row.name, row.connections, cells(&row.figures))?;
        }
        if let Some(log) = &self.log {
            writeln!(formatter, "\n### The log against raw `fdatasync`\n\n{}", table(log))?;
        }
        if let Some(reads) = &self.point_reads {
            writeln!(formatter, "\n### Point reads\n\n{}", table(reads))?;
        }
        Ok(())
    }
}

const HEAD: &str = "| req/s | p50 ms | p99 ms | p99.9 ms | errors | members' CPU µs per request | load's | MiB per member | written per byte |\n\
                    |---|---|---|---|---|---|---|---|---|---|---|";

fn compared(formatter: &mut fmt::Formatter<'_>, title: &str, comparisons: &BTreeMap<usize, Comparison>) -> fmt::Result {
    writeln!(formatter, "### {title}\n\n| system | connections {HEAD}")?;
    for (connections, comparison) in comparisons {
        for (system, figures) in &comparison.figures {
            writeln!(formatter, "| {system} | {connections} {}", cells(figures))?;
        }
    }
    writeln!(
        formatter,
        "\n| connections | kvfleet / etcd: rate | p99 | of the bare handler |\n|---|---|---|---|"
    )?;
    for (connections, comparison) in comparisons {
        let bare = comparison
            .of_bare
            .map_or_else(String::new, |share| format!("{:.0} %", share * 100.0));
        writeln!(
            formatter,
            "| {connections} | **{:.2}** | {:.2} | {bare} |",
            comparison.ratio, comparison.p99_ratio
        )?;
    }
    writeln!(formatter)
}

fn cells(figures: &Figures) -> String {
    let written = figures
        .written_per_stored
        .map_or_else(String::new, |written| format!("{written:.1}"));
    format!(
        "| {:.0} | {:.2} | {:.2} | {:.2} | {} | {:.0} | {:.0} | {} | {written} |",
        figures.rate,
        figures.p50_ms,
        figures.p99_ms,
        figures.p999_ms,
        figures.failed(),
        figures.members_cpu() * 1e3,
        figures.load_cpu_per_1000 * 1e3,
        figures.largest_resident() >> 20,
    )
}

/// The `rows` of another program's JSON: an array of objects with the same fields.
fn table(json: &Value) -> String {
    let mut out = String::new();
    let rows = json.get("rows").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (number, row) in rows.iter().filter_map(Value::as_object).enumerate() {
        if number == 0 {
            let names: Vec<&str> = row.keys().map(String::as_str).collect();
            let _ = writeln!(out, "| {} |\n|{}", names.join(" | "), "---|".repeat(names.len()));
        }
        let cells: Vec<String> = row
            .values()
            .map(|cell| match cell.as_f64() {
                Some(number) if number.fract() == 0.0 || number.abs() >= 100.0 => format!("{number:.0}"),
                Some(number) => format!("{number:.2}"),
                None => cell.as_str().unwrap_or_default().to_owned(),
            })
            .collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rate: f64, p99_ms: f64, errors: u64) -> Figures {
        let mut figures = Figures {
            rate,
            p99_ms,
            ..Figures::default()
        };
        if errors > 0 {
            figures.errors.insert("503".to_owned(), errors);
        }
        figures
    }

    #[test]
    fn a_comparison_is_of_medians_and_hides_no_error() {
        let kvfleet = [run(100.0, 4.0, 0), run(300.0, 2.0, 2), run(200.0, 3.0, 5)];
        let etcd = [run(50.0, 6.0, 0), run(60.0, 9.0, 0), run(40.0, 6.0, 0)];
        let comparison = Comparison::of([(System::Kvfleet, &kvfleet[..]), (System::Etcd, &etcd[..])].into_iter());
        assert_eq!(
            (comparison.kvfleet, comparison.etcd, comparison.ratio, comparison.p99_ratio),
            (200.0, 50.0, 4.0, 0.5)
        );
        assert_eq!(comparison.figures["kvfleet"].failed(), 7);
        let report = Report {
            machine: Machine::here().unwrap(),
            rounds: 3,
            seconds: 5,
            puts: BTreeMap::from([(64, comparison)]),
            gets: BTreeMap::new(),
            any: BTreeMap::new(),
            creates: BTreeMap::new(),
            rows: Vec::new(),
            log: Some(serde_json::json!({"ratio": 0.9, "rows": [{"writers": 64, "ratio": 0.91}]})),
            point_reads: None,
        };
        let json = serde_json::to_value(&report).unwrap();
        // The names that others read.
        for (path, wanted) in [
            ("/puts/64/kvfleet", 200.0),
            ("/puts/64/etcd", 50.0),
            ("/puts/64/ratio", 4.0),
            ("/puts/64/p99_ratio", 0.5),
            ("/log/ratio", 0.9),
        ] {
            assert_eq!(json.pointer(path).and_then(Value::as_f64), Some(wanted), "{path} in {json}");
        }
        let text = report.to_string();
        for line in ["| 64 | **4.00** | 0.50 |  |", "| 0.91 | 64 |"] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.contains("| kvfleet | 64 | 200 | 0.00 | 3.00 | 0.00 | 7 |"), "{text}");
    }
}
