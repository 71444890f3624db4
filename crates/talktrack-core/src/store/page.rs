//! Pages of lists, bounded in rows and in bytes, so that a page of the largest rows does not use up the
//! memory of the process.

use std::ops::Deref;

use crate::store::{MessageRow, SessionRow};

/// A page ends once its text reaches this many bytes, even if the caller asked for more rows. The row that
/// crosses the bound is still on the page, so that every list makes progress.
pub const PAGE_BYTES: usize = 4 << 20;

/// The bytes of messages that a search reads for one page of hits.
pub const SEARCHED_BYTES: usize = 4 * PAGE_BYTES;

/// Consecutive rows of a list, in the order of the list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The rows. An empty page is always the end of the list.
    pub rows: Vec<T>,
    /// True if there may be more rows after the last one: the page has as many rows as the caller asked
    /// for, or [`PAGE_BYTES`] of text.
    pub more: bool,
}

/// A row that knows the size of its text.
pub trait Weigh {
    /// Returns the size of its text in bytes.
    fn text_bytes(&self) -> usize;
}

impl<T: Weigh> Page<T> {
    /// Takes rows until the page is full. Without a limit, only [`PAGE_BYTES`] bounds the page.
    ///
    /// # Errors
    /// The error of the first row that cannot be read.
    pub fn fill<E>(rows: impl IntoIterator<Item = Result<T, E>>, limit: Option<usize>) -> Result<Self, E> {
        let mut page = Self::default();
        let mut bytes = 0;
        for row in rows {
            let row = row?;
            bytes += row.text_bytes();
            page.rows.push(row);
            page.more = limit.is_some_and(|limit| page.rows.len() >= limit) || bytes >= PAGE_BYTES;
            if page.more {
                break;
            }
        }
        Ok(page)
    }

    /// Returns the size of the text on the page in bytes.
    pub fn text_bytes(&self) -> usize {
        self.rows.iter().map(T::text_bytes).sum()
    }
}

impl<T> Page<T> {
    /// Returns the row after which the list continues, or `None` if this page is the last.
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
        let texts = [&self.external_id, &self.name, &self.audio_url, &self.content_generated];
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
        let metadata = self.metadata.as_ref().map_or(0, |json| json.as_str().len());
        texts + self.status.as_str().len() + self.dimensions.heap_bytes() + metadata
    }
}
