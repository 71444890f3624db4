//! Values as they are stored. Other programs write to the tables too, and a column's type allows more than talktrack
//! writes. A reader shows such a value as it is and never fails because of it. Writing stays strict.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::json::{self, JsonArray, JsonObject};

/// A value of a column whose type allows more than `T`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored<T> {
    /// A value that talktrack writes.
    Known(T),
    /// Valid JSON of another type than `T`, such as an array in `metadata`.
    Json(Box<str>),
    /// Any other text: an unknown word, or text that is not JSON.
    Text(Box<str>),
    /// NULL in a column that talktrack never leaves null.
    Null,
}

impl<T> Stored<T> {
    /// Returns the value if it is one that talktrack writes.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the value if it is one that talktrack writes.
    pub fn into_known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            _ => None,
        }
    }

    /// Parses a word of the database. A word that `parse` does not know is kept as text.
    pub fn parse_word(word: Option<&str>, parse: impl Fn(&str) -> Option<T>) -> Self {
        let Some(word) = word else { return Self::Null };
        parse(word).map_or_else(|| Self::Text(word.into()), Self::Known)
    }

    /// Returns the value's text as the database holds it. Empty for NULL.
    pub fn as_str(&self) -> &str
    where
        T: AsWord,
    {
        match self {
            Self::Known(value) => value.as_word(),
            Self::Json(text) | Self::Text(text) => text,
            Self::Null => "",
        }
    }
}

impl<T: FromJson> Stored<T> {
    /// Parses the text of a JSON column.
    pub fn parse_json(text: &str) -> Self {
        if let Some(value) = T::from_json(text) {
            return Self::Known(value);
        }
        // A reader parses JSON recursively, so JSON that is nested too deeply is treated as text.
        let is_json = json::depth(text) <= json::MAX_DEPTH && serde_json::from_str::<&RawValue>(text).is_ok();
        if is_json && json::surrogates_are_paired(text) {
            Self::Json(json::in_one_line(text.trim()))
        } else {
            Self::Text(text.into())
        }
    }
}

impl Stored<JsonObject> {
    /// Returns the object, even if it has a number that talktrack would refuse. Returns `None` for any other value.
    pub fn as_object(&self) -> Option<JsonObject> {
        match self {
            Self::Known(object) => Some(object.clone()),
            Self::Json(text) => JsonObject::from_valid_json(text),
            Self::Text(_) | Self::Null => None,
        }
    }
}

/// A type that the database holds as a word.
pub trait AsWord {
    /// Returns the word in the database.
    fn as_word(&self) -> &str;
}

/// A type that is read from the text of a JSON column.
pub trait FromJson: Sized {
    /// Parses the text. Returns `None` if it is not JSON of this type.
    fn from_json(text: &str) -> Option<Self>;
}

impl FromJson for JsonObject {
    fn from_json(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }
}

impl FromJson for JsonArray {
    fn from_json(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }
}

impl AsWord for JsonObject {
    fn as_word(&self) -> &str {
        self.as_str()
    }
}

impl AsWord for JsonArray {
    fn as_word(&self) -> &str {
        self.as_str()
    }
}

impl<T> From<T> for Stored<T> {
    fn from(value: T) -> Self {
        Self::Known(value)
    }
}

impl<T: PartialEq> PartialEq<T> for Stored<T> {
    fn eq(&self, other: &T) -> bool {
        self.known() == Some(other)
    }
}

impl<T: AsWord> fmt::Display for Stored<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<T: Serialize> Serialize for Stored<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Known(value) => value.serialize(serializer),
            Self::Json(text) => {
                let raw: &RawValue = serde_json::from_str(text).map_err(serde::ser::Error::custom)?;
                raw.serialize(serializer)
            }
            Self::Text(text) => serializer.serialize_str(text),
            Self::Null => serializer.serialize_none(),
        }
    }
}

