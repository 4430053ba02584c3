//! What people at the desk write for each other, and who gives a handoff to whom.

use proto::Note;
use sql::{Connection, Result, values};

use crate::handoff::timestamp;
use crate::store::Journal;

/// Notes; see [`MIGRATIONS`](crate::store::MIGRATIONS). They are no utterances: what reads those, a model or the
/// customer, does not meet them.
pub(crate) const TABLES: &str = "
CREATE TABLE note (
    note_id TEXT PRIMARY KEY, handoff_id TEXT NOT NULL, author TEXT NOT NULL, text TEXT NOT NULL,
    created_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX note_of ON note (handoff_id, created_at);
";

impl Journal {
    /// Keeps a note for people; `false` once the handoff has ended.
    pub(crate) async fn note(&self, handoff_id: String, author: String, text: String) -> Result<bool> {
        let note_id = id();
        let write = move |connection: &mut Connection<'_>| {
            if !hold_open(connection, &handoff_id)? {
                return Ok(false);
            }
            insert(connection, &note_id, &handoff_id, &author, &text).map(|()| true)
        };
        self.sql.write(write).await
    }

    /// Gives a handoff to somebody, whoever has it, and notes who did; `false` once it has ended.
    pub(crate) async fn assign(&self, handoff_id: String, assignee: String, actor: String) -> Result<bool> {
        let note_id = id();
        let text = format!("assigned to {assignee}");
        let write = move |connection: &mut Connection<'_>| {
            if !hold_open(connection, &handoff_id)? {
                return Ok(false);
            }
            let update = "UPDATE handoff SET state = 2, assignee = $1 WHERE handoff_id = $2";
            connection.execute(update, values![&assignee, &handoff_id])?;
            insert(connection, &note_id, &handoff_id, &actor, &text).map(|()| true)
        };
        self.sql.write(write).await
    }
}

/// The notes of a handoff, oldest first.
pub(crate) fn notes(connection: &mut Connection<'_>, handoff_id: &str) -> Result<Vec<Note>> {
    let query =
        "SELECT author, text, created_at FROM note WHERE handoff_id = $1 ORDER BY created_at, note_id";
    connection.query(query, values![handoff_id], |row| {
        Ok(Note { author: row.get(0)?, text: row.get(1)?, created_at: Some(timestamp(row.get(2)?)) })
    })
}

/// Masks the notes of a handoff that ends.
pub(crate) fn mask(connection: &mut Connection<'_>, handoff_id: &str) -> Result<()> {
    let query = "SELECT note_id, text FROM note WHERE handoff_id = $1";
    let written = connection
        .query(query, values![handoff_id], |row| Ok((row.get::<String, _>(0)?, row.get::<String, _>(1)?)))?;
    for (note_id, text) in written {
        let update = "UPDATE note SET text = $1 WHERE note_id = $2";
        connection.execute(update, values![&personal::mask(&text), &note_id])?;
    }
    Ok(())
}

fn id() -> String {
    format!("n_{}", uuid::Uuid::now_v7().simple())
}

/// Keeps an open handoff from ending meanwhile; `false` when it has ended, or there is none.
pub(crate) fn hold_open(connection: &mut Connection<'_>, handoff_id: &str) -> Result<bool> {
    let query = "SELECT conversation_id FROM handoff WHERE handoff_id = $1 AND state <> 3";
    let find = |connection: &mut Connection<'_>| {
        connection.first(query, values![handoff_id], |row| row.get::<String, _>(0))
    };
    let Some(conversation_id) = find(connection)? else { return Ok(false) };
    connection.lock(&conversation_id)?;
    Ok(find(connection)?.is_some())
}

fn insert(
    connection: &mut Connection<'_>,
    note_id: &str,
    handoff_id: &str,
    author: &str,
    text: &str,
) -> Result<()> {
    let now = connection.now()?;
    let insert =
        "INSERT INTO note (note_id, handoff_id, author, text, created_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT DO NOTHING";
    connection.execute(insert, values![note_id, handoff_id, author, text, now]).map(|_| ())
}
