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

/// The migrations that follow version `found`; `None` when no list of migrations leads there.
pub(crate) fn after(migrations: &'static [&'static str], found: i64) -> Option<&'static [&'static str]> {
    migrations.get(usize::try_from(found).ok()?..)
}
