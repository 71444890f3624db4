//! Odd values for every column, as SQL that clones a good row with one of these values in it.

use proptest::collection::vec;
use proptest::num::f64::ANY;
use proptest::prelude::{Just, any};
use proptest::strategy::Strategy;

/// The table that a clone is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Sessions,
    Messages,
}

/// A clone of a row with one odd value, as the statement for each store. `None` if the value is not for this store.
#[derive(Clone)]
pub(crate) struct Odd {
    pub(crate) in_sqlite: Option<String>,
    pub(crate) in_postgres: Option<String>,
}

/// Prints no values: there are a thousand, and the seed draws them again.
impl std::fmt::Debug for Odd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("odd")
    }
}

/// The kind of value that a column holds.
#[derive(Debug, Clone, Copy)]
enum Holds {
    Id,
    Time,
    Number,
    Count,
    Flag,
    Json,
    Text,
}

const SESSIONS: [(&str, Holds); 13] = [
    ("id", Holds::Id),
    ("session_id", Holds::Id),
    ("user_id", Holds::Id),
    ("started_at", Holds::Time),
    ("ended_at", Holds::Time),
    ("duration_seconds", Holds::Number),
    ("metadata", Holds::Json),
    ("created_at", Holds::Time),
    ("external_id", Holds::Text),
    ("status", Holds::Text),
    ("end_reason", Holds::Text),
    ("message_count", Holds::Count),
    ("last_event_at", Holds::Time),
];

const MESSAGES: [(&str, Holds); 16] = [
    ("id", Holds::Id),
    ("session_id", Holds::Id),
    ("user_id", Holds::Id),
    ("role", Holds::Text),
    ("content", Holds::Text),
    ("audio_url", Holds::Text),
    ("metadata", Holds::Json),
    ("created_at", Holds::Time),
    ("seq", Holds::Count),
    ("external_id", Holds::Text),
    ("kind", Holds::Text),
    ("revision", Holds::Count),
    ("interrupted", Holds::Flag),
    ("content_generated", Holds::Text),
    ("parts", Holds::Json),
    ("metrics", Holds::Json),
];

/// Turns the schema into one that a user has made by hand: no checks, no references, and every column
/// except the key may be null.
pub(crate) const NO_CONSTRAINTS: &str = "
DO $$ DECLARE it record; BEGIN
  FOR it IN SELECT conrelid::regclass AS t, conname AS c FROM pg_constraint WHERE contype IN ('c', 'f')
    AND conrelid IN ('conversation_sessions'::regclass, 'conversation_messages'::regclass) LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', it.t, it.c);
  END LOOP;
  FOR it IN SELECT attrelid::regclass AS t, attname AS c FROM pg_attribute WHERE attnotnull AND attnum > 0
    AND NOT attisdropped AND attname <> 'id'
    AND attrelid IN ('conversation_sessions'::regclass, 'conversation_messages'::regclass) LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', it.t, it.c);
  END LOOP;
END $$";

impl Table {
    /// Returns the query of the ids of its rows. For messages, only of those whose session exists.
    pub(crate) fn ids(self) -> String {
        match self {
            Self::Sessions => "SELECT session_id FROM conversation_sessions".to_owned(),
            Self::Messages => "SELECT id FROM conversation_messages WHERE session_id IN \
                               (SELECT session_id FROM conversation_sessions)"
                .to_owned(),
        }
    }

    fn clone_with(self, number: usize, odd: &str, value: &str) -> String {
        let (table, columns, key) = match self {
            Self::Sessions => ("conversation_sessions", &SESSIONS[..], "session_id"),
            Self::Messages => ("conversation_messages", &MESSAGES[..], "session_id"),
        };
        let fresh = format!("'00000000-0000-4000-8000-{number:012x}'");
        let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
        let values = columns.iter().map(|(name, _)| match *name {
            name if name == odd => value,
            "id" => &fresh,
            "session_id" if self == Self::Sessions => &fresh,
            name => name,
        });
        let values: Vec<_> = values.collect();
        format!(
            "INSERT INTO {table} ({}) SELECT {} FROM {table} WHERE {key} = '00000000-0000-0000-0000-0000000000a1' \
             ORDER BY id LIMIT 1",
            names.join(", "),
            values.join(", ")
        )
    }
}

/// The random values, which every column gets.
#[derive(Debug, Clone)]
struct Drawn {
    texts: Vec<String>,
    numbers: Vec<i64>,
    reals: Vec<f64>,
    bytes: Vec<Vec<u8>>,
}

/// Draws odd values for every column of both tables. A failure is reported without shrinking, which would take hours.
pub(crate) fn every_odd() -> impl Strategy<Value = Vec<Odd>> {
    let texts = vec("[^\\x00]{0,12}", 3);
    let drawn = (texts, vec(any::<i64>(), 3), vec(ANY, 3), vec(vec(any::<u8>(), 0..9), 2));
    let all = drawn.prop_map(|(texts, numbers, reals, bytes)| all(&Drawn { texts, numbers, reals, bytes }));
    all.prop_flat_map(Just).no_shrink()
}

