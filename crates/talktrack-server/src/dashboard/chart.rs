//! Charts as SVG: bars or lines over time, with axes and labels. A table next to each chart contains the same values.

use talktrack::Timestamp;
use talktrack::stats::Resolution;

// The edges of the plot, in units of the SVG.
const LEFT: f64 = 46.0;
const RIGHT: f64 = 414.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 168.0;
/// The maximum number of labels below the plot.
const MOST_LABELS: usize = 8;

/// A chart for the template.
pub(super) struct Chart {
    pub(super) title: &'static str,
    /// A description of the chart with its largest value.
    pub(super) label: String,
    /// Horizontal lines with their values.
    pub(super) levels: Vec<Label>,
    pub(super) places: Vec<Label>,
    pub(super) bars: Vec<Bar>,
    pub(super) lines: Vec<ChartLine>,
    /// The column names of the table, and its rows.
    pub(super) columns: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

/// A text at a horizontal or vertical position.
pub(super) struct Label {
    pub(super) at: String,
    pub(super) text: String,
}

/// A bar, and the area above it that shows its value on hover.
pub(super) struct Bar {
    pub(super) x: String,
    pub(super) width: String,
    pub(super) y: String,
    pub(super) height: String,
    pub(super) text: String,
}

/// A line with gaps at missing values.
pub(super) struct ChartLine {
    pub(super) name: &'static str,
    pub(super) path: String,
    pub(super) dots: Vec<(String, String)>,
}

/// The horizontal axis of a chart: the name of each position, and which names are shown as labels.
pub(super) struct XAxis {
    names: Vec<String>,
    labels: Vec<(usize, String)>,
}

/// A series of values, one for each position of the axis.
pub(super) struct Series {
    pub(super) name: &'static str,
    pub(super) values: Vec<Option<f64>>,
}

impl XAxis {
    /// Makes an axis of time buckets.
    pub(super) fn from_times(moments: impl Iterator<Item = Timestamp>, grain: Resolution) -> Self {
        let moments: Vec<_> = moments.map(|moment| moment.to_string()).collect();
        let part =
            |moment: &str, range| moment.get::<std::ops::Range<usize>>(range).unwrap_or_default().to_owned();
        let names = moments.iter().map(|moment| match grain {
            Resolution::Day => part(moment, 0..10),
            Resolution::Hour | Resolution::FiveMinutes => part(moment, 0..16).replace('T', " "),
        });
        // For at most 48 hours the labels are hours, otherwise days.
        let spans_days = moments.len() > 48;
        let label = |moment: &String| match grain {
            Resolution::FiveMinutes => part(moment, 11..16),
            Resolution::Hour if !spans_days => part(moment, 11..16),
            Resolution::Hour | Resolution::Day => part(moment, 5..10),
        };
        // If hours span several days, only the beginning of each day is labelled.
        let begins_day =
            |moment: &String| grain != Resolution::Hour || !spans_days || part(moment, 11..16) == "00:00";
        let labels: Vec<_> = moments.iter().enumerate().filter(|(_, moment)| begins_day(moment)).collect();
        let every = labels.len().div_ceil(MOST_LABELS).max(1);
        let labels =
            labels.into_iter().step_by(every).map(|(place, moment)| (place, label(moment))).collect();
        Self { names: names.collect(), labels }
    }

    /// Makes an axis of named positions.
    pub(super) fn from_names(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Self { labels: names.iter().cloned().enumerate().collect(), names }
    }
}

impl Chart {
    /// Makes a bar chart of whole numbers.
    pub(super) fn bar_chart(title: &'static str, axis: &XAxis, series: &Series) -> Self {
        let scale = Scale::new(&[&series.values], true);
        let width = column_width(axis);
        let bar = |(place, value): (usize, &Option<f64>)| {
            let value = value.unwrap_or(0.0);
            let y = scale.y(value);
            Bar {
                x: format_coordinate(LEFT + width * to_f64(place) + (width * 0.1).min(4.0)),
                width: format_coordinate((width - (width * 0.2).min(8.0)).max(0.5)),
                y: format_coordinate(y),
                height: format_coordinate(BOTTOM - y),
                text: format!("{}: {}", axis.names[place], format_value(value)),
            }
        };
        let bars = series.values.iter().enumerate().map(bar).collect();
        Self { bars, ..Self::without_marks(title, axis, &scale, &[series]) }
    }

    /// Makes a line chart with one line for each series.
    pub(super) fn line_chart(title: &'static str, axis: &XAxis, series: &[Series]) -> Self {
        let values: Vec<_> = series.iter().map(|series| &series.values).collect();
        let scale = Scale::new(&values, false);
        let lines = series.iter().map(|series| draw_line(axis, series, &scale)).collect();
        Self { lines, ..Self::without_marks(title, axis, &scale, &series.iter().collect::<Vec<_>>()) }
    }

