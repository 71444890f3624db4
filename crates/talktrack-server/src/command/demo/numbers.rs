//! Realistic metrics of a turn: most are fast, and a few are slow.

use fastrand::Rng;

/// The latencies of a turn in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    pub(super) stt: f64,
    pub(super) end_of_utterance: f64,
    pub(super) first_token: f64,
    pub(super) first_byte: f64,
}

impl Waits {
    /// Draws latencies. Half of the turns are answered within about 800 ms; one in a hundred takes three times that.
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let mut first_token = skewed(rng, 330.0, 0.45);
        if rng.u8(..100) < 4 {
            first_token *= 3.5;
        }
        Self {
            stt: skewed(rng, 95.0, 0.3),
            end_of_utterance: skewed(rng, 250.0, 0.25),
            first_token: first_token.min(2_200.0),
            first_byte: skewed(rng, 105.0, 0.35),
        }
    }
}

/// Draws from a lognormal distribution: half of the values are below the median, and a few are far above it. Rounded to
/// tenths.
pub(super) fn skewed(rng: &mut Rng, median: f64, sigma: f64) -> f64 {
    tenths(median * (sigma * normal(rng)).exp())
}

/// Draws evenly between two numbers. Rounded to tenths.
pub(super) fn between(rng: &mut Rng, least: f64, most: f64) -> f64 {
    tenths(least + (most - least) * rng.f64())
}

/// Draws the confidence of the speech recognition, which is nearly always high.
pub(super) fn confidence(rng: &mut Rng) -> f64 {
    let doubt = (skewed(rng, 40.0, 0.8) / 1_000.0).min(0.5);
    ((1.0 - doubt) * 1_000.0).round() / 1_000.0
}

pub(super) fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// Estimates how long a text takes to say in milliseconds, for lines without a clip. A Chinese or Japanese character
/// counts as a syllable.
pub(super) fn speaking(rng: &mut Rng, text: &str) -> f64 {
    let weight: f64 = text.chars().map(|character| if character >= '\u{2E80}' { 2.6 } else { 1.0 }).sum();
    tenths((350.0 + weight * 62.0) * (0.07 * normal(rng)).exp())
}

/// Estimates how many tokens a model counts.
pub(super) fn tokens(text: &str) -> u64 {
    let quarters: u64 = text.chars().map(|character| if character.is_ascii() { 1 } else { 3 }).sum();
    quarters / 4 + 1
}

/// Draws from the standard normal distribution, with the polar form of Box and Muller.
fn normal(rng: &mut Rng) -> f64 {
    loop {
        let x = rng.f64() * 2.0 - 1.0;
        let y = rng.f64() * 2.0 - 1.0;
        let square = x * x + y * y;
        if square > 0.0 && square < 1.0 {
            return x * (-2.0 * square.ln() / square).sqrt();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the time from the end of the user's speech to the first sound of the answer.
    fn end_to_end(waits: Waits) -> f64 {
        waits.stt + waits.end_of_utterance + waits.first_token + waits.first_byte
    }

    #[test]
    fn half_of_the_turns_take_under_a_second_and_the_slowest_some_three() {
        let mut rng = Rng::with_seed(7);
        let mut turns: Vec<f64> = (0..2_000).map(|_| end_to_end(Waits::draw(&mut rng))).collect();
        turns.sort_by(f64::total_cmp);
        let median = turns[1_000];
        let last = turns[1_999];
        assert!((700.0..900.0).contains(&median), "p50 {median}");
        assert!((1_800.0..3_600.0).contains(&last), "the slowest {last}");
        assert!(turns[1_980] > 1.8 * median, "p99 {}", turns[1_980]);
    }
}
