//! Overwrites the remains of deleted data. SQLite overwrites a deleted record, but not the copies that splitting or
//! joining a page leaves between the other records. After a deletion, this module overwrites the parts of the database
//! file that hold no record.
//!
//! It writes to the file itself, while the WAL is empty and the only writing connection is idle. SQLite never reads
//! those bytes, so that a crash in the middle damages nothing.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::local::database::{self, kept_open};

/// The bytes before the first page's own header.
const FILE_HEADER: usize = 100;
/// Higher page numbers could be mistaken for the header of another page.
const LARGEST_PAGE: u32 = 0x0200_0000;
/// The number of pages between two checks of the time budget.
const STRIDE: u32 = 64;

/// The result of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// No remains are left.
    Done,
    /// There are more pages.
    More,
    /// A reader still uses the WAL.
    Blocked,
}

/// A pass over the file in several turns. Commits happen between the turns.
pub(super) struct ScrubPass {
    file: &'static File,
    path: PathBuf,
    page_bytes: usize,
    /// The next page of the pass. Earlier pages have remains only if they have changed since.
    next: u32,
    changed: BTreeSet<u32>,
    /// The connection's previous setting. During a pass SQLite must not checkpoint by itself, because it does not
    /// report which pages it copied.
    autocheckpoint: i64,
}

impl ScrubPass {
    /// Starts a pass.
    pub(super) fn start(connection: &Connection) -> rusqlite::Result<Self> {
        let path = connection.path().map(PathBuf::from).unwrap_or_default();
        let file = kept_open::open_file(&path).map_err(to_sqlite_error)?;
        let page_bytes = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let autocheckpoint = connection.pragma_query_value(None, "wal_autocheckpoint", |row| row.get(0))?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        Ok(Self { file, path, page_bytes, next: 1, changed: BTreeSet::new(), autocheckpoint })
    }

    /// Runs one turn of about `budget`.
    pub(super) fn run_turn(&mut self, connection: &Connection, budget: Duration) -> rusqlite::Result<Turn> {
        let started = Instant::now();
        self.changed.extend(pages_in_wal(&self.path).map_err(to_sqlite_error)?);
        if !database::checkpoint_truncate(connection)? {
            return Ok(Turn::Blocked);
        }
        let (turn, has_written) = self.overwrite_pages(started, budget).map_err(to_sqlite_error)?;
        if has_written {
            self.file.sync_data().map_err(to_sqlite_error)?;
            // The connection may have old copies of the pages in its cache, and would write those back.
            connection.execute_batch("PRAGMA shrink_memory")?;
        }
        if turn == Turn::Done {
            connection.pragma_update(None, "wal_autocheckpoint", self.autocheckpoint)?;
        }
        Ok(turn)
    }

    fn overwrite_pages(&mut self, started: Instant, budget: Duration) -> io::Result<(Turn, bool)> {
        let pages = self.file.metadata()?.len() / self.page_bytes as u64;
        let last = u32::try_from(pages).unwrap_or(u32::MAX).min(LARGEST_PAGE);
        let free = FreePages::read(self.file, self.page_bytes)?;
        let mut has_written = false;
        for number in std::mem::take(&mut self.changed) {
            // Later pages are reached in turn.
            if number < self.next && number <= last {
                has_written |= self.overwrite_page(number, &free)?;
            }
        }
        while self.next <= last {
            has_written |= self.overwrite_page(self.next, &free)?;
            self.next += 1;
            if self.next.is_multiple_of(STRIDE) && started.elapsed() >= budget && self.next <= last {
                return Ok((Turn::More, has_written));
            }
        }
        Ok((Turn::Done, has_written))
    }

    fn overwrite_page(&self, number: u32, free: &FreePages) -> io::Result<bool> {
        let place = u64::from(number - 1) * self.page_bytes as u64;
        let mut page = vec![0; self.page_bytes];
        self.file.read_exact_at(&mut page, place)?;
        let changed = if free.leaves.contains(&number) {
            zero_range(&mut page, 0, self.page_bytes)
        } else if let Some(listed) = free.trunks.get(&number) {
            zero_range(&mut page, 8 + 4 * listed, self.page_bytes)
        } else {
            zero_between_records(&mut page, number, self.page_bytes - free.reserved)
        };
        if changed {
            self.file.write_all_at(&page, place)?;
        }
        Ok(changed)
    }
}