    fn without_marks(title: &'static str, axis: &XAxis, scale: &Scale, series: &[&Series]) -> Self {
        let level = |value: f64| Label { at: format_coordinate(scale.y(value)), text: format_value(value) };
        let width = column_width(axis);
        let place = |(place, text): &(usize, String)| Label {
            at: format_coordinate(LEFT + width * (to_f64(*place) + 0.5)),
            text: text.clone(),
        };
        let value = |series: &&Series, place: usize| {
            series.values[place].map_or_else(|| "–".to_owned(), format_value)
        };
        let row = |(place, name): (usize, &String)| {
            std::iter::once(name.clone()).chain(series.iter().map(|series| value(series, place))).collect()
        };
        let is_empty = |place: &usize| {
            series.iter().all(|series| series.values[*place].is_none_or(|value| value == 0.0))
        };
        let rows = axis.names.iter().enumerate().filter(|(place, _)| !is_empty(place)).map(row).collect();
        let largest = series
            .iter()
            .flat_map(|series| &series.values)
            .flatten()
            .fold(0.0_f64, |most, value| most.max(*value));
        Self {
            title,
            label: format!(
                "{title}: at most {} ({} values, in the table below)",
                format_value(largest),
                axis.names.len()
            ),
            levels: scale.levels().map(level).collect(),
            places: axis.labels.iter().map(place).collect(),
            bars: Vec::new(),
            lines: Vec::new(),
            columns: series.iter().map(|series| series.name).collect(),
            rows,
        }
    }
}

fn draw_line(axis: &XAxis, series: &Series, scale: &Scale) -> ChartLine {
    let width = column_width(axis);
    let mut path = String::new();
    let mut dots = Vec::new();
    let mut before = false;
    let there = |place: usize| series.values.get(place).copied().flatten().is_some();
    for (place, value) in series.values.iter().enumerate() {
        let Some(value) = value else {
            before = false;
            continue;
        };
        let x = format_coordinate(LEFT + width * (to_f64(place) + 0.5));
        let y = format_coordinate(scale.y(*value));
        path.push_str(if before { "L" } else { "M" });
        path.push_str(&format!("{x} {y}"));
        if !before && !there(place + 1) {
            dots.push((x, y));
        }
        before = true;
    }
    ChartLine { name: series.name, path, dots }
}

/// A vertical scale from zero to a round number.
struct Scale {
    top: f64,
    step: f64,
}

impl Scale {
    fn new(values: &[&Vec<Option<f64>>], is_whole: bool) -> Self {
        let largest = values
            .iter()
            .flat_map(|values| values.iter())
            .flatten()
            .fold(0.0_f64, |most, value| most.max(*value));
        let rough = (largest / 4.0).max(if is_whole { 1.0 } else { 1e-9 });
        let size = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * size).find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        Self { top: (largest / step).ceil().max(1.0) * step, step }
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - value.clamp(0.0, self.top) / self.top * (BOTTOM - TOP)
    }

    fn levels(&self) -> impl Iterator<Item = f64> + '_ {
        std::iter::successors(Some(0.0), |level| Some(level + self.step))
            .take_while(|level| *level <= self.top * 1.001)
    }
}

fn column_width(axis: &XAxis) -> f64 {
    (RIGHT - LEFT) / to_f64(axis.names.len().max(1))
}

#[expect(clippy::cast_precision_loss, reason = "some thousands at most")]
fn to_f64(place: usize) -> f64 {
    place as f64
}

fn format_coordinate(place: f64) -> String {
    format!("{place:.1}")
}

/// Formats a value: `0`, `0.85`, `12`, `1240`, `12k`, `3.2M`.
fn format_value(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{:.1}M", value / 1e6),
        size if size >= 1e4 => format!("{:.0}k", value / 1e3),
        size if size >= 10.0 || value.fract() == 0.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[Option<f64>]) -> Series {
        Series { name: "n", values: values.to_vec() }
    }

    #[test]
    fn axes_end_at_round_numbers_above_the_largest_value() {
        for (largest, levels) in [
            (0.0, vec!["0", "1"]),
            (3.0, vec!["0", "1", "2", "3"]),
            (7.0, vec!["0", "2", "4", "6", "8"]),
            (840.0, vec!["0", "500", "1000"]),
            (1_900.0, vec!["0", "500", "1000", "1500", "2000"]),
        ] {
            let chart = Chart::bar_chart("t", &XAxis::from_names(&["a"]), &series(&[Some(largest)]));
            assert_eq!(
                chart.levels.iter().map(|level| level.text.as_str()).collect::<Vec<_>>(),
                levels,
                "{largest}"
            );
        }
    }

    #[test]
    fn lines_have_gaps_where_nothing_was_measured() {
        let axis = XAxis::from_names(&["a", "b", "c", "d"]);
        let chart = Chart::line_chart("t", &axis, &[series(&[Some(1.0), None, Some(2.0), Some(3.0)])]);
        let line = &chart.lines[0];
        assert_eq!(
            (line.path.matches('M').count(), line.path.matches('L').count(), line.dots.len()),
            (2, 1, 1)
        );
        assert_eq!(chart.rows.len(), 3, "nothing is no row");
    }

    #[test]
    fn times_are_named_as_the_stretches_are_long() {
        let moments = ["2026-11-23T00:00:00Z", "2026-11-23T01:00:00Z"].map(|text| text.parse().unwrap());
        let names = |grain| XAxis::from_times(moments.into_iter(), grain);
        assert_eq!(names(Resolution::Hour).names[1], "2026-11-23 01:00");
        assert_eq!(names(Resolution::Hour).labels[1].1, "01:00");
        assert_eq!(names(Resolution::Day).labels[0].1, "11-23");
    }
}
