//! Speech for the conversations with recordings, from espeak-ng if it is installed.

use std::io;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

const PROGRAM: &str = "espeak-ng";

/// The sample rate of espeak-ng. Half of it is telephone quality.
const SPOKEN_RATE: u32 = 22_050;
const RATE: u32 = SPOKEN_RATE / 2;

/// A sound as samples of one channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Clip(Vec<i16>);

/// True if espeak-ng is installed.
pub(super) async fn is_installed() -> bool {
    let asked = Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.await.is_ok_and(|status| status.success())
}

/// Speaks a text.
pub(super) async fn speak(voice: &str, text: &str) -> io::Result<Clip> {
    let mut command = Command::new(PROGRAM);
    command.args(["--stdout", "--stdin", "-s", "165", "-v", voice]);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    if let Some(mut input) = process.stdin.take() {
        input.write_all(text.as_bytes()).await?;
    }
    let spoken = process.wait_with_output().await?;
    read_samples(&spoken.stdout)
        .filter(|_| spoken.status.success())
        .map(|samples| Clip(halve_rate(&samples)))
        .ok_or_else(|| io::Error::other(format!("{PROGRAM} did not speak in the voice {voice}")))
}

impl Clip {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[expect(clippy::cast_precision_loss, reason = "conversations are short")]
    pub(super) fn ms(&self) -> f64 {
        (self.0.len() as f64 * 1_000.0 / f64::from(RATE)).round()
    }

    /// Mixes another clip into this one, from `at_ms` on. If both speak, both are audible.
    pub(super) fn add(&mut self, other: &Self, at_ms: f64) {
        let start = sample_index(at_ms);
        if self.0.len() < start + other.0.len() {
            self.0.resize(start + other.0.len(), 0);
        }
        for (ours, theirs) in self.0[start..].iter_mut().zip(&other.0) {
            *ours = ours.saturating_add(*theirs);
        }
    }

    /// Encodes the clip as a WAV file with 16 bits a sample.
    pub(super) fn wav(&self) -> Vec<u8> {
        let bytes = u32::try_from(self.0.len() * 2).unwrap_or(u32::MAX - 36);
        let mut file = Vec::with_capacity(44 + self.0.len() * 2);
        file.extend(b"RIFF");
        file.extend((36 + bytes).to_le_bytes());
        file.extend(b"WAVEfmt ");
        file.extend(16_u32.to_le_bytes());
        // PCM, one channel.
        file.extend([1, 0, 1, 0]);
        file.extend(RATE.to_le_bytes());
        file.extend((RATE * 2).to_le_bytes());
        file.extend([2, 0, 16, 0]);
        file.extend(b"data");
        file.extend(bytes.to_le_bytes());
        file.extend(self.0.iter().flat_map(|sample| sample.to_le_bytes()));
        file
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a short conversation"
)]
fn sample_index(ms: f64) -> usize {
    (ms.max(0.0) * f64::from(RATE) / 1_000.0) as usize
}

/// Returns the samples after the header of a WAV file. The lengths in the header are ignored, because a program that
/// writes to a pipe cannot know them.
fn read_samples(wav: &[u8]) -> Option<Vec<i16>> {
    let data = wav.windows(4).position(|four| four == b"data")? + 8;
    let samples = wav.get(data..)?.chunks_exact(2);
    Some(samples.map(|two| i16::from_le_bytes([two[0], two[1]])).collect())
}

fn halve_rate(samples: &[i16]) -> Vec<i16> {
    samples.chunks_exact(2).map(|two| two[0] / 2 + two[1] / 2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_lies_where_it_was_said_in_the_recording_and_both_are_heard_who_speak_at_once() {
        let mut all = Clip::default();
        all.add(&Clip(vec![5; 11_025]), 0.0);
        all.add(&Clip(vec![2; 11_025]), 500.0);
        assert_eq!((all.ms(), all.0[0], all.0[8_000], all.0[16_000]), (1_500.0, 5, 7, 2));
        let wav = all.wav();
        assert_eq!(read_samples(&wav), Some(all.0));
    }
}
