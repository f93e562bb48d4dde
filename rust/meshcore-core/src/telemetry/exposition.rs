//! Families of metrics as text, for Prometheus and OpenMetrics.

use std::fmt::Write;

use super::histogram::Reading;
use crate::time::Nanos;

/// The two text formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` field prefers (RFC 9110 §12.5.1): OpenMetrics when it is named
    /// with at least the weight of plain text, else Prometheus text, which all scrapers read.
    #[must_use]
    pub fn from_accept(accept: &str) -> Self {
        let (mut open, mut plain) = (0, 0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let weight = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                "application/openmetrics-text" => &mut open,
                "text/plain" | "text/*" => &mut plain,
                _ => continue,
            };
            let q = parts.find_map(|p| p.strip_prefix("q=")).unwrap_or("1");
            let thousandths = q.parse::<f32>().map_or(0.0, |q| q.clamp(0.0, 1.0) * 1_000.0);
            *weight = (thousandths as u32).max(*weight);
        }
        if open > 0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The `Content-Type` of the text.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Text under construction: one call for each family, then [`finish`](Self::finish).
///
/// Labels are pairs of a name, which the caller's code fixes, and a value, which may be any text.
/// A family without samples is left out. O(output).
///
/// ```
/// use meshcore_core::telemetry::{Exposition, Format};
/// let text = Exposition::new(Format::Prometheus)
///     .counter("meshcore_requests_total", "Requests.", [([("route", "api")], 3)])
///     .finish();
/// assert!(text.ends_with("\nmeshcore_requests_total{route=\"api\"} 3\n"));
/// ```
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    text: String,
}

/// A family that is kept outside of the core.
#[derive(Clone, Debug)]
pub struct Family {
    /// Ends in `_total` where it only grows.
    pub name: String,
    /// Whether it is a counter; else a gauge.
    pub grows: bool,
    /// What it says, in a sentence.
    pub help: String,
    /// Labels, each a name and a value, and the figure.
    pub samples: Vec<(Vec<(String, String)>, f64)>,
}

/// What ends the name of a counter's sample.
const TOTAL: &str = "_total";

impl Exposition {
    /// No families yet.
    #[must_use]
    pub const fn new(format: Format) -> Self {
        Self { format, text: String::new() }
    }