/// Reads what [`Serialize`] writes. Text of a JSON column that is not JSON cannot be told from a JSON string: both become
/// text.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Stored<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        if let Ok(value) = serde_json::from_str(raw.get()) {
            return Ok(Self::Known(value));
        }
        Ok(match serde_json::from_str::<Option<Box<str>>>(raw.get()) {
            Ok(Some(text)) => Self::Text(text),
            Ok(None) => Self::Null,
            Err(_) => Self::Json(raw.get().into()),
        })
    }
}

/// Serializes an optional number. JSON cannot express `NaN` and the infinities, so these become text in PostgreSQL's
/// spelling.
///
/// # Errors
/// The errors of the serializer.
pub fn serialize_number<S: Serializer>(number: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) if number.is_nan() => serializer.serialize_str("NaN"),
        Some(f64::INFINITY) => serializer.serialize_str("Infinity"),
        Some(f64::NEG_INFINITY) => serializer.serialize_str("-Infinity"),
        number => number.serialize(serializer),
    }
}

/// Reads what [`serialize_number`] writes.
///
/// # Errors
/// If the value is neither a number, nor null, nor one of the words that [`serialize_number`] writes.
pub fn deserialize_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(f64),
        Word(Box<str>),
    }
    let word = |word: &str| word.parse().map_err(|_| serde::de::Error::custom("must be a number"));
    match Option::deserialize(deserializer)? {
        None => Ok(None),
        Some(Written::Number(number)) => Ok(Some(number)),
        Some(Written::Word(text)) => word(&text).map(Some),
    }
}

/// The microseconds from 1970 to 2000, the year from which PostgreSQL counts.
const EPOCH_2000: i64 = 946_684_800_000_000;

/// A time in a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredTime {
    /// A time in the years 0000 to 9999, in talktrack's spelling.
    Known(Timestamp),
    /// A time that only PostgreSQL can express: microseconds since 2000, with `i64::MIN` and `i64::MAX` for `-infinity`
    /// and `infinity`.
    Far(i64),
    /// Text in a SQLite column that is not a time, or a time in another spelling.
    Text(Box<str>),
    /// NULL in a column that talktrack never leaves null.
    Null,
}

impl StoredTime {
    /// Creates a time from PostgreSQL's microseconds since 2000.
    pub fn from_micros_since_2000(micros: i64) -> Self {
        let known = micros.checked_add(EPOCH_2000).and_then(Timestamp::from_micros);
        known.map_or(Self::Far(micros), Self::Known)
    }

    /// Creates a time from the text of a SQLite column.
    pub fn from_text(text: &str) -> Self {
        let is_ours = text.len() == 27 && text.ends_with('Z') && text.as_bytes()[19] == b'.';
        let known = if is_ours { text.parse().ok() } else { None };
        known.map_or_else(|| Self::Text(text.into()), Self::Known)
    }

    /// Returns the time if it is in the years 0000 to 9999.
    pub fn known(&self) -> Option<Timestamp> {
        match self {
            Self::Known(moment) => Some(*moment),
            Self::Text(text) => text.parse().ok(),
            Self::Far(_) | Self::Null => None,
        }
    }

    /// Returns the place of a row with this time in a list.
    pub fn key(&self) -> TimeKey {
        match self {
            Self::Known(moment) => (*moment).into(),
            Self::Far(micros) => TimeKey::At(*micros),
            Self::Text(_) | Self::Null => TimeKey::OfRow,
        }
    }
}

/// Orders by time, then by text.
impl Ord for StoredTime {
    fn cmp(&self, other: &Self) -> Ordering {
        let text = |time: &Self| if let Self::Text(text) = time { Some(text.clone()) } else { None };
        self.key().cmp(&other.key()).then_with(|| text(self).cmp(&text(other)))
    }
}

