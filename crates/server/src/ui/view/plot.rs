//! A time series as a plot: an SVG that the server draws.

use homefleet_api::SeriesPoints;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Size of the drawing, in its own units.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 150.0;
/// Room for labels around the plot.
const LEFT: f64 = 48.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 22.0;
/// Points farther apart than so many usual distances are not joined.
const GAP: f64 = 4.5;
/// Names of leaves that count: what is of interest is how fast.
const COUNTS: [&str; 14] = [
    "octets",
    "bytes",
    "packets",
    "pkts",
    "errors",
    "discards",
    "drops",
    "received",
    "sent",
    "count",
    "requests",
    "frames",
    "collisions",
    "messages",
];

/// A plot.
#[derive(Debug)]
pub(crate) struct Plot {
    /// Path of the series.
    pub(crate) path: String,
    /// Its last step.
    pub(crate) name: String,
    /// What is before it.
    pub(crate) place: String,
    /// The last value, for a person.
    pub(crate) last: String,
    /// What is drawn: `per second` or nothing.
    pub(crate) unit: &'static str,
    /// The line, as the data of an SVG path.
    pub(crate) line: String,
    /// Between least and most of each step.
    pub(crate) band: String,
    /// Below the line.
    pub(crate) area: String,
    /// The last point, when there is one.
    pub(crate) dot: Option<(String, String)>,
    /// Values along the left.
    pub(crate) rows: Vec<Tick>,
    /// Times along the bottom.
    pub(crate) columns: Vec<Tick>,
    /// What a reader who does not see it is told.
    pub(crate) words: String,
}

/// A line of the grid with its label.
#[derive(Debug)]
pub(crate) struct Tick {
    /// Where.
    pub(crate) at: String,
    /// Label.
    pub(crate) label: String,
    /// The time itself, of those along the bottom.
    pub(crate) iso: String,
}

/// A point on its way to the drawing.
#[derive(Debug, Clone, Copy)]
struct Point {
    time: f64,
    least: f64,
    value: f64,
    most: f64,
}

impl Plot {
    /// The plot of a stretch of a series.
    pub(crate) fn new(series: &SeriesPoints) -> Self {
        let (from, to) = (seconds(&series.from), seconds(&series.to));
        let values: Vec<Point> = series
            .points
            .iter()
            .map(|point| Point {
                time: seconds(&point.time),
                least: point.least,
                value: point.mean,
                most: point.most,
            })
            .collect();
        let lasts: Vec<(f64, f64)> = series
            .points
            .iter()
            .map(|point| (seconds(&point.time), point.last))
            .collect();
        let counter = is_counter(&series.path, &lasts);
        let drawn = if counter { rates(&lasts) } else { values };
        let (place, name) = match series.path.rsplit_once('/') {
            Some((place, name)) => (place.to_owned(), name.to_owned()),
            None => match series.path.rsplit_once('.') {
                Some((place, name)) => (place.to_owned(), name.to_owned()),
                None => (String::new(), series.path.clone()),
            },
        };
        let unit = if counter { "per second" } else { "" };
        let (low, high, step) = scale(&drawn);
        let x = |time: f64| LEFT + (time - from) / (to - from).max(0.001) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM);
        let runs = runs(&drawn);
        let line = runs
            .iter()
            .map(|run| path(run.iter().map(|p| (x(p.time), y(p.value)))))
            .collect();
        let outline = |upper: fn(&Point) -> f64, lower: &dyn Fn(&Point) -> f64| -> String {
            runs.iter()
                .map(|run| {
                    let there = run.iter().map(|point| (x(point.time), y(upper(point))));
                    let back = run
                        .iter()
                        .rev()
                        .map(|point| (x(point.time), y(lower(point))));
                    format!("{}Z", path(there.chain(back)))
                })
                .collect()
        };
        let base = low.max(0.0).min(high);
        let last = match (counter, drawn.last(), lasts.last()) {
            (true, Some(point), _) => short(point.value),
            (_, _, Some((_, value))) => short(*value),
            _ => "–".to_owned(),
        };
        Self {
            words: format!(
                "{name} {unit}: {last} now, between {} and {}",
                short(low),
                short(high)
            ),
            path: series.path.clone(),
            name,
            place,
            last,
            unit,
            line,
            band: outline(|point| point.most, &|point| point.least),
            area: outline(|point| point.value, &|_| base),
            dot: drawn
                .last()
                .map(|point| (number(x(point.time)), number(y(point.value)))),
            rows: rows(low, high, step, y),
            columns: columns(from, to, x),
        }
    }
}

/// Points without a gap between them.
fn runs(points: &[Point]) -> Vec<Vec<Point>> {
    let mut distances: Vec<f64> = points
        .windows(2)
        .filter_map(|pair| Some(pair.last()?.time - pair.first()?.time))
        .collect();
    distances.sort_by(f64::total_cmp);
    let usual = distances.get(distances.len() / 2).copied().unwrap_or(0.0);
    let mut runs: Vec<Vec<Point>> = Vec::new();
    for point in points {
        match runs.last_mut() {
            Some(run)
                if run
                    .last()
                    .is_some_and(|last| point.time - last.time <= usual * GAP) =>
            {
                run.push(*point)
            }
            _ => runs.push(vec![*point]),
        }
    }
    runs
}

