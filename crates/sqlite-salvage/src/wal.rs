//! Reads the write-ahead log (WAL) without SQLite. SQLite stops at the first broken frame and silently
//! ignores all frames after it, although they contain committed transactions. This module judges each frame
//! by itself: its checksum continues from the one that is stored in the frame before it. (The format:
//! sqlite.org/fileformat2.html, "The Write-Ahead Log".)

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::bytes::{read_available, read_be32};
use crate::header::is_page_size;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The first number of every log. Its last bit is the byte order of the checksums.
const MAGIC: u32 = 0x377f_0682;
/// The second number of every log: the version of the format.
const VERSION: u32 = 3_007_000;

/// Two running sums over 32-bit words.
type Checksum = (u32, u32);
/// A random number, chosen each time the log restarts from the front. Frames with a different salt are left
/// over from before.
type Salt = [u8; 8];

/// The write-ahead log of a database: the part of it that is committed, also if SQLite would ignore it.
///
/// A frame is used if its checksum is right, or if it follows a broken frame and cannot be checked, and if a frame that
/// ends a transaction comes after it, or SQLite's index of the log (the file `-shm`) says that it was committed.
#[derive(Debug, Default)]
pub struct Wal {
    file: Option<File>,
    /// The offset of the newest committed image of each page.
    pages: HashMap<u32, u64>,
    /// The size of the pages in the frames.
    frame_page_size: usize,
    has_intact_header: bool,
    damage: Option<WalDamage>,
    torn_frames: usize,
}

/// Damage because of which SQLite would silently lose committed transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WalDamage {
    /// A frame is broken. SQLite ignores it and all frames after it.
    BrokenFrame {
        /// The number of committed frames that SQLite would ignore.
        ignored: usize,
    },
    /// The header is broken. SQLite ignores the whole log.
    BrokenHeader {
        /// The number of committed frames that SQLite would ignore.
        ignored: usize,
    },
    /// The log is missing or empty, but SQLite's index of it says that it had frames which were not copied into the
    /// database file yet.
    Missing {
        /// The number of frames that are lost.
        frames: usize,
    },
}

impl fmt::Display for WalDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrokenFrame { ignored } => {
                write!(
                    f,
                    "a frame of its write-ahead log is broken, and SQLite would ignore {ignored} frames"
                )
            }
            Self::BrokenHeader { ignored } => {
                write!(
                    f,
                    "the header of its write-ahead log is broken, and SQLite would ignore {ignored} frames"
                )
            }
            Self::Missing { frames } => {
                write!(f, "its write-ahead log is missing, with {frames} frames that exist nowhere else")
            }
        }
    }
}

/// A frame. Frames after the last one with the log's salt are left over from before.
struct Frame {
    page: u32,
    /// The database size in pages if the frame ends a transaction, otherwise 0.
    commit: u32,
    /// True if the frame is unchanged, or cannot be checked.
    intact: bool,
}

/// The properties that all frames of a log share.
struct WalHeader {
    page_size: usize,
    big_endian: bool,
    salt: Salt,
    /// The checksum of the header, from which the first frame's checksum continues.
    seed: Checksum,
    header_intact: bool,
}

