//! What the projections into derived files have in common: the file is opened when it is first needed, and again after
//! an error; a file that may be damaged is rebuilt.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::local::database;
use crate::store::{ErrorClass, Projection, Step, StoreError};

/// A projection into a derived file, opened with the database that it follows.
pub(super) trait DerivedProjection: Send + Sized {
    /// The derived file.
    type File;

    /// Returns the path of the derived file of this database.
    fn path_of(database: &Path) -> PathBuf;

    /// Opens the derived file, or creates it.
    fn open_file(path: &Path) -> rusqlite::Result<Self::File>;

    /// Replaces the derived file with an empty one.
    fn recreate_file(path: &Path) -> rusqlite::Result<Self::File>;

    /// Opens the database, and continues where the derived file ends. Starts from the beginning if the file is empty.
    fn open(database: &Path, file: Self::File) -> rusqlite::Result<Self>;

    /// Makes one step.
    fn step(&mut self) -> rusqlite::Result<Step>;
}

/// Runs a [`DerivedProjection`] of the SQLite file.
pub(super) struct FileProjection<P> {
    database: PathBuf,
    /// `None` before the first step, and after an error.
    open: Option<P>,
}

impl<P: DerivedProjection> FileProjection<P> {
    pub(super) fn new(database: &Path) -> Self {
        Self { database: database.to_owned(), open: None }
    }

    fn try_step(&mut self) -> rusqlite::Result<Step> {
        let path = P::path_of(&self.database);
        let is_suspect = database::is_suspect(&path);
        let open = match self.open.take() {
            Some(open) if !is_suspect => open,
            _ => P::open(&self.database, open_or_recreate::<P>(&path, is_suspect)?)?,
        };
        self.open.insert(open).step()
    }
}

/// Opens the derived file, or an empty one if it may be damaged.
fn open_or_recreate<P: DerivedProjection>(path: &Path, is_suspect: bool) -> rusqlite::Result<P::File> {
    if is_suspect {
        return P::recreate_file(path);
    }
    match P::open_file(path) {
        Err(error) if database::is_damage(&error) => P::recreate_file(path),
        file => file,
    }
}

#[async_trait]
impl<P: DerivedProjection> Projection for FileProjection<P> {
    async fn step(&mut self) -> Result<Step, StoreError> {
        self.try_step().map_err(|error| {
            self.open = None;
            if database::is_damage(&error) {
                database::mark_suspect(&P::path_of(&self.database), &error.to_string());
            }
            StoreError::new(ErrorClass::Systemic, error.to_string())
        })
    }
}
