//! From timings to rows: medians and percentiles, the ratio, the bar, and how they are printed.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cli::output::Output;
use crate::error::Result;

/// One figure with its floor.
#[derive(Serialize)]
struct Row {
    bench: &'static str,
    case: String,
    floor: f64,
    ours: f64,
    /// Ours ÷ floor.
    ratio: f64,
    unit: &'static str,
    /// Records that were there, or were written.
    n: usize,
    /// The most that the ratio may be, of rates the least; `null` where nothing is promised.
    bar: Option<f64>,
    met: Option<bool>,
}

/// Prints rows: as JSON at once, as a table at the end.
pub(super) struct Report<'a> {
    output: &'a Output,
    rows: Vec<Row>,
}

/// What a row is about.
pub(super) struct Case {
    pub(super) bench: &'static str,
    pub(super) case: String,
    pub(super) unit: &'static str,
    pub(super) n: usize,
    pub(super) bar: Option<f64>,
}

/// The same work without Strongroom, and with it.
#[derive(Default)]
pub(super) struct Pair<T> {
    pub(super) floor: T,
    pub(super) ours: T,
}

impl<'a> Report<'a> {
    pub(super) fn new(output: &'a Output) -> Self {
        Self { output, rows: Vec::new() }
    }

    pub(super) fn add(&mut self, case: Case, pair: Pair<f64>) -> Result<()> {
        let Case { bench, case, unit, n, bar } = case;
        let Pair { floor, ours } = pair;
        let ratio = ours / floor;
        let met = bar.filter(|_| !ratio.is_nan()).map(|bar| if is_rate(unit) { ratio >= bar } else { ratio <= bar });
        let row = Row { bench, case, floor, ours, ratio, unit, n, bar, met };
        if self.output.is_json() {
            return self.output.answer(&row, |_| String::new());
        }
        self.rows.push(row);
        Ok(())
    }

    /// A remark on the way, for those who wait.
    pub(super) fn remark(&self, text: &str) {
        self.output.remark(text);
    }

    pub(super) fn finish(self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        self.output.raw(table(&self.rows).as_bytes())
    }
}

/// Whether more is better.
fn is_rate(unit: &str) -> bool {
    unit.ends_with("/s")
}

fn table(rows: &[Row]) -> String {
    let head = ["bench", "case", "n", "floor", "ours", "unit", "ratio", "bar", "met"].map(str::to_owned);
    let lines = rows.iter().map(|r| {
        let sign = if is_rate(r.unit) { '≥' } else { '≤' };
        let bar = r.bar.map_or_else(String::new, |bar| format!("{sign} {bar}"));
        let met = r.met.map_or("", |met| if met { "yes" } else { "no" });
        [
            r.bench.to_owned(),
            r.case.clone(),
            r.n.to_string(),
            figure(r.floor),
            figure(r.ours),
            r.unit.to_owned(),
            if r.ratio.is_nan() { figure(r.ratio) } else { format!("{:.2}", r.ratio) },
            bar,
            met.to_owned(),
        ]
    });
    let lines: Vec<_> = std::iter::once(head).chain(lines).collect();
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..9).map(width).collect();
    let mut table = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(i, (cell, width))| {
            // Numbers to the right, words to the left.
            if matches!(i, 2 | 3 | 4 | 6) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        table += cells.collect::<Vec<_>>().join("  ").trim_end();
        table.push('\n');
    }
    table
}

fn figure(x: f64) -> String {
    match x {
        // What was not measured.
        x if x.is_nan() => "–".into(),
        x if x >= 100.0 => format!("{x:.0}"),
        x if x >= 10.0 => format!("{x:.1}"),
        x if x >= 1.0 => format!("{x:.2}"),
        x => format!("{x:.3}"),
    }
}

/// The time of each round of floor and ours, which take turns at going first.
pub(super) async fn take_turns(
    rounds: usize,
    mut floor: impl AsyncFnMut(usize) -> Result<Duration>,
    mut ours: impl AsyncFnMut(usize) -> Result<Duration>,
) -> Result<Pair<Vec<Duration>>> {
    let mut times = Pair::<Vec<Duration>>::default();
    for round in 0..rounds {
        if round % 2 == 0 {
            times.floor.push(floor(round).await?);
            times.ours.push(ours(round).await?);
        } else {
            times.ours.push(ours(round).await?);
            times.floor.push(floor(round).await?);
        }
    }
    Ok(times)
}

/// How long one of `n` calls takes.
pub(super) fn timed<T>(n: usize, mut call: impl FnMut() -> Result<T>) -> Result<Duration> {
    let start = Instant::now();
    for _ in 0..n {
        black_box(call()?);
    }
    // As nanoseconds in f64: the time of one call is far below what a `Duration` can divide without rounding.
    Ok(Duration::from_secs_f64(start.elapsed().as_secs_f64() / n as f64))
}

impl Pair<Vec<Duration>> {
    /// The given percentile of both, in units of `unit`.
    pub(super) fn percentile(&self, percent: usize, unit: Duration) -> Pair<f64> {
        let of = |times: &[Duration]| percentile(times, percent).as_secs_f64() / unit.as_secs_f64();
        Pair { floor: of(&self.floor), ours: of(&self.ours) }
    }
}

impl Pair<f64> {
    /// How many of `n` that is a second, of times in seconds.
    pub(super) fn rate(&self, n: usize) -> Self {
        Self { floor: n as f64 / self.floor, ours: n as f64 / self.ours }
    }
}

/// The smallest time that `percent` of all do not exceed.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        for (percent, ms) in [(0, 1), (1, 2), (50, 100), (99, 198), (100, 200)] {
            assert_eq!(percentile(&times, percent), Duration::from_millis(ms), "p{percent}");
        }
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }

    #[test]
    fn the_table_is_aligned() {
        let row = |case: &str, ratio| Row {
            bench: "search",
            case: case.into(),
            floor: 1.0,
            ours: ratio,
            ratio,
            unit: "µs",
            n: 20,
            bar: Some(1.5),
            met: Some(ratio <= 1.5),
        };
        let table = table(&[row("sealed p50", 0.5), row("x", 12.0)]);
        let column = |line: &str| line.chars().position(|c| c == '≤');
        let columns: Vec<_> = table.lines().skip(1).map(column).collect();
        assert_eq!(columns.first(), columns.last());
        assert!(table.lines().nth(1).is_some_and(|line| line.ends_with("yes")));
    }
}