impl PartialOrd for StoredTime {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<Timestamp> for StoredTime {
    fn from(moment: Timestamp) -> Self {
        Self::Known(moment)
    }
}

impl PartialEq<Timestamp> for StoredTime {
    fn eq(&self, other: &Timestamp) -> bool {
        self.known() == Some(*other)
    }
}

/// Displays RFC 3339, or PostgreSQL's spelling for years outside its range.
impl fmt::Display for StoredTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(moment) => moment.fmt(f),
            Self::Far(i64::MAX) => f.write_str("infinity"),
            Self::Far(i64::MIN) => f.write_str("-infinity"),
            Self::Far(micros) => write_far(*micros, f),
            Self::Text(text) => f.write_str(text),
            Self::Null => Ok(()),
        }
    }
}

impl Serialize for StoredTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for StoredTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(text.map_or(Self::Null, |text| Self::from_text(&text)))
    }
}

/// Writes a time of any year, in UTC.
fn write_far(micros_since_2000: i64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const DAY: i64 = 86_400_000_000;
    let days = micros_since_2000.div_euclid(DAY);
    let micros = micros_since_2000.rem_euclid(DAY);
    // Days since 0000-03-01. In years that start on that day, the leap day comes last (Hinnant, "chrono-Compatible
    // Low-Level Date Algorithms").
    let days = days + 730_425;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let seconds = micros / 1_000_000;
    let fraction = micros % 1_000_000;
    let hour = seconds / 3_600;
    let minute = seconds / 60 % 60;
    let second = seconds % 60;
    let (shown, suffix) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    write!(f, "{shown:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{fraction:06}+00{suffix}")
}

/// The place of a row in a list that is ordered by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimeKey {
    /// At this time: microseconds since 2000, with `i64::MIN` and `i64::MAX` for the infinities.
    At(i64),
    /// At the row with the cursor's id, because its time is NULL, or text that a cursor cannot carry.
    OfRow,
}

impl TimeKey {
    /// Returns the time if it is in the years 0000 to 9999.
    pub fn known(self) -> Option<Timestamp> {
        match self {
            Self::At(micros) => StoredTime::from_micros_since_2000(micros).known(),
            Self::OfRow => None,
        }
    }
}

impl From<Timestamp> for TimeKey {
    fn from(moment: Timestamp) -> Self {
        Self::At(moment.as_micros() - EPOCH_2000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_any_year_are_spelled_as_postgresql_does() {
        let far = |micros| StoredTime::from_micros_since_2000(micros).to_string();
        assert_eq!(far(0), "2000-01-01T00:00:00.000000Z");
        assert_eq!(far(i64::MAX), "infinity");
        assert_eq!(far(i64::MIN), "-infinity");
        // SELECT extract(epoch FROM t - '2000-01-01')::numeric * 1000000 of these times in PostgreSQL 15.
        assert_eq!(far(9_223_371_331_199_999_999), "294276-12-31 23:59:59.999999+00");
        assert_eq!(far(-64_464_508_799_000_000), "0044-03-15 00:00:01.000000+00 BC");
        assert_eq!(far(252_455_616_000_000_000), "10000-01-01 00:00:00.000000+00");
        assert_eq!(far(-211_813_488_000_000_000), "4714-11-24 00:00:00.000000+00 BC");
    }

    #[test]
    fn json_of_another_type_stays_json_and_other_text_stays_text() {
        let shown = |text: &str| serde_json::to_string(&Stored::<JsonObject>::parse_json(text)).unwrap();
        assert_eq!(shown(r#"{"a": 1}"#), r#"{"a": 1}"#);
        assert_eq!(shown("[1, 2]"), "[1, 2]");
        assert_eq!(shown("\"x\""), "\"x\"");
        assert_eq!(shown("null"), "null");
        assert_eq!(shown("{"), "\"{\"");
        assert_eq!(shown("[\n1]"), "[ 1]");
        let deep = "[".repeat(5_000) + &"]".repeat(5_000);
        assert_eq!(shown(&deep), format!("\"{deep}\""));
        assert_eq!(shown(r#"["\ud800"]"#), r#""[\"\\ud800\"]""#);
    }
}