    /// A family of counts that only grow; `name` ends in `_total`.
    #[must_use]
    pub fn counter<'a, L: AsRef<[(&'a str, &'a str)]>>(
        self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, u64)>,
    ) -> Self {
        debug_assert!(name.ends_with(TOTAL), "{name} is a counter");
        self.numbers(name, "counter", help, samples)
    }

    /// A family of values that go up and down.
    #[must_use]
    pub fn gauge<'a, L: AsRef<[(&'a str, &'a str)]>>(
        self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, u64)>,
    ) -> Self {
        self.numbers(name, "gauge", help, samples)
    }

    /// A family of times; `name` ends in `_seconds`.
    #[must_use]
    pub fn histogram<'a, L: AsRef<[(&'a str, &'a str)]>>(
        mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, Reading)>,
    ) -> Self {
        debug_assert!(name.ends_with("_seconds"), "{name} is in seconds");
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_some() {
            self.head(name, "histogram", help);
        }
        for (labels, reading) in samples {
            self.buckets(name, labels.as_ref(), &reading);
        }
        self
    }

    /// A family of figures that are kept elsewhere. What the formats do not allow is left out: a
    /// family whose name is none, or that of a gauge for a counter, a sample with such a label.
    #[must_use]
    pub fn family(mut self, family: &Family) -> Self {
        let is_known = |labels: &[(String, String)]| labels.iter().all(|(name, _)| is_name(name));
        let is_named = is_name(&family.name) && family.name.ends_with(TOTAL) == family.grows;
        if !is_named || !family.samples.iter().any(|(labels, _)| is_known(labels)) {
            return self;
        }
        self.head(&family.name, if family.grows { "counter" } else { "gauge" }, &family.help);
        for (labels, value) in family.samples.iter().filter(|(labels, _)| is_known(labels)) {
            let labels: Vec<_> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            self.series(&family.name, "", &labels, None);
            let _ = writeln!(self.text, "{value}");
        }
        self
    }

    /// The text.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn numbers<'a, L: AsRef<[(&'a str, &'a str)]>>(
        mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, u64)>,
    ) -> Self {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_some() {
            self.head(name, kind, help);
        }
        for (labels, value) in samples {
            self.series(name, "", labels.as_ref(), None);
            self.number(value);
        }
        self
    }

    /// `# HELP` and `# TYPE`. OpenMetrics names a counter's family without `_total`.
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        debug_assert!(is_name(name), "{name} is no metric name");
        let family = match (self.format, kind) {
            (Format::OpenMetrics, "counter") => name.strip_suffix(TOTAL).unwrap_or(name),
            _ => name,
        };
        let _ = write!(self.text, "# HELP {family} ");
        // OpenMetrics escapes quotes here too, Prometheus does not.
        escape(&mut self.text, help, self.format == Format::OpenMetrics);
        let _ = writeln!(self.text, "\n# TYPE {family} {kind}");
    }

    /// `name_suffix{labels,le="…"} `.
    fn series(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], le: Option<&str>) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        let mut before = '{';
        for &(label, value) in labels.iter().chain(le.map(|le| ("le", le)).as_ref()) {
            debug_assert!(is_name(label) && !label.contains(':'), "{label} is no label name");
            self.text.push(before);
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(&mut self.text, value, true);
            self.text.push('"');
            before = ',';
        }
        self.text.push_str(if before == ',' { "} " } else { " " });
    }

    fn number(&mut self, value: u64) {
        self.text.push_str(itoa::Buffer::new().format(value));
        self.text.push('\n');
    }

    fn buckets(&mut self, name: &str, labels: &[(&str, &str)], reading: &Reading) {
        let mut le = String::new();
        for (bound, count) in reading.cumulative() {
            le.clear();
            seconds(&mut le, bound);
            self.series(name, "_bucket", labels, Some(&le));
            self.number(count);
        }
        self.series(name, "_bucket", labels, Some("+Inf"));
        self.number(reading.count());
        self.series(name, "_sum", labels, None);
        seconds(&mut self.text, reading.sum());
        self.text.push('\n');
        self.series(name, "_count", labels, None);
        self.number(reading.count());
    }
}

