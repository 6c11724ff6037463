//! `tidecast top`: what a broker does, live in a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use ratatui::Frame;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Sparkline, Table};
use serde_json::Value;
use tidecast_server::AdminClient;
use tidecast_server::config::parse_time;

use crate::admin::AdminArgs;
use crate::exit::Failure;

/// How much of the past is drawn.
const HISTORY: usize = 200;
/// What is printed where there is no terminal.
const PRINTED: (u16, u16) = (110, 32);

/// Show what a broker does, live
///
/// Keys: q ends, p pauses.
#[derive(Debug, Args)]
#[command(after_help = "\
A control plane with tokens is shown one of them with --token-file or TIDECAST_ADMIN_TOKEN.

Examples:
  tidecast top
  tidecast top --admin https://broker.example.com:9443 --token-file token
  tidecast top --once")]
pub(crate) struct TopArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_time)]
    interval: Duration,
    /// Print what there is now, and end; without a terminal that is done anyway
    #[arg(long)]
    once: bool,
}

/// What was seen of a broker.
#[derive(Debug, Default)]
struct Seen {
    stats: Value,
    slow: Value,
    delivered: Vec<u64>,
    is_paused: bool,
    /// Somebody looks, and can press keys.
    is_live: bool,
    /// Why it is not seen any more.
    trouble: Option<String>,
}

impl TopArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let client = self.admin.client()?;
        let mut seen = Seen::default();
        // What is wrong at the start is said where it can be read.
        seen.look(&client).map_err(Failure::new)?;
        if self.once || !io::stdout().is_terminal() {
            return print(&seen);
        }
        let mut terminal = ratatui::try_init().context("the terminal cannot be used")?;
        let shown = self.show(&client, &mut seen, &mut terminal);
        ratatui::restore();
        shown.context("the terminal failed")?;
        Ok(())
    }

    fn show(&self, client: &AdminClient, seen: &mut Seen, terminal: &mut ratatui::DefaultTerminal) -> io::Result<()> {
        seen.is_live = true;
        let mut next = Instant::now() + self.interval;
        loop {
            terminal.draw(|frame| seen.draw(frame))?;
            if event::poll(next.saturating_duration_since(Instant::now()))?
                && let Event::Key(key) = event::read()?
                && key.kind == KeyEventKind::Press
            {
                match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                    KeyCode::Char('p') => seen.is_paused = !seen.is_paused,
                    _ => {}
                }
            }
            if Instant::now() >= next {
                next = Instant::now() + self.interval;
                if !seen.is_paused {
                    // It is tried again, for as long as somebody looks.
                    seen.trouble = seen.look(client).err().map(|error| error.to_string());
                }
            }
        }
    }
}

