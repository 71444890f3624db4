//! What the benchmarks share: parts that run in processes of their own, and figures computed from measurements.

use std::process::Command;
use std::time::Instant;

/// What a benchmark returns. Its first error ends it.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A part of a benchmark: its name on the command line, and the function that measures and prints.
pub type Part = (&'static str, fn() -> Outcome<()>);

/// The text of a message of the benchmarks, 200 bytes long.
pub const TEXT: &str = "I would like to change the delivery address of my last order, please. It should go to the office on \
                        Harbour Street instead, second floor, and somebody must sign for it before noon if possible. Thanks!";

/// Runs the parts that the command line names, or all if it names none.
///
/// Each part runs in a process of its own, so that the memory and the threads of one do not change the figures of the
/// next: a part prints comparable figures alone and in a full run.
///
/// # Errors
/// An unknown name, or the error of the first part that fails.
pub fn run_parts(parts: &[Part]) -> Outcome<()> {
    // Cargo adds flags such as `--bench`.
    let names: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    match &names[..] {
        [] => parts.iter().try_for_each(|(part, _)| run_alone(part)),
        [name] => match parts.iter().find(|(part, _)| part == name) {
            Some((_, run)) => run(),
            None => {
                let known: Vec<&str> = parts.iter().map(|(part, _)| *part).collect();
                Err(format!("there is no part {name}; the parts are {}", known.join(", ")).into())
            }
        },
        names => names.iter().try_for_each(|name| run_alone(name)),
    }
}

/// Runs one part in a process of its own.
fn run_alone(part: &str) -> Outcome<()> {
    let status = Command::new(std::env::current_exe()?).arg(part).status()?;
    if status.success() { Ok(()) } else { Err(format!("the part {part} failed: {status}").into()) }
}

/// Returns how many there were per second since this moment.
pub fn rate(count: usize, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}

/// Returns the median, or the higher of the two in the middle, or 0 if there are no figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// Returns the given percentile of sorted values, or 0 if there are none.
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
}

/// Returns the resident size of a process in bytes. Reads `/proc`, so it needs Linux.
///
/// # Errors
/// The process has ended, or the system has no `/proc`.
pub fn resident(process: u32) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no size")?.parse::<u64>()? * 1024)
}