/// Seconds as an exact decimal with at least one digit after the point (OpenMetrics asks for it
/// in `le`).
fn seconds(out: &mut String, time: Nanos) {
    let _ = write!(out, "{}.{:09}", time.0 / 1_000_000_000, time.0 % 1_000_000_000);
    let digits = out.trim_end_matches('0').len();
    out.truncate(digits);
    if out.ends_with('.') {
        out.push('0');
    }
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`.
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_' || b == b':';
    bytes.next().is_some_and(letter) && bytes.all(|b| letter(b) || b.is_ascii_digit())
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::telemetry::Histogram;

    const NONE: [(&str, &str); 0] = [];

    #[test]
    fn accept_decides_the_format() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        assert_eq!(Format::from_accept(prometheus), Format::OpenMetrics);
        for plain in [
            "",
            "*/*",
            "text/html, text/plain",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.1, text/plain",
            "application/openmetrics-text;q=x",
        ] {
            assert_eq!(Format::from_accept(plain), Format::Prometheus, "{plain}");
        }
    }

    #[test]
    fn text_values_are_escaped() {
        let labels = [("path", "C:\\a \"b\"\nc"), ("ü", "")];
        let write = |format| {
            let samples = [(&labels[..1], 1)];
            Exposition::new(format).gauge("g", "a \"b\" \\ c\nd", samples).finish()
        };
        assert_eq!(
            write(Format::Prometheus),
            "# HELP g a \"b\" \\\\ c\\nd\n# TYPE g gauge\n\
             g{path=\"C:\\\\a \\\"b\\\"\\nc\"} 1\n"
        );
        assert!(write(Format::OpenMetrics).starts_with("# HELP g a \\\"b\\\" \\\\ c\\nd\n"));
        assert!(!is_name(labels[1].0) && !is_name("") && !is_name("1a") && is_name("a_1"));
    }

    #[test]
    fn open_metrics_names_the_family_without_total_and_ends() {
        let text = Exposition::new(Format::OpenMetrics)
            .counter("a_total", "A.", [(NONE, u64::MAX)])
            .counter("empty_total", "Nothing.", [] as [([(&str, &str); 0], u64); 0])
            .finish();
        assert_eq!(text, "# HELP a A.\n# TYPE a counter\na_total 18446744073709551615\n# EOF\n");
    }

    #[test]
    fn a_histogram_ends_in_inf_sum_and_count() {
        let histogram = Histogram::private();
        for ms in [1, 2, 3_000, 300_000] {
            histogram.record(Nanos::from_millis(ms));
        }
        let text = Exposition::new(Format::Prometheus)
            .histogram("t_seconds", "T.", [([("route", "a")], histogram.read())])
            .finish();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2 + 19 + 3);
        assert_eq!(lines[2], "t_seconds_bucket{route=\"a\",le=\"0.000131072\"} 0");
        assert_eq!(lines[20], "t_seconds_bucket{route=\"a\",le=\"34.359738368\"} 3");
        assert_eq!(lines[21], "t_seconds_bucket{route=\"a\",le=\"+Inf\"} 4");
        assert_eq!(lines[22], "t_seconds_sum{route=\"a\"} 303.003");
        assert_eq!(lines[23], "t_seconds_count{route=\"a\"} 4");
    }

    #[test]
    fn families_from_elsewhere_are_written_as_ours_are() {
        let sample =
            |label: &str, value: &str, figure| (vec![(label.to_owned(), value.to_owned())], figure);
        let family = |name: &str, grows, samples| Family {
            name: name.to_owned(),
            grows,
            help: "H.".to_owned(),
            samples,
        };
        let write = |format, family: &Family| Exposition::new(format).family(family).finish();
        let reloads = family("r_total", true, vec![sample("result", "o\"k", 2.0)]);
        assert_eq!(
            write(Format::Prometheus, &reloads),
            "# HELP r_total H.\n# TYPE r_total counter\nr_total{result=\"o\\\"k\"} 2\n"
        );
        assert!(
            write(Format::OpenMetrics, &reloads).starts_with("# HELP r H.\n# TYPE r counter\n")
        );
        let times = family("t_seconds", false, vec![(Vec::new(), 1_764_517_000.125)]);
        assert!(write(Format::Prometheus, &times).ends_with("\nt_seconds 1764517000.125\n"));
        let odd = family("g", false, vec![sample("no name", "", 1.0), sample("b", "", 2.0)]);
        assert!(write(Format::Prometheus, &odd).ends_with("gauge\ng{b=\"\"} 2\n"));
        for (name, grows) in [("g", true), ("g_total", false), ("no name", false)] {
            let wrong = family(name, grows, vec![(Vec::new(), 1.0)]);
            assert_eq!(write(Format::Prometheus, &wrong), "");
        }
        assert_eq!(write(Format::Prometheus, &family("g", false, Vec::new())), "");
    }

    #[test]
    fn seconds_are_exact() {
        let write = |ns| {
            let mut out = String::from("x ");
            seconds(&mut out, Nanos(ns));
            out
        };
        assert_eq!(write(0), "x 0.0");
        assert_eq!(write(1), "x 0.000000001");
        assert_eq!(write(10_000_000_000), "x 10.0");
        assert_eq!(write(u64::MAX), "x 18446744073.709551615");
    }
}
