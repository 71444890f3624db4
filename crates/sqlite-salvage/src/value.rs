//! The values of columns, and the encodings of text.

/// The value of a column, with the bytes that the file has.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `NULL`. A column that is declared as `INTEGER PRIMARY KEY` is always `Null`: its value is the rowid.
    Null,
    /// An integer. SQLite also stores a whole number of a `REAL` column like this.
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// Text in the encoding of the database ([`Database::encoding`](crate::Database::encoding)). Damage may have made
    /// the bytes invalid.
    Text(Vec<u8>),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Value {
    /// Returns the text of a UTF-8 database, if the value is text and valid UTF-8. For other databases, call
    /// [`Encoding::decode`].
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }
}

/// The encoding of all text in a database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8, which nearly every database has.
    #[default]
    Utf8,
    /// UTF-16, little-endian.
    Utf16Le,
    /// UTF-16, big-endian.
    Utf16Be,
}

impl Encoding {
    /// Decodes the bytes of a [`Value::Text`]. Returns `None` if they are not valid in this encoding.
    pub fn decode(self, text: &[u8]) -> Option<String> {
        let from_units = |unit: fn([u8; 2]) -> u16| {
            let units = text.chunks_exact(2);
            let is_whole = units.remainder().is_empty();
            let decoded =
                char::decode_utf16(units.map(|pair| unit([pair[0], pair[1]]))).collect::<Result<_, _>>();
            decoded.ok().filter(|_| is_whole)
        };
        match self {
            Self::Utf8 => std::str::from_utf8(text).ok().map(str::to_owned),
            Self::Utf16Le => from_units(u16::from_le_bytes),
            Self::Utf16Be => from_units(u16::from_be_bytes),
        }
    }
}
