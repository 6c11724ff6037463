//! A report as one self-contained page: plots as SVG, no script, nothing loaded from elsewhere.

use std::fmt::Write;

use crate::report::{Latency, Report};
use crate::text::{grouped, time};

/// The size of a plot, and the room at its left and below for what its axes say, in pixels.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 90.0;
const BELOW: f64 = 24.0;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:54rem;margin:2rem auto;padding:0 1rem;color:#1b2733;\
background:#fff}h1{font-size:1.4rem}h2{font-size:1.05rem;margin-top:2rem}pre{background:#f3f6f8;padding:.8rem;overflow:auto;\
font-size:13px}svg{width:100%;height:auto}.line{fill:none;stroke:#0a7ea4;stroke-width:2}.bar{fill:#0a7ea4}\
.axis{stroke:#9aa7b1;stroke-width:1}text{font-size:12px;fill:#44525e}.bad{color:#b00020;font-weight:600}\
td{padding:.1rem 1rem .1rem 0;vertical-align:top}\
@media(prefers-color-scheme:dark){body{background:#12181d;color:#dbe4ea}pre{background:#1c252c}text{fill:#a9b8c2}}";

const MEMORY: &str = "memory takes any write";

impl Report {
    /// The report as a page; `command` is what was run, to be run again.
    pub fn to_html(&self, command: &str) -> String {
        let mut page = String::new();
        let title = format!("tidecast bench {}", self.setup.scenario.as_str());
        write!(
            page,
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>"
        )
        .expect(MEMORY);
        self.write_verdict(&mut page);
        write!(page, "<pre>{}</pre>", escaped(&self.to_string())).expect(MEMORY);
        self.write_plots(&mut page);
        self.write_facts(&mut page, command);
        page.push_str("</html>\n");
        page
    }

    fn write_verdict(&self, page: &mut String) {
        if self.generator.saturated {
            page.push_str(
                "<p class=\"bad\">The generator was saturated: this may have measured the generator, not the broker.</p>",
            );
        }
        if !self.is_good() {
            page.push_str("<p class=\"bad\">Not everything was done: see the faults and errors below.</p>");
        }
    }

    fn write_plots(&self, page: &mut String) {
        let rate: Vec<_> = self.ticks.iter().map(|tick| (tick.seconds, tick.per_second)).collect();
        let count = |value: f64| grouped(value as u64);
        plot(page, "Done per second, over time", &rate, "s", count);
        let slowest: Vec<_> = self
            .ticks
            .iter()
            .filter_map(|tick| Some((tick.seconds, tick.p99_microseconds?)))
            .collect();
        plot(page, "p99 of each second", &slowest, "s", time);
        let cores: Vec<_> = self
            .ticks
            .iter()
            .filter_map(|tick| Some((tick.seconds, tick.server_cores?)))
            .collect();
        plot(page, "Cores used by the broker, over time", &cores, "s", |value| {
            format!("{value:.2}")
        });
        if let Some(operations) = &self.operations {
            bars(page, "Latency of operations", &operations.latency);
        }
        bars(page, "Latency of deliveries", &self.latency);
        let by_rate: Vec<_> = self
            .steps
            .iter()
            .map(|step| {
                let latency = step
                    .operations
                    .as_ref()
                    .map_or(&step.latency, |operations| &operations.latency);
                (f64::midpoint(step.from, step.to), latency.p99)
            })
            .collect();
        plot(page, "p99 by rate", &by_rate, "/s", time);
    }

    fn write_facts(&self, page: &mut String, command: &str) {
        let machine = &self.machine;
        let cores = machine.cores.to_string();
        let driver = match &machine.without_io_uring {
            None => "io_uring",
            Some(why) => &format!("epoll, which takes more of its time: {why}"),
        };
        page.push_str("<h2>What this was measured with</h2><table>");
        for (name, value) in [
            ("command", command),
            ("generator", &machine.generator),
            ("driver", driver),
            ("kernel", &machine.kernel),
            ("processor", &machine.processor),
            ("cores", &cores),
            ("congestion control", &machine.congestion_control),
        ] {
            write!(page, "<tr><td>{name}<td>{}", escaped(value)).expect(MEMORY);
        }
        page.push_str("</table>");
    }
}

/// A line through points, if there are at least two.
fn plot(page: &mut String, title: &str, points: &[(f64, f64)], unit: &str, show: impl Fn(f64) -> String) {
    if points.len() < 2 {
        return;
    }
    let most = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).fold(f64::MIN_POSITIVE, f64::max);
    let (right, top) = (most(|point| point.0), most(|point| point.1));
    let left = points
        .iter()
        .map(|point| point.0)
        .fold(right, f64::min)
        .min(right * 0.999);
    let at = |&(x, y): &(f64, f64)| {
        let x = LEFT + (x - left) / (right - left) * (WIDTH - LEFT - 20.0);
        format!("{x:.1},{:.1}", 10.0 + (1.0 - y / top) * HEIGHT)
    };
    let line: Vec<_> = points.iter().map(at).collect();
    let bottom = 10.0 + HEIGHT;
    write!(
        page,
        "<h2>{title}</h2><svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{title}\">\
         <path class=\"axis\" d=\"M{LEFT} 10V{bottom}H{}\" fill=\"none\"/>\
         <text x=\"{}\" y=\"16\" text-anchor=\"end\">{}</text><text x=\"{}\" y=\"{bottom}\" text-anchor=\"end\">0</text>\
         <text x=\"{LEFT}\" y=\"{}\">{left:.1} {unit}</text><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{right:.1} {unit}</text>\
         <polyline class=\"line\" points=\"{}\"/></svg>",
        bottom + BELOW,
        WIDTH - 20.0,
        LEFT - 6.0,
        show(top),
        LEFT - 6.0,
        bottom + 16.0,
        WIDTH - 20.0,
        bottom + 16.0,
        line.join(" ")
    )
    .expect(MEMORY);
}

/// A bar for each percentile, as long as the logarithm of the time: the last ones are often a hundred times the first.
fn bars(page: &mut String, title: &str, latency: &Latency) {
    if latency.samples == 0 {
        return;
    }
    let rows = [
        ("p50", latency.p50),
        ("p90", latency.p90),
        ("p99", latency.p99),
        ("p99.9", latency.p999),
        ("max", latency.max),
    ];
    let length = |value: f64| (1.0 + value).ln() / (1.0 + latency.max).ln() * (WIDTH - LEFT - 120.0);
    write!(
        page,
        "<h2>{title} (logarithmic)</h2><svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{title}\">",
        rows.len() * 26
    )
    .expect(MEMORY);
    for (row, (name, value)) in rows.into_iter().enumerate() {
        let (y, length) = (row * 26, length(value));
        write!(
            page,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>\
             <rect class=\"bar\" x=\"{LEFT}\" y=\"{}\" width=\"{length:.1}\" height=\"18\"/>\
             <text x=\"{:.1}\" y=\"{}\">{}</text>",
            LEFT - 6.0,
            y + 17,
            y + 3,
            LEFT + length + 6.0,
            y + 17,
            time(value)
        )
        .expect(MEMORY);
    }
    page.push_str("</svg>");
}

/// `text` as the text of an element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use crate::report::Tick;
    use crate::report::tests::report;

    #[test]
    fn a_page_has_the_plots_the_facts_and_nothing_from_elsewhere() {
        let mut report = report();
        report.ticks = (1..=3)
            .map(|second| Tick {
                seconds: f64::from(second),
                per_second: 1e6 * f64::from(second),
                megabytes_per_second: 128.0,
                p50_microseconds: Some(100.0),
                p99_microseconds: Some(900.0),
                server_cores: Some(0.5),
            })
            .collect();
        report.machine.kernel = "6.18".to_owned();
        let page = report.to_html("tidecast bench fanout --fail-if 'p99>5ms'");
        for words in [
            "<h2>Done per second",
            "<h2>p99 of each second",
            "<h2>Cores used by the broker",
            "<h2>Latency of deliveries",
            "deliveries       4,000,000/s",
            "6.18",
            "--fail-if 'p99&gt;5ms'",
            "3,000,000",
        ] {
            assert!(page.contains(words), "{words} is missing in {page}");
        }
        assert!(!page.contains("<script") && !page.contains("http"), "{page}");
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert!(!page.contains("saturated"));
    }

    #[test]
    fn what_makes_numbers_doubtful_comes_first() {
        let mut report = report();
        report.generator.saturated = true;
        report.faults.lost = 1;
        let page = report.to_html("x");
        let at = |words| page.find(words).unwrap_or_else(|| panic!("{words} is missing"));
        assert!(at("generator was saturated") < at("<pre>"));
        assert!(at("Not everything was done") < at("<pre>"));
        assert!(!page.contains("over time"), "there is nothing to plot");
    }
}
