//! Statements with their parameters. Each is sent as one unnamed statement with the types of its
//! parameters: it takes one round trip, and is safe behind a pooler that uses another connection for every
//! transaction.

use jiff::Timestamp as Moment;
use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::ids::UserId;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row, RowStream};
use uuid::Uuid;

/// A statement and its parameters.
pub(super) struct Statement<'a> {
    sql: &'static str,
    values: Vec<(Box<dyn ToSql + Sync + Send + 'a>, Type)>,
}

impl<'a> Statement<'a> {
    pub(super) fn new(sql: &'static str) -> Self {
        Self { sql, values: Vec::new() }
    }

    pub(super) fn with(mut self, value: impl ToSql + Sync + Send + 'a, of: Type) -> Self {
        self.values.push((Box::new(value), of));
        self
    }

    pub(super) fn uuid(self, value: impl Into<Uuid>) -> Self {
        self.with(value.into(), Type::UUID)
    }

    pub(super) fn uuid_or_null(self, value: Option<impl Into<Uuid>>) -> Self {
        self.with(value.map(Into::into), Type::UUID)
    }

    pub(super) fn uuids(self, values: impl Iterator<Item: Into<Uuid>>) -> Self {
        self.with(values.map(Into::into).collect::<Vec<_>>(), Type::UUID_ARRAY)
    }

    pub(super) fn uuids_or_null(self, values: impl Iterator<Item = Option<impl Into<Uuid>>>) -> Self {
        self.with(values.map(|value| value.map(Into::into)).collect::<Vec<_>>(), Type::UUID_ARRAY)
    }

    pub(super) fn seqs(self, values: impl Iterator<Item = Seq>) -> Self {
        self.with(values.map(Seq::get).collect::<Vec<_>>(), Type::INT8_ARRAY)
    }

    pub(super) fn moments(self, values: impl Iterator<Item = Timestamp>) -> Self {
        self.with(values.map(moment).collect::<Vec<_>>(), Type::TIMESTAMPTZ_ARRAY)
    }

    pub(super) fn texts(self, values: impl Iterator<Item = &'a str>) -> Self {
        self.with(values.collect::<Vec<_>>(), Type::TEXT_ARRAY)
    }

    pub(super) fn texts_or_null(self, values: impl Iterator<Item = Option<&'a str>>) -> Self {
        self.with(values.collect::<Vec<_>>(), Type::TEXT_ARRAY)
    }

    /// Adds the user's own id, if there is a user and the id is not a UUID.
    pub(super) fn user_text(self, user: Option<&UserId>) -> Self {
        self.with(user.and_then(UserId::text).map(str::to_owned), Type::TEXT)
    }

    /// Adds the users' own ids, each null if there is no user or the id is a UUID.
    pub(super) fn user_texts<'u>(self, users: impl Iterator<Item = Option<&'u UserId>>) -> Self {
        let texts = users.map(|user| user.and_then(UserId::text).map(str::to_owned));
        self.with(texts.collect::<Vec<_>>(), Type::TEXT_ARRAY)
    }

    /// Runs the statement, and streams its rows.
    pub(super) async fn stream(&self, client: &Client) -> Result<RowStream, Error> {
        client.query_typed_raw(self.sql, self.values()).await
    }

    /// Runs the statement, and returns all rows.
    pub(super) async fn query(&self, client: &Client) -> Result<Vec<Row>, Error> {
        client.query_typed(self.sql, &self.values()).await
    }

    fn values(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.values.iter().map(|(value, of)| (&**value as &(dyn ToSql + Sync), of.clone())).collect()
    }
}

/// Returns the id in a column.
pub(super) fn read_id<T: From<Uuid>>(row: &Row, column: usize) -> Result<T, Error> {
    row.try_get::<_, Uuid>(column).map(T::from)
}

/// Returns the ids in a column that holds an array.
pub(super) fn read_ids<T: From<Uuid>>(row: &Row, column: usize) -> Result<Vec<T>, Error> {
    Ok(row.try_get::<_, Vec<Uuid>>(column)?.into_iter().map(T::from).collect())
}

/// Converts a moment to the driver's type. Every [`Timestamp`] is within that type's range.
pub(super) fn moment(at: Timestamp) -> Moment {
    Moment::from_microsecond(at.as_micros()).unwrap_or(Moment::UNIX_EPOCH)
}