/// How fast a counter grew; where it began anew, or nothing came for long, nothing is known.
fn rates(lasts: &[(f64, f64)]) -> Vec<Point> {
    let mut distances: Vec<f64> = lasts
        .windows(2)
        .filter_map(|pair| Some(pair.last()?.0 - pair.first()?.0))
        .collect();
    distances.sort_by(f64::total_cmp);
    let usual = distances
        .get(distances.len() / 2)
        .copied()
        .unwrap_or(f64::INFINITY);
    lasts
        .windows(2)
        .filter_map(|pair| {
            let ((before, old), (time, new)) = (*pair.first()?, *pair.last()?);
            let rate = (new - old) / (time - before);
            let is_known = new >= old && rate.is_finite() && time - before <= usual * GAP;
            is_known.then_some(Point {
                time,
                least: rate,
                value: rate,
                most: rate,
            })
        })
        .collect()
}

/// Whether a series counts: its name says so, and it nearly never falls.
fn is_counter(path: &str, lasts: &[(f64, f64)]) -> bool {
    let name = path
        .rsplit(['/', '.', ':'])
        .next()
        .unwrap_or(path)
        .to_lowercase();
    let falls = lasts
        .windows(2)
        .filter(|pair| matches!(pair, [(_, old), (_, new)] if new < old))
        .count();
    COUNTS.iter().any(|word| name.contains(word)) && lasts.len() > 2 && falls * 20 <= lasts.len()
}

/// Lowest and highest value of the drawing, and the distance of its rows: round numbers.
fn scale(points: &[Point]) -> (f64, f64, f64) {
    let mut low = points
        .iter()
        .map(|point| point.least)
        .fold(f64::INFINITY, f64::min);
    let mut high = points
        .iter()
        .map(|point| point.most)
        .fold(f64::NEG_INFINITY, f64::max);
    if !low.is_finite() || !high.is_finite() {
        (low, high) = (0.0, 1.0);
    }
    // Near zero, zero is shown.
    if low > 0.0 && low < high * 0.4 {
        low = 0.0;
    }
    if high - low <= high.abs().max(low.abs()) * 1e-9 {
        let half = (high.abs() * 0.05).max(0.5);
        (low, high) = (low - half, high + half);
    }
    let raw = (high - low) / 3.0;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= raw)
        .unwrap_or(raw);
    (
        (low / step).floor() * step,
        (high / step).ceil() * step,
        step,
    )
}

fn rows(low: f64, high: f64, step: f64, y: impl Fn(f64) -> f64) -> Vec<Tick> {
    let mut ticks = Vec::new();
    let mut value = low;
    while value <= high + step * 0.01 && ticks.len() < 8 {
        ticks.push(Tick {
            at: number(y(value)),
            label: label(value, low.abs().max(high.abs()), step),
            iso: String::new(),
        });
        value += step;
    }
    ticks
}

fn columns(from: f64, to: f64, x: impl Fn(f64) -> f64) -> Vec<Tick> {
    let span = (to - from).max(1.0);
    let steps = [
        5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0,
        21_600.0, 43_200.0, 86_400.0, 172_800.0,
    ];
    let step = steps
        .into_iter()
        .find(|step| span / step <= 5.0)
        .unwrap_or(604_800.0);
    let mut ticks = Vec::new();
    let mut time = (from / step).ceil() * step;
    while time <= to && ticks.len() < 10 {
        ticks.push(Tick {
            at: number(x(time)),
            label: clock(time, step),
            iso: iso(time),
        });
        time += step;
    }
    ticks
}

/// The label of a row: as many digits as tell it from the next.
fn label(value: f64, largest: f64, step: f64) -> String {
    if value.abs() < step * 1e-6 {
        return "0".to_owned();
    }
    let (unit, prefix) = unit(largest);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let places = (-(step / unit * 1.001).log10().floor()).clamp(0.0, 6.0) as usize;
    // Of 2.5 the 5 is told too.
    let text = format!("{:.*}", places + 1, value / unit);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{prefix}")
}

/// What values of a size are told in.
fn unit(size: f64) -> (f64, &'static str) {
    let units = [
        (1e15, 1e15, " P"),
        (1e12, 1e12, " T"),
        (1e9, 1e9, " G"),
        (1e6, 1e6, " M"),
        (1e4, 1e3, " k"),
    ];
    let found = units.into_iter().find(|(least, ..)| size >= *least);
    found.map_or((1.0, ""), |(_, unit, prefix)| (unit, prefix))
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut text = String::new();
    for (index, (x, y)) in points.enumerate() {
        text.push(if index == 0 { 'M' } else { 'L' });
        text.push_str(&format!("{} {}", number(x), number(y)));
    }
    // A point alone is a line of no length, which round ends make a dot.
    if !text.contains('L') {
        text.push_str("h.01");
    }
    text
}

