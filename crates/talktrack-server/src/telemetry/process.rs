//! Metrics of this process, which Linux keeps: processor time, memory, open files, start. Other systems have none.

use metrics::{Unit, describe_counter, describe_gauge};

const CPU_SECONDS: &str = "talktrack_process_cpu_seconds_total";
const RESIDENT_BYTES: &str = "talktrack_process_resident_memory_bytes";
const OPEN_FILES: &str = "talktrack_process_open_fds";
const START_TIME: &str = "talktrack_process_start_time_seconds";

/// Describes the metrics.
pub(super) fn describe_metrics() {
    describe_counter!(CPU_SECONDS, Unit::Seconds, "Processor time of this process, in whole seconds");
    describe_gauge!(RESIDENT_BYTES, Unit::Bytes, "Memory of this process that is in RAM");
    describe_gauge!(OPEN_FILES, "Open files and connections of this process");
    describe_gauge!(START_TIME, Unit::Seconds, "When this process started, in seconds since 1970");
}

/// Reads the metrics from the system. A metric that cannot be read keeps its value.
pub(super) fn collect_metrics() {
    #[cfg(target_os = "linux")]
    linux::collect_metrics();
}

#[cfg(target_os = "linux")]
mod linux {
    use metrics::{counter, gauge};
    use procfs::process::Process;
    use procfs::{ProcResult, WithCurrentSystemInfo as _, boot_time_secs, ticks_per_second};

    use super::{CPU_SECONDS, OPEN_FILES, RESIDENT_BYTES, START_TIME};

    pub(super) fn collect_metrics() {
        if let Err(error) = read_metrics() {
            tracing::debug!(%error, "cannot read the metrics of this process");
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is an f64; 2^53 bytes are out of reach")]
    fn read_metrics() -> ProcResult<()> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let ticks = ticks_per_second();
        counter!(CPU_SECONDS).absolute((stat.utime + stat.stime) / ticks);
        gauge!(RESIDENT_BYTES).set(stat.rss_bytes().get() as f64);
        gauge!(OPEN_FILES).set(process.fd_count()? as f64);
        gauge!(START_TIME).set((boot_time_secs()? + stat.starttime / ticks) as f64);
        Ok(())
    }
}
