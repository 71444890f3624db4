//! When people call: over the last week, mostly in the morning and in the afternoon.

use std::time::Duration;

use fastrand::Rng;
use talktrack::Timestamp;

const HOURS: usize = 7 * 24;
const HOUR: Duration = Duration::from_secs(3_600);

/// Longer than any of the conversations: the newest one has ended by now.
const LATEST: Duration = Duration::from_secs(600);

/// How many call in each hour of a day (UTC).
const OF_A_DAY: [f64; 24] = [
    0.2, 0.1, 0.1, 0.1, 0.1, 0.3, 0.8, 2.0, 4.0, 6.0, 7.0, 6.0, 4.0, 4.5, 6.0, 6.5, 6.0, 5.0, 4.0, 3.0, 2.5,
    1.5, 0.8, 0.4,
];

/// When the conversation of this number, of so many, begins. 0 is the newest.
pub(super) fn start(now: Timestamp, number: usize, count: usize, rng: &mut Rng) -> Timestamp {
    let latest = now.minus(LATEST);
    let weight = |hours_ago: usize| OF_A_DAY[hour_of_day(latest, hours_ago)];
    let total: f64 = (0..HOURS).map(weight).sum();
    #[expect(clippy::cast_precision_loss, reason = "numbers of conversations are small")]
    let share = (number as f64 + rng.f64()) / count.max(1) as f64;
    let mut left = share * total;
    for hours_ago in 0..HOURS {
        let weight = weight(hours_ago);
        if left < weight {
            #[expect(clippy::cast_possible_truncation, reason = "at most 168")]
            let ago = HOUR * hours_ago as u32 + HOUR.mul_f64(left / weight);
            return latest.minus(ago);
        }
        left -= weight;
    }
    latest.minus(HOUR * 168)
}

fn hour_of_day(latest: Timestamp, hours_ago: usize) -> usize {
    let hours = latest.as_micros() / 3_600_000_000;
    let hour = (hours - i64::try_from(hours_ago).unwrap_or(0)).rem_euclid(24);
    usize::try_from(hour).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_are_of_the_last_week_newest_first_and_few_at_night() {
        let now: Timestamp = "2026-11-23T08:20:00Z".parse().unwrap();
        let mut rng = Rng::with_seed(1);
        let starts: Vec<_> = (0..500).map(|number| start(now, number, 500, &mut rng)).collect();
        assert!(starts.windows(2).all(|pair| pair[0] >= pair[1]), "newest first");
        assert!(starts.iter().all(|start| (600.0..=605_400.0).contains(&now.seconds_since(*start))));
        let at_night = starts.iter().filter(|start| hour_of_day(**start, 0) < 6).count();
        assert!(at_night < 20, "{at_night} at night");
        let days = starts.iter().map(|start| start.as_micros() / 86_400_000_000);
        assert_eq!(days.collect::<std::collections::BTreeSet<_>>().len(), 8);
    }
}