impl Wal {
    /// Reads the log of the database at `path`. If the header of the log is broken, its pages have `page_size` bytes.
    ///
    /// # Errors
    /// If the log exists and the system cannot read it.
    pub(crate) fn read(path: &Path, page_size: usize) -> io::Result<Self> {
        let file = match File::open(sibling_path(path, "-wal")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    damage: WalIndex::read(path, None).describe_missing_wal(),
                    ..Self::default()
                });
            }
            Err(error) => return Err(error),
        };
        let Some(wal_header) = WalHeader::read(&file, page_size)? else {
            return Ok(Self { damage: WalIndex::read(path, None).describe_missing_wal(), ..Self::default() });
        };
        let frames = wal_header.read_frames(&file)?;
        let wal_index = WalIndex::read(path, Some(wal_header.salt));
        let judged = Judgement::new(&frames, &wal_header, &wal_index);
        let mut log = Self {
            file: Some(file),
            pages: HashMap::new(),
            frame_page_size: wal_header.page_size,
            has_intact_header: wal_header.header_intact,
            damage: judged.damage,
            torn_frames: judged.torn_frames,
        };
        let committed = frames.iter().rposition(|frame| frame.intact && frame.commit > 0);
        let used = wal_index.committed.max(committed.map_or(0, |last| last + 1)).min(frames.len());
        // Copied frames are in the database file. If one of them is broken, an older frame of its page must
        // not hide the copy.
        let copied = wal_index.copied.min(used);
        let first = if frames[..copied].iter().all(|frame| frame.intact) { 0 } else { copied };
        let usable = frames[..used].iter().enumerate().skip(first).filter(|(_, frame)| frame.intact);
        for (index, frame) in usable {
            log.pages.insert(frame.page, wal_header.frame_offset(index) + FRAME_HEADER as u64);
        }
        Ok(log)
    }

    /// Returns the number of pages of which the log has a committed version.
    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Returns the damage because of which SQLite would lose committed transactions, if there is any.
    pub fn damage(&self) -> Option<WalDamage> {
        self.damage
    }

    /// Returns the number of frames at the end of the log that belong to a transaction which was never completed, for
    /// example because of a power failure. This is no damage: the transaction was not committed, and is not read.
    pub fn torn_frames(&self) -> usize {
        self.torn_frames
    }

    /// Returns the size of the pages, if the header of the log is intact.
    pub(crate) fn page_size(&self) -> Option<usize> {
        self.has_intact_header.then_some(self.frame_page_size)
    }

    /// Reads the newest committed image of a page into `page`. Returns false if the log has none, or has pages of another
    /// size.
    pub(crate) fn read_page(&self, number: u32, page: &mut [u8]) -> io::Result<bool> {
        let (Some(file), Some(place)) = (&self.file, self.pages.get(&number)) else { return Ok(false) };
        Ok(page.len() == self.frame_page_size && read_available(file, *place, page)? == page.len())
    }

    pub(crate) fn has_page(&self, number: u32) -> bool {
        self.pages.contains_key(&number)
    }

    /// Returns the pages in the log with higher numbers than `last`, in ascending order.
    pub(crate) fn pages_after(&self, last: u32) -> Vec<u32> {
        let mut behind: Vec<u32> = self.pages.keys().copied().filter(|page| *page > last).collect();
        behind.sort_unstable();
        behind
    }
}

