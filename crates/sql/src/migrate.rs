//! Schemas, written once in SQLite's words.
//!
//! The words used are `INTEGER`, `REAL`, `TEXT`, `BLOB`, `INTEGER PRIMARY KEY` for a number that the database gives,
//! and `STRICT`, `WITHOUT ROWID` behind a table. PostgreSQL gets its own for them.

/// What a schema says, and how PostgreSQL says it; the longer ones first.
const WORDS: [(&str, &str); 9] = [
    ("INTEGER PRIMARY KEY AUTOINCREMENT", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
    ("INTEGER PRIMARY KEY", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
    (") STRICT, WITHOUT ROWID", ")"),
    (") WITHOUT ROWID", ")"),
    (") STRICT", ")"),
    ("INTEGER", "BIGINT"),
    ("REAL", "DOUBLE PRECISION"),
    // Bytewise, as SQLite compares.
    ("TEXT", "TEXT COLLATE \"C\""),
    ("BLOB", "BYTEA"),
];

/// A migration in PostgreSQL's words.
pub(crate) fn for_postgres(script: &str) -> String {
    WORDS.iter().fold(script.to_owned(), |script, (sqlite, postgres)| script.replace(sqlite, postgres))
}

/// What a migration begins with that earlier versions of the program cannot work with: one that takes away or changes the
/// meaning of what they use. The others only add, new columns with a default.
const BREAKING: &str = "-- breaking";

/// The fewest migrations that a version of the program may know that works with tables of all these.
pub(crate) fn least(migrations: &'static [&'static str]) -> usize {
    migrations.iter().rposition(|script| script.trim_start().starts_with(BREAKING)).map_or(0, |last| last + 1)
}

/// The migrations that follow version `found`; `None` when no list of migrations leads there.
pub(crate) fn after(migrations: &'static [&'static str], found: i64) -> Option<&'static [&'static str]> {
    migrations.get(usize::try_from(found).ok()?..)
}