/// The free pages, and the pages that list them.
struct FreePages {
    leaves: HashSet<u32>,
    /// Trunk pages, each with the number of leaf pages that it lists.
    trunks: HashMap<u32, usize>,
    /// The bytes at the end of each page that SQLite does not use.
    reserved: usize,
}

impl FreePages {
    fn read(file: &File, page_bytes: usize) -> io::Result<Self> {
        let mut header = [0; FILE_HEADER];
        file.read_exact_at(&mut header, 0)?;
        let reserved = usize::from(header[20]);
        let mut free = Self { leaves: HashSet::new(), trunks: HashMap::new(), reserved };
        let mut trunk = read_be32(&header, 32);
        while trunk != 0 && !free.trunks.contains_key(&trunk) {
            let mut page = vec![0; page_bytes];
            file.read_exact_at(&mut page, u64::from(trunk - 1) * page_bytes as u64)?;
            let listed = (read_be32(&page, 4) as usize).min(page_bytes / 4 - 2);
            free.leaves.extend((0..listed).map(|index| read_be32(&page, 8 + 4 * index)));
            free.trunks.insert(trunk, listed);
            trunk = read_be32(&page, 0);
        }
        Ok(free)
    }
}

/// Overwrites the space between the records of a b-tree page. Returns true if it changed anything. Other pages begin
/// with a zero byte as long as the number of pages is below [`LARGEST_PAGE`]. (The format: sqlite.org/fileformat2.html,
/// "B-tree Pages".)
fn zero_between_records(page: &mut [u8], number: u32, usable: usize) -> bool {
    let start = if number == 1 { FILE_HEADER } else { 0 };
    let header = match page[start] {
        2 | 5 => 12,
        10 | 13 => 8,
        _ => return false,
    };
    let cells = read_be16(page, start + 3);
    let content = read_be16(page, start + 5);
    let content = if content == 0 { 65_536 } else { content };
    let gap = start + header + 2 * cells;
    if gap > content || content > usable {
        return false;
    }
    let mut changed = zero_range(page, gap, content);
    let mut block = read_be16(page, start + 1);
    while block >= content && block + 4 <= usable {
        let next = read_be16(page, block);
        let bytes = read_be16(page, block + 2);
        if bytes < 4 || block + bytes > usable || (next != 0 && next < block + bytes) {
            break;
        }
        changed |= zero_range(page, block + 4, block + bytes);
        block = next;
    }
    changed
}

/// Overwrites the range with zeros. Returns true if it was not zero already.
fn zero_range(page: &mut [u8], from: usize, to: usize) -> bool {
    let Some(room) = page.get_mut(from..to).filter(|room| room.iter().any(|byte| *byte != 0)) else {
        return false;
    };
    room.fill(0);
    true
}

/// Returns the pages in the WAL, including those of transactions that did not commit.
fn pages_in_wal(database: &Path) -> io::Result<BTreeSet<u32>> {
    const HEADER: usize = 32;
    const FRAME_HEADER: usize = 24;
    let mut pages = BTreeSet::new();
    let log = match File::open(database::sibling_path(database, "-wal")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(pages),
        log => log?,
    };
    let bytes = log.metadata()?.len();
    if bytes < HEADER as u64 {
        return Ok(pages);
    }
    let mut header = [0; HEADER];
    log.read_exact_at(&mut header, 0)?;
    let frame_bytes = (FRAME_HEADER + read_be32(&header, 8) as usize) as u64;
    let mut place = HEADER as u64;
    while place + frame_bytes <= bytes {
        let mut frame = [0; FRAME_HEADER];
        log.read_exact_at(&mut frame, place)?;
        // The frames after this one are from before the WAL was restarted.
        if frame[8..16] != header[16..24] {
            break;
        }
        pages.insert(read_be32(&frame, 0));
        place += frame_bytes;
    }
    Ok(pages)
}

fn to_sqlite_error(error: io::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}

fn read_be16(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

fn read_be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
