//! Pages of lists, bounded in rows and in bytes: a page of the largest rows must not take the memory of the whole process.

use std::ops::Deref;

use crate::store::{MessageRow, SessionRow};

/// Bytes of text after which a page ends, however many rows were asked for. The row that crosses this bound is still on the
/// page, so that every list goes on.
pub const PAGE_BYTES: usize = 4 << 20;

/// Bytes of messages that a search reads for one page of hits.
pub(crate) const SEARCHED_BYTES: usize = 4 * PAGE_BYTES;

/// Some rows of a list, in its order.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The rows. Empty only at the end of the list.
    pub rows: Vec<T>,
    /// True if the list may go on after the last row: the page has as many rows as were asked for, or [`PAGE_BYTES`] of text.
    pub more: bool,
}

/// A row that says how much text it holds.
pub trait Weigh {
    /// Bytes of its text.
    fn text_bytes(&self) -> usize;
}

impl<T: Weigh> Page<T> {
    /// Takes rows until the page is full.
    ///
    /// # Errors
    /// The first row's that cannot be read.
    pub fn fill<E>(rows: impl IntoIterator<Item = Result<T, E>>, limit: usize) -> Result<Self, E> {
        let mut page = Self::default();
        let mut bytes = 0;
        for row in rows {
            let row = row?;
            bytes += row.text_bytes();
            page.rows.push(row);
            page.more = page.rows.len() >= limit || bytes >= PAGE_BYTES;
            if page.more {
                break;
            }
        }
        Ok(page)
    }

    /// Bytes of text on the page.
    pub fn text_bytes(&self) -> usize {
        self.rows.iter().map(T::text_bytes).sum()
    }
}

impl<T> Page<T> {
    /// The row after which the list goes on; `None` if this page is the last.
    pub fn last_before_more(&self) -> Option<&T> {
        self.rows.last().filter(|_| self.more)
    }
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), more: false }
    }
}

impl<T: PartialEq, const N: usize> PartialEq<[T; N]> for Page<T> {
    fn eq(&self, rows: &[T; N]) -> bool {
        self.rows == rows
    }
}

impl<T: PartialEq> PartialEq<Vec<T>> for Page<T> {
    fn eq(&self, rows: &Vec<T>) -> bool {
        self.rows == *rows
    }
}

impl<T> Deref for Page<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.rows
    }
}

impl<T> IntoIterator for Page<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Page<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.iter()
    }
}

impl Weigh for MessageRow {
    fn text_bytes(&self) -> usize {
        let texts = [&self.external_id, &self.audio_url, &self.content_generated];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let metadata = self.metadata.as_ref().map_or(0, |json| json.as_str().len());
        let parts = self.parts.as_ref().map_or(0, |json| json.as_str().len());
        let metrics = self.metrics.as_ref().map_or(0, |json| json.as_str().len());
        let extra = self.extra.as_ref().map_or(0, |json| json.as_str().len());
        let words = self.role.as_str().len() + self.kind.as_str().len();
        self.content.len() + texts + metadata + parts + metrics + extra + words
    }
}

impl Weigh for SessionRow {
    fn text_bytes(&self) -> usize {
        let texts = [&self.external_id, &self.end_reason];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        texts + self.status.as_str().len() + self.metadata.as_ref().map_or(0, |json| json.as_str().len())
    }
}