/// Prints it as it would be drawn.
fn print(seen: &Seen) -> Result<(), Failure> {
    let mut terminal = Terminal::new(TestBackend::new(PRINTED.0, PRINTED.1)).context("cannot draw")?;
    terminal.draw(|frame| seen.draw(frame)).context("cannot draw")?;
    let mut text = String::new();
    for row in terminal.backend().buffer().content().chunks(PRINTED.0.into()) {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    io::stdout().lock().write_all(text.as_bytes()).context("cannot print")?;
    Ok(())
}

impl Seen {
    fn look(&mut self, client: &AdminClient) -> Result<(), tidecast_server::AdminClientError> {
        self.stats = client.get("/v1/stats")?;
        self.slow = client.get("/v1/connections?sort=waiting&limit=20")?;
        self.delivered
            .push(self.stats["rates"]["delivered"].as_f64().unwrap_or_default() as u64);
        let beyond = self.delivered.len().saturating_sub(HISTORY);
        self.delivered.drain(..beyond);
        Ok(())
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let workers = self.stats["workers"].as_array().map_or(0, Vec::len) as u16;
        let [head, sums, history, table, rest] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(5),
            Constraint::Length(5),
            Constraint::Length((workers + 3).min(frame.area().height / 3)),
            Constraint::Min(5),
        ])
        .areas(frame.area());
        let [topics, slow] = Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(rest);
        self.draw_head(frame, head);
        self.draw_sums(frame, sums);
        let title = format!(" delivered: {}/s ", amount(self.rate("delivered")));
        let line = Sparkline::default()
            .data(
                &self.delivered[self
                    .delivered
                    .len()
                    .saturating_sub(usize::from(history.width.saturating_sub(2)))..],
            )
            .style(Style::new().fg(Color::Cyan));
        frame.render_widget(line.block(Block::bordered().title(title)), history);
        self.draw_workers(frame, table);
        self.draw_topics(frame, topics);
        self.draw_slow(frame, slow);
    }

    fn rate(&self, name: &str) -> f64 {
        self.stats["rates"][name].as_f64().unwrap_or_default()
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: Rect) {
        let stats = &self.stats;
        let state = stats["state"].as_str().unwrap_or("?");
        let color = if state == "ready" { Color::Green } else { Color::Yellow };
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let mut spans = vec![
            Span::styled(format!("tidecast {} ", stats["version"].as_str().unwrap_or("?")), bold),
            Span::styled(state, bold.fg(color)),
            Span::raw(format!(
                ", up for {}",
                age(stats["uptime_seconds"].as_f64().unwrap_or_default())
            )),
        ];
        if self.is_paused {
            spans.push(Span::styled("  paused: p goes on", bold.fg(Color::Yellow)));
        }
        match &self.trouble {
            Some(trouble) => spans.push(Span::styled(format!("  {trouble}"), bold.fg(Color::Red))),
            None if !self.is_live => {}
            None => spans.push(Span::styled("  q ends, p pauses", Style::new().fg(Color::DarkGray))),
        }
        frame.render_widget(Paragraph::new(Line::from(spans)), area);
    }

    fn draw_sums(&self, frame: &mut Frame<'_>, area: Rect) {
        let total = |name: &str| amount(self.stats["totals"][name].as_f64().unwrap_or_default());
        let rate = |name: &str| format!("{}/s", amount(self.rate(name)));
        let size = |name: &str| format!("{}/s", bytes(self.rate(name)));
        let memory = |name: &str| bytes(self.stats["memory"][name].as_f64().unwrap_or_default());
        let quantile = |of: &str, name: &str| self.stats[of][name].as_f64().map_or("–".to_owned(), time);
        let rows = [
            [
                ("connections", total("connections")),
                ("published", rate("published")),
                ("received", size("received_bytes")),
                ("delivery p50", quantile("delivery_seconds", "p50")),
            ],
            [
                ("subscriptions", total("subscriptions")),
                ("dropped", rate("dropped")),
                ("sent", size("sent_bytes")),
                ("delivery p99", quantile("delivery_seconds", "p99")),
            ],
            [
                ("resident", memory("resident_bytes")),
                ("refused", rate("refused")),
                ("held", memory("held_bytes")),
                ("turn p99", quantile("turn_seconds", "p99")),
            ],
        ];
        let soft = Style::new().fg(Color::DarkGray);
        let rows = rows.map(|row| {
            let cells = row
                .into_iter()
                .flat_map(|(name, value)| [Cell::from(Span::styled(name, soft)), Cell::from(value)]);
            Row::new(cells)
        });
        let widths = [Constraint::Length(13), Constraint::Fill(1)]
            .into_iter()
            .cycle()
            .take(8);
        frame.render_widget(Table::new(rows, widths).block(Block::bordered()), area);
    }

    fn draw_workers(&self, frame: &mut Frame<'_>, area: Rect) {
        let workers = self.stats["workers"].as_array().into_iter().flatten();
        let rows = workers.map(|worker| {
            let number = |name: &str| worker[name].as_f64().unwrap_or_default();
            let load = number("load").clamp(0.0, 1.0);
            let full = (load * 20.0).round() as usize;
            let color = if load > 0.85 { Color::Yellow } else { Color::Cyan };
            let bar = Line::from(vec![
                Span::styled("█".repeat(full), Style::new().fg(color)),
                Span::styled("░".repeat(20 - full), Style::new().fg(Color::DarkGray)),
                Span::raw(format!(" {:>3.0} %", load * 100.0)),
            ]);
            Row::new([
                Cell::from(amount(number("worker"))),
                Cell::from(bar),
                Cell::from(amount(number("connections"))),
                Cell::from(amount(number("delivered"))),
                Cell::from(amount(number("mailbox_messages"))),
                Cell::from(bytes(number("queued_bytes"))),
            ])
        });
        let widths = [6, 28, 12, 12, 10, 12].map(Constraint::Length);
        let head = heading(["worker", "load", "connections", "delivered/s", "mailbox", "to send"]);
        frame.render_widget(Table::new(rows, widths).header(head).block(Block::bordered()), area);
    }

    fn draw_topics(&self, frame: &mut Frame<'_>, area: Rect) {
        let topics = self.stats["top_topics"].as_array().into_iter().flatten();
        let rows = topics.map(|topic| {
            let number = |name: &str| topic[name].as_f64().unwrap_or_default();
            Row::new([
                Cell::from(printable(topic["topic"].as_str().unwrap_or_default())),
                Cell::from(amount(number("messages_per_second"))),
                Cell::from(bytes(number("bytes_per_second"))),
            ])
        });
        let widths = [Constraint::Fill(1), Constraint::Length(11), Constraint::Length(10)];
        let head = heading(["topic", "messages/s", "bytes/s"]);
        let block = Block::bordered().title(" top topics ");
        frame.render_widget(Table::new(rows, widths).header(head).block(block), area);
    }

    fn draw_slow(&self, frame: &mut Frame<'_>, area: Rect) {
        let connections = self.slow["connections"].as_array().into_iter().flatten();
        let rows = connections.map(|connection| {
            let text = |name: &str| printable(connection[name].as_str().unwrap_or("–"));
            Row::new([
                Cell::from(text("name")),
                Cell::from(text("identity")),
                Cell::from(bytes(connection["waiting_bytes"].as_f64().unwrap_or_default())),
            ])
        });
        let widths = [Constraint::Fill(1), Constraint::Fill(1), Constraint::Length(10)];
        let head = heading(["connection", "identity", "waiting"]);
        let block = Block::bordered().title(" slow consumers ");
        frame.render_widget(Table::new(rows, widths).header(head).block(block), area);
    }
}