/// Returns the path of a file that SQLite keeps next to the database: the database's path plus this suffix.
pub(crate) fn sibling_path(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

impl WalHeader {
    /// Reads the header; `None` if there is no frame. If the header is damaged, this page size and the salt
    /// of the first frame are used instead.
    fn read(file: &File, page_size: usize) -> io::Result<Option<Self>> {
        let mut header = [0; HEADER + FRAME_HEADER];
        if read_available(file, 0, &mut header)? < header.len() {
            return Ok(None);
        }
        let magic = read_be32(&header, 0);
        let own_page_size = read_be32(&header, 8) as usize;
        let known = magic & !1 == MAGIC;
        let big_endian = if known { magic & 1 == 1 } else { cfg!(target_endian = "big") };
        let seed = (read_be32(&header, 24), read_be32(&header, 28));
        let header_intact = known
            && read_be32(&header, 4) == VERSION
            && is_page_size(own_page_size)
            && compute_checksum((0, 0), &header[..24], big_endian) == seed;
        // The first frame always belongs to the current run, and has its salt.
        let salt = if header_intact { &header[16..24] } else { &header[HEADER + 8..HEADER + 16] };
        let page_size = if header_intact { own_page_size } else { page_size };
        let mut wal_header = Self { page_size, big_endian, salt: [0; 8], seed, header_intact };
        wal_header.salt.copy_from_slice(salt);
        Ok(Some(wal_header))
    }

    fn frame_offset(&self, index: usize) -> u64 {
        HEADER as u64 + index as u64 * (FRAME_HEADER + self.page_size) as u64
    }

    fn read_frames(&self, file: &File) -> io::Result<Vec<Frame>> {
        let mut frames = Vec::new();
        let mut before = self.seed;
        let mut bytes = vec![0; FRAME_HEADER + self.page_size];
        let mut current = 0;
        let mut known = self.header_intact;
        while read_available(file, self.frame_offset(frames.len()), &mut bytes)? == bytes.len() {
            let stored = (read_be32(&bytes, 16), read_be32(&bytes, 20));
            let sum = compute_checksum(before, &bytes[..8], self.big_endian);
            let sum = compute_checksum(sum, &bytes[FRAME_HEADER..], self.big_endian);
            let salted = bytes[8..16] == self.salt;
            // After a broken frame, the stored checksum to continue from may be broken too. Then the frame
            // is trusted like a page of the database file, which has no checksum.
            let intact = salted && (sum == stored || !known);
            frames.push(Frame { page: read_be32(&bytes, 0), commit: read_be32(&bytes, 4), intact });
            (before, known) = (stored, intact);
            if salted {
                current = frames.len();
            }
        }
        frames.truncate(current);
        Ok(frames)
    }
}

/// What SQLite would make of the log.
struct Judgement {
    damage: Option<WalDamage>,
    torn_frames: usize,
}

impl Judgement {
    fn new(frames: &[Frame], wal_header: &WalHeader, wal_index: &WalIndex) -> Self {
        let broken =
            if wal_header.header_intact { frames.iter().position(|frame| !frame.intact) } else { Some(0) };
        let sound = broken.unwrap_or(frames.len());
        let read = frames[..sound].iter().rposition(|frame| frame.commit > 0).map_or(0, |last| last + 1);
        // A power cut may have torn the last transaction; then none of it was acknowledged. But nothing is
        // written after an incomplete transaction.
        let mut behind = frames.iter().skip(sound).skip_while(|frame| frame.commit == 0).skip(1);
        let went_on = behind.any(|frame| frame.intact);
        let ignored = wal_index.committed.max(if went_on { frames.len() } else { 0 }).saturating_sub(read);
        if ignored > 0 {
            let damage = if wal_header.header_intact {
                WalDamage::BrokenFrame { ignored }
            } else {
                WalDamage::BrokenHeader { ignored }
            };
            return Self { damage: Some(damage), torn_frames: 0 };
        }
        let torn_frames = if sound < frames.len() { frames.len() - read } else { 0 };
        Self { damage: None, torn_frames }
    }
}

/// SQLite's own index of the log (`-shm`), which says how much of the log is committed. It survives a kill,
/// but a commit does not depend on it to be durable. It is trusted only if its own checksum is valid.
#[derive(Debug, Default)]
struct WalIndex {
    /// Number of committed frames.
    committed: usize,
    /// Number of these that a checkpoint has already copied into the database file.
    copied: usize,
}

impl WalIndex {
    /// Reads the index for the log with this salt, or for any log.
    fn read(path: &Path, salt: Option<Salt>) -> Self {
        let mut bytes = [0; 100];
        let index = File::open(sibling_path(path, "-shm"));
        if !index.and_then(|file| read_available(&file, 0, &mut bytes)).is_ok_and(|read| read == bytes.len())
        {
            return Self::default();
        }
        let word = |place: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|byte| bytes[place + byte]));
        let sum = compute_checksum((0, 0), &bytes[..40], cfg!(target_endian = "big"));
        let believed = bytes[..48] == bytes[48..96]
            && word(0) == VERSION
            && sum == (word(40), word(44))
            && salt.is_none_or(|salt| bytes[32..40] == salt);
        if believed {
            Self { committed: word(16) as usize, copied: word(96) as usize }
        } else {
            Self::default()
        }
    }

    /// Describes the loss if the log is missing.
    fn describe_missing_wal(&self) -> Option<WalDamage> {
        let frames = self.committed.saturating_sub(self.copied);
        (frames > 0).then_some(WalDamage::Missing { frames })
    }
}

fn compute_checksum(from: Checksum, bytes: &[u8], big_endian: bool) -> Checksum {
    let word = |bytes: &[u8]| {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    bytes.chunks_exact(8).fold(from, |(mut first, mut second), pair| {
        first = first.wrapping_add(word(&pair[..4])).wrapping_add(second);
        second = second.wrapping_add(word(&pair[4..])).wrapping_add(first);
        (first, second)
    })
}
