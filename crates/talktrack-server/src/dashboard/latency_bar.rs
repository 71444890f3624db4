//! The time between the end of the user's speech and the first sound of the answer, as a small waterfall of its stages.

use std::fmt::Write as _;

/// The width of the picture in SVG units, and in milliseconds. Longer times are cut off.
const WIDTH: f64 = 240.0;
const MS_ACROSS: f64 = 3_000.0;

/// The stages in order: the name of the metric, the name for people, and the CSS class of the colour.
const STAGES: [(&str, &str, &str); 4] = [
    ("eou_ms", "end of speech", "eou"),
    ("stt_ms", "transcript", "stt"),
    ("llm_ttft_ms", "first token", "llm"),
    ("tts_ttfb_ms", "first sound", "tts"),
];

/// How long the agent took to answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LatencyBar {
    pub(super) segments: Vec<Segment>,
    /// The total time for people.
    pub(super) total: Option<String>,
    /// The description for screen readers.
    pub(super) label: String,
}

/// The bar of one stage.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Segment {
    pub(super) class: &'static str,
    pub(super) x: String,
    pub(super) width: String,
}

impl LatencyBar {
    /// Computes the waterfall from the metrics of the turn; `None` if they do not suffice.
    pub(super) fn new(number: impl Fn(&str) -> Option<f64>) -> Option<Self> {
        let time = |name| number(name).filter(|ms| ms.is_finite() && *ms >= 0.0);
        let mut segments = Vec::new();
        let mut at = 0.0_f64;
        let mut label = String::new();
        for (name, called, class) in STAGES {
            let Some(ms) = time(name) else { continue };
            let x = to_x(at);
            let end = to_x(at + ms);
            segments.push(Segment {
                class,
                x: format!("{x:.1}"),
                width: format!("{:.1}", (end - x).max(1.0)),
            });
            // Writing to a string cannot fail.
            let _ = write!(label, "{}{called} {}", if label.is_empty() { "" } else { ", " }, format_ms(ms));
            at += ms;
        }
        let total = time("e2e_ms");
        // A single stage without a total does not cover the whole time.
        if segments.len() < 2 && total.is_none() {
            return None;
        }
        let total = total.or(Some(at)).map(format_ms);
        if let Some(total) = &total {
            let _ = write!(label, "{}in all {total}", if label.is_empty() { "" } else { "; " });
        }
        Some(Self { segments, total, label })
    }
}

fn to_x(ms: f64) -> f64 {
    (ms / MS_ACROSS * WIDTH).min(WIDTH)
}

/// Formats milliseconds: `840 ms`, `1.24 s`.
fn format_ms(ms: f64) -> String {
    if ms < 1_000.0 { format!("{ms:.0} ms") } else { format!("{:.2} s", ms / 1_000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_each_other() {
        let numbers = [("stt_ms", 300.0), ("llm_ttft_ms", 600.0), ("e2e_ms", 1_240.0)];
        let number = |name: &str| numbers.iter().find(|(key, _)| *key == name).map(|(_, ms)| *ms);
        let turn = LatencyBar::new(number).unwrap();
        let places: Vec<_> = turn.segments.iter().map(|bar| (bar.class, &*bar.x, &*bar.width)).collect();
        assert_eq!(places, [("stt", "0.0", "24.0"), ("llm", "24.0", "48.0")]);
        assert_eq!(turn.label, "transcript 300 ms, first token 600 ms; in all 1.24 s");
        assert_eq!(LatencyBar::new(|_| None), None);
        assert_eq!(LatencyBar::new(|_| Some(f64::NAN)), None);
    }
}
