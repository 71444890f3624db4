//! When people call: during the last week, mostly in the morning and the afternoon, less often at the weekend.

use std::time::Duration;

use fastrand::Rng;
use talktrack::Timestamp;

use super::numbers::skewed;

const DAYS: usize = 7;
const HOUR: Duration = Duration::from_secs(3_600);

/// Longer than any of the conversations, so that the newest one has already ended.
const LATEST: Duration = Duration::from_secs(600);

/// The relative number of calls in each hour of a day (UTC).
const OF_A_DAY: [f64; 24] = [
    0.2, 0.1, 0.1, 0.1, 0.1, 0.3, 0.8, 2.0, 4.0, 6.0, 7.0, 6.0, 4.0, 4.5, 6.0, 6.5, 6.0, 5.0, 4.0, 3.0, 2.5,
    1.5, 0.8, 0.4,
];

/// The relative number of calls on each day of a week, starting on Thursday, as 1970 did.
const OF_A_WEEK: [f64; 7] = [1.0, 0.9, 0.45, 0.35, 1.1, 1.0, 1.0];

/// Draws the starts of `count` conversations, newest first.
pub(super) fn draw_starts(now: Timestamp, count: usize, rng: &mut Rng) -> Vec<Timestamp> {
    let latest = now.minus(LATEST);
    // The number of calls varies from day to day.
    let moods: Vec<f64> = (0..=DAYS).map(|_| skewed(rng, 1.0, 0.25)).collect();
    let weights: Vec<f64> = (0..DAYS * 24).map(|ago| weight(latest, ago) * moods[ago / 24]).collect();
    let total: f64 = weights.iter().sum();
    let mut starts: Vec<_> =
        (0..count).map(|_| latest.minus(draw_age(&weights, rng.f64() * total))).collect();
    starts.sort_by_key(|start| std::cmp::Reverse(*start));
    starts
}

fn weight(latest: Timestamp, hours_ago: usize) -> f64 {
    let hours = latest.as_micros() / 3_600_000_000 - i64::try_from(hours_ago).unwrap_or(0);
    let place = |number: i64| usize::try_from(number).unwrap_or(0);
    OF_A_DAY[place(hours.rem_euclid(24))] * OF_A_WEEK[place(hours.div_euclid(24).rem_euclid(7))]
}

/// Returns how long ago the hour is at which this much of the weight has passed.
fn draw_age(weights: &[f64], mut left: f64) -> Duration {
    let mut whole = Duration::ZERO;
    for weight in weights {
        if left < *weight {
            return whole + HOUR.mul_f64(left / weight);
        }
        left -= weight;
        whole += HOUR;
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_are_of_the_last_week_newest_first_and_few_at_night() {
        let now: Timestamp = "2026-11-23T08:20:00Z".parse().unwrap();
        let starts = draw_starts(now, 500, &mut Rng::with_seed(1));
        assert!(starts.windows(2).all(|pair| pair[0] >= pair[1]), "newest first");
        assert!(starts.iter().all(|start| (600.0..=605_400.0).contains(&now.seconds_since(*start))));
        let hour = |start: &Timestamp| start.as_micros() / 3_600_000_000 % 24;
        let at_night = starts.iter().filter(|start| hour(start) < 6).count();
        assert!(at_night < 20, "{at_night} at night");
        let on = |day: &str| starts.iter().filter(|start| start.to_string().starts_with(day)).count();
        assert!(on("2026-11-22") < on("2026-11-20"), "fewer on a Sunday than on a Friday");
        assert!(on("2026-11-17") > 20);
    }
}