fn all(drawn: &Drawn) -> Vec<Odd> {
    let mut odd = Vec::new();
    let mut number = 0x1000;
    for (table, columns) in [(Table::Sessions, &SESSIONS[..]), (Table::Messages, &MESSAGES[..])] {
        for (column, holds) in columns {
            // Messages without a session are not covered here, because they belong to no user.
            let is_key = *column == "session_id" && table == Table::Messages;
            let (sqlite, postgres) = if is_key { Default::default() } else { holds.values(drawn) };
            for value in sqlite {
                number += 1;
                let sql = table.clone_with(number, column, &value);
                odd.push(Odd { in_sqlite: Some(sql), in_postgres: None });
            }
            for value in postgres {
                number += 1;
                let sql = table.clone_with(number, column, &value);
                odd.push(Odd { in_sqlite: None, in_postgres: Some(sql) });
            }
        }
    }
    odd
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl Holds {
    /// Returns the values for SQLite, whose column types are only a hint, and for PostgreSQL.
    fn values(self, drawn: &Drawn) -> (Vec<String>, Vec<String>) {
        let known = self.fixed();
        let texts = drawn.texts.iter().map(|text| quoted(text));
        let blobs = drawn.bytes.iter().map(|bytes| {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("x'{hex}'")
        });
        let numbers = drawn.numbers.iter().map(i64::to_string);
        let any = known
            .iter()
            .map(|text| (*text).to_owned())
            .chain(texts.clone())
            .chain(blobs)
            .chain(numbers.clone());
        let sqlite = any.chain(["NULL".into(), "x'ff00'".into(), "1.5e300".into(), "9e999".into()]).collect();
        let of_type = match self {
            Self::Time => drawn
                .numbers
                .iter()
                .map(|micros| {
                    format!("'2000-01-01Z'::timestamptz + '{} microseconds'::interval", micros / 100)
                })
                .collect::<Vec<_>>(),
            Self::Number => drawn.reals.iter().map(|real| quoted(&real.to_string())).collect(),
            Self::Count => numbers.collect(),
            Self::Text => texts.collect(),
            Self::Json => texts.map(|text| format!("to_jsonb({text}::text)")).collect(),
            Self::Id | Self::Flag => Vec::new(),
        };
        let known = known.iter().map(|text| (*text).to_owned());
        (sqlite, known.chain(of_type).chain(["NULL".into()]).collect())
    }

    fn fixed(self) -> &'static [&'static str] {
        match self {
            Self::Id => &[
                "'00000000-0000-0000-0000-000000000000'",
                "'FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF'",
                "'ABCDEF00-0000-4000-8000-0000000000AB'",
            ],
            Self::Time => &[
                "'infinity'",
                "'-infinity'",
                "'4714-11-24 00:00:00+00 BC'",
                "'0044-03-15 12:00:00+00 BC'",
                "'0001-01-01 00:00:00+00'",
                "'1969-12-31 23:59:59+00'",
                "'1970-01-01 00:00:00+00'",
                "'2019-05-05T05:05:05Z'",
                "'2019-05-05T05:05:05.000000Z'",
                "'9999-12-31T23:59:59.999999Z'",
                "'10000-01-01 00:00:00+00'",
                "'294276-12-31 23:59:59.999999+00'",
                "'yesterday'",
                "''",
            ],
            Self::Number => &["'NaN'", "'Infinity'", "'-Infinity'", "-1", "1e308", "'5e-324'"],
            Self::Count => {
                &["-1", "9223372036854775807", "-9223372036854775808", "2147483647", "-2147483648"]
            }
            Self::Flag => &["true", "false", "7"],
            Self::Json => &[
                "'[1, 2]'",
                "'\"text\"'",
                "'null'",
                "'true'",
                "'1e400'",
                "'{\"e2e_ms\": \"fast\", \"audio_start_ms\": 1e300, \"audio_end_ms\": [], \"audio_url\": 7}'",
                "'[{\"type\": 1, \"name\": {}, \"arguments\": null}, 7, \"x\"]'",
                "'{'",
                "'{\"a\": \"\\ud800\"}'",
                "('[' || replace(hex(zeroblob(200)), '00', '[') || replace(hex(zeroblob(200)), '00', ']') || ']')",
                "(repeat('[', 200) || repeat(']', 200))::jsonb",
            ],
            Self::Text => &[
                "'hacked'",
                "'completed'",
                "'Ended'",
                "'evil'",
                "'agent'",
                "''",
                "'a\u{202e}b\u{7}c\nd'",
                "'<script>alert(1)</script>'",
            ],
        }
    }
}