fn number(value: f64) -> String {
    format!("{value:.1}")
}

/// A value for a person: three or four digits, with a prefix of SI.
fn short(value: f64) -> String {
    let (unit, prefix) = unit(value.abs());
    format!("{}{prefix}", digits(value / unit))
}

fn digits(value: f64) -> String {
    let places = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 4,
    };
    let text = format!("{value:.places$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn seconds(timestamp: &str) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    OffsetDateTime::parse(timestamp, &Rfc3339).map_or(0.0, |time| {
        (time.unix_timestamp_nanos() / 1_000_000) as f64 / 1000.0
    })
}

fn moment(time: f64) -> Option<OffsetDateTime> {
    #[allow(clippy::cast_possible_truncation)]
    OffsetDateTime::from_unix_timestamp(time as i64).ok()
}

fn iso(time: f64) -> String {
    moment(time)
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// UTC; the script makes it the reader's own.
fn clock(time: f64, step: f64) -> String {
    let Some(time) = moment(time) else {
        return String::new();
    };
    if step >= 86_400.0 {
        format!("{}-{:02}", u8::from(time.month()), time.day())
    } else if step < 60.0 {
        format!(
            "{:02}:{:02}:{:02}",
            time.hour(),
            time.minute(),
            time.second()
        )
    } else {
        format!("{:02}:{:02}", time.hour(), time.minute())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use homefleet_api::SeriesPoint;

    fn series(path: &str, values: &[(u32, f64)]) -> SeriesPoints {
        let point = |second: u32, value: f64| SeriesPoint {
            time: format!("2026-11-20T12:{:02}:{:02}.000Z", second / 60, second % 60),
            count: 1,
            least: value - 1.0,
            mean: value,
            most: value + 1.0,
            last: value,
        };
        SeriesPoints {
            path: path.to_owned(),
            from: "2026-11-20T12:00:00.000Z".to_owned(),
            to: "2026-11-20T12:10:00.000Z".to_owned(),
            step: 1.0,
            points: values
                .iter()
                .map(|(second, value)| point(*second, *value))
                .collect(),
        }
    }

    #[test]
    fn a_counter_is_drawn_as_its_rate_and_a_restart_is_no_fall() {
        let values = [
            (0, 0.0),
            (10, 1000.0),
            (20, 3000.0),
            (30, 5.0),
            (40, 1005.0),
        ];
        let many: Vec<(u32, f64)> = (0..40)
            .map(|step| (50 + step * 10, 1005.0 + f64::from(step) * 1000.0))
            .collect();
        let plot = Plot::new(&series("a:b/in-octets", &[&values[..], &many[..]].concat()));
        assert_eq!((plot.unit, plot.last.as_str()), ("per second", "100"));
        assert_eq!(
            (plot.place.as_str(), plot.name.as_str()),
            ("a:b", "in-octets")
        );
        // The lowest rate is 0, although the counter fell.
        assert_eq!(plot.rows.first().unwrap().label, "0");
        let gauge = Plot::new(&series(
            "a:b/in-octets-free",
            &[(0, 5.0), (10, 4.0), (20, 3.0), (30, 2.0)],
        ));
        assert_eq!(gauge.unit, "");
    }

    #[test]
    fn a_gap_is_not_bridged() {
        let plot = Plot::new(&series(
            "Device.X.Free",
            &[(0, 1.0), (10, 2.0), (20, 3.0), (200, 4.0), (210, 4.0)],
        ));
        assert_eq!(plot.line.matches('M').count(), 2);
        assert_eq!(
            (plot.place.as_str(), plot.name.as_str()),
            ("Device.X", "Free")
        );
    }

    #[test]
    fn nothing_and_one_point_are_plots_too() {
        let none = Plot::new(&series("a", &[]));
        assert_eq!((none.line.as_str(), none.last.as_str()), ("", "–"));
        assert!(none.dot.is_none());
        let one = Plot::new(&series("a", &[(5, 7.0)]));
        assert!(
            one.line.starts_with('M') && !one.line.contains("NaN"),
            "{}",
            one.line
        );
        assert_eq!(one.columns.len(), 6);
        assert!(!format!("{none:?}{one:?}").contains("inf"));
    }

    #[test]
    fn rows_are_told_apart() {
        let values: Vec<(u32, f64)> = (0..60)
            .map(|step| (step * 10, 100_000.0 + f64::from(step) * 10.0))
            .collect();
        let plot = Plot::new(&series("a/UpTime", &values));
        let mut labels: Vec<&str> = plot.rows.iter().map(|row| row.label.as_str()).collect();
        assert_eq!(labels, ["99.8 k", "100 k", "100.2 k", "100.4 k", "100.6 k"]);
        labels.dedup();
        assert_eq!(labels.len(), plot.rows.len());
    }

    #[test]
    fn values_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (12.34, "12.3"),
            (1500.0, "1500"),
            (15_000.0, "15 k"),
            (2_500_000.0, "2.5 M"),
            (-3e9, "-3 G"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