fn heading<const N: usize>(names: [&'static str; N]) -> Row<'static> {
    Row::new(names).style(Style::new().fg(Color::DarkGray).add_modifier(Modifier::BOLD))
}

/// A name as a terminal may be shown it: clients choose names.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '·' } else { c }).collect()
}

/// A number that is read at a glance.
fn amount(value: f64) -> String {
    match value {
        _ if value >= 1e9 => format!("{:.2} G", value / 1e9),
        _ if value >= 1e6 => format!("{:.2} M", value / 1e6),
        _ if value >= 1e4 => format!("{:.1} k", value / 1e3),
        _ if value >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}

fn bytes(value: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(1_073_741_824.0, "GiB"), (1_048_576.0, "MiB"), (1024.0, "KiB")];
    match UNITS.iter().find(|(size, _)| value >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", value / size),
        None => format!("{value:.0} B"),
    }
}

fn time(seconds: f64) -> String {
    match seconds {
        _ if seconds < 1e-3 => format!("{:.0} µs", seconds * 1e6),
        _ if seconds < 1.0 => format!("{:.2} ms", seconds * 1e3),
        _ => format!("{seconds:.1} s"),
    }
}

fn age(seconds: f64) -> String {
    match seconds {
        _ if seconds < 60.0 => format!("{seconds:.0} s"),
        _ if seconds < 3600.0 => format!("{:.0} min", seconds / 60.0),
        _ if seconds < 86_400.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} d", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn drawn(seen: &Seen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| seen.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn what_a_broker_does_is_drawn_and_nothing_that_a_client_can_say_reaches_the_terminal_raw() {
        let seen = Seen {
            stats: json!({
                "version": "1.2.3", "state": "ready", "uptime_seconds": 7200.0,
                "totals": {"connections": 12_345, "subscriptions": 7},
                "rates": {"published": 10.0, "delivered": 2_500_000.0, "sent_bytes": 3_145_728.0},
                "delivery_seconds": {"p50": 0.00025, "p99": 0.0031}, "turn_seconds": null,
                "workers": [{"worker": 0, "load": 0.5, "connections": 12_345, "delivered": 2_500_000.0}],
                "memory": {"held_bytes": 0, "resident_bytes": 1_048_576},
                "top_topics": [{"topic": "evil\u{1b}[2Jtopic", "messages_per_second": 10.0, "bytes_per_second": 1280.0}],
            }),
            slow: json!({"connections": [{"name": "0-1-2", "identity": "ann", "waiting_bytes": 4096}]}),
            delivered: (0..500).collect(),
            ..Seen::default()
        };
        let text = drawn(&seen, 120, 30);
        for words in [
            "tidecast 1.2.3 ready, up for 2.0 h",
            "12.3 k",
            "delivered: 2.50 M/s",
            "250 µs",
            "3.10 ms",
            "██████████░░░░░░░░░░  50 %",
            "evil·[2Jtopic",
            "0-1-2",
            "4.0 KiB",
        ] {
            assert!(text.contains(words), "{words:?} is missing in\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn any_terminal_is_large_enough_not_to_fail() {
        for (width, height) in [(1, 1), (2, 2), (10, 3), (40, 10), (300, 100)] {
            drawn(&Seen::default(), width, height);
        }
    }
}
