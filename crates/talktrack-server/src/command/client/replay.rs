//! Replays a recording on a number of connections at once. Each connection replays one session after the other.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hdrhistogram::Histogram;
use talktrack_client::socket::SocketClient;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ClientArgs;
use super::plan::{Plan, SendRate};
use super::recording::ReplayInput;
use super::report::ReplayReport;
use super::session_replay;
use crate::command::Outcome;
use crate::error::Failure;
use crate::output;

struct Replay {
    plan: Plan,
    recording: ReplayInput,
    /// The next session to replay.
    next: AtomicUsize,
}

/// Runs the replay.
pub(super) async fn run(args: ClientArgs, server: SocketClient, file: &Path) -> Outcome {
    let recording = ReplayInput::load(file)?;
    let report = ReplayReport::new(&recording, args.acked.as_deref())?;
    recording.bad.iter().for_each(|bad| report.complain(bad));
    if recording.sessions.is_empty() {
        return Err(Failure::new(format_args!("{}: contains no conversation", file.display())));
    }
    let sockets = args.pace.sockets.get().min(recording.sessions.len());
    let plan = Plan {
        server,
        user_id: args.user_id,
        file: file.display().to_string(),
        window: args.pace.window.get(),
        budget: Plan::full_budget(),
        pace: args.pace.rate.map(|rate| SendRate::new(rate.get())),
        report,
    };
    let replay = Arc::new(Replay { plan, recording, next: AtomicUsize::new(0) });
    let began = Instant::now();
    let latencies = replay_all(&replay, sockets).await;
    let summary = replay.plan.report.summarize(began.elapsed(), &latencies);
    let code = if summary.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    output::print_summary(args.json, &summary, |view| summary.describe(view), code)
}

/// Replays all sessions. Returns the histogram of acknowledgement latencies in microseconds.
async fn replay_all(replay: &Arc<Replay>, sockets: usize) -> Histogram<u64> {
    let mut connections = JoinSet::new();
    for _ in 0..sockets {
        connections.spawn(replay_one_after_the_other(Arc::clone(replay)));
    }
    let mut all = new_histogram();
    while let Some(ended) = connections.join_next().await {
        match ended {
            // Both histograms have the same bounds, so adding them cannot fail.
            Ok(latencies) => all += latencies,
            Err(panicked) => replay.plan.report.complain(panicked),
        }
    }
    all
}

async fn replay_one_after_the_other(replay: Arc<Replay>) -> Histogram<u64> {
    let mut latencies = new_histogram();
    while let Some(session) = replay.recording.sessions.get(replay.next.fetch_add(1, Ordering::Relaxed)) {
        if let Err((unanswered, why)) =
            session_replay::replay_session(&replay.plan, session, &mut latencies).await
        {
            let id = session.session_id;
            replay
                .plan
                .report
                .lost(unanswered, format_args!("session {id}: {why}; {unanswered} messages have no answer"));
        }
    }
    latencies
}

/// Makes a histogram of microseconds up to an hour, with three significant digits.
fn new_histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_max(3_600_000_000, 3)
        .unwrap_or_else(|_| unreachable!("the bounds are constant and valid"));
    histogram.auto(false);
    histogram
}
