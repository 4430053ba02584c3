//! The tables of the store, and how they came to be what they are.

/// See [`sql::Store::open`].
pub(crate) const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE execution (
    execution_id TEXT PRIMARY KEY,
    conversation_id TEXT NOT NULL,
    customer_key TEXT NOT NULL,
    workflow TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN
        ('PROPOSED', 'APPROVED', 'DISPATCHING', 'DONE', 'FAILED', 'UNKNOWN', 'CANCELLED')),
    progress TEXT NOT NULL,
    confidence REAL NOT NULL,
    threshold REAL NOT NULL,
    delivery TEXT,
    attempts INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    reference TEXT NOT NULL,
    error TEXT NOT NULL,
    confirmed_in TEXT NOT NULL,
    resolved_by TEXT NOT NULL,
    note TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    unclear INTEGER NOT NULL,
    change TEXT NOT NULL,
    lease INTEGER NOT NULL,
    notice INTEGER NOT NULL DEFAULT 0,
    day INTEGER
) STRICT;
CREATE UNIQUE INDEX one_open ON execution (conversation_id) WHERE state = 'PROPOSED';
CREATE INDEX by_conversation ON execution (conversation_id, created_at);
CREATE INDEX by_day ON execution (workflow, day, customer_key, state) WHERE day IS NOT NULL;
CREATE INDEX by_state ON execution (state, updated_at);
CREATE INDEX by_lease ON execution (lease) WHERE state IN ('APPROVED', 'DISPATCHING');
CREATE INDEX by_notice ON execution (updated_at) WHERE notice = 1;
CREATE TABLE turn (
    conversation_id TEXT NOT NULL,
    turn_id TEXT NOT NULL,
    execution_id TEXT NOT NULL REFERENCES execution ON DELETE CASCADE,
    reply TEXT NOT NULL,
    PRIMARY KEY (conversation_id, turn_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX by_execution ON turn (execution_id);
",
    // A state more: the list of them is a constraint, so that the tables are made again.
    "
CREATE TABLE new_execution (
    execution_id TEXT PRIMARY KEY,
    conversation_id TEXT NOT NULL,
    customer_key TEXT NOT NULL,
    workflow TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN
        ('PROPOSED', 'AWAITING_APPROVAL', 'APPROVED', 'DISPATCHING', 'DONE', 'FAILED', 'UNKNOWN', 'CANCELLED')),
    progress TEXT NOT NULL,
    confidence REAL NOT NULL,
    threshold REAL NOT NULL,
    delivery TEXT,
    attempts INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    reference TEXT NOT NULL,
    error TEXT NOT NULL,
    confirmed_in TEXT NOT NULL,
    resolved_by TEXT NOT NULL,
    note TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    unclear INTEGER NOT NULL,
    change TEXT NOT NULL,
    lease INTEGER NOT NULL,
    notice INTEGER NOT NULL DEFAULT 0,
    day INTEGER,
    approved_by TEXT NOT NULL DEFAULT '',
    approval_note TEXT NOT NULL DEFAULT ''
) STRICT;
INSERT INTO new_execution SELECT *, '', '' FROM execution;
CREATE TABLE new_turn (
    conversation_id TEXT NOT NULL,
    turn_id TEXT NOT NULL,
    execution_id TEXT NOT NULL REFERENCES new_execution ON DELETE CASCADE,
    reply TEXT NOT NULL,
    PRIMARY KEY (conversation_id, turn_id)
) STRICT, WITHOUT ROWID;
INSERT INTO new_turn SELECT * FROM turn;
DROP TABLE turn;
DROP TABLE execution;
ALTER TABLE new_execution RENAME TO execution;
ALTER TABLE new_turn RENAME TO turn;
CREATE UNIQUE INDEX one_open ON execution (conversation_id) WHERE state = 'PROPOSED';
CREATE INDEX by_conversation ON execution (conversation_id, created_at);
CREATE INDEX by_day ON execution (workflow, day, customer_key, state) WHERE day IS NOT NULL;
CREATE INDEX by_state ON execution (state, updated_at);
CREATE INDEX by_lease ON execution (lease) WHERE state IN ('APPROVED', 'DISPATCHING');
CREATE INDEX by_notice ON execution (updated_at) WHERE notice = 1;
CREATE INDEX by_execution ON turn (execution_id);
",
];

#[cfg(test)]
mod tests {
    use sql::{Source, Store, values};

    use super::*;

    #[tokio::test]
    async fn executions_and_answers_of_an_earlier_version_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let open = |migrations| Store::open(Source::File(dir.path().join("workflow.db")), migrations);
        let old = open(&MIGRATIONS[..1]).await.unwrap();
        let insert = "INSERT INTO execution VALUES ('e', 'c', 'k', 'w', 'DONE', '{}', 1, 0.5, NULL, 1, 3, 'R', '', 't', '', '', 1, 2, 0, '', 0, 1, 9)";
        old.write(move |connection| {
            connection.execute(insert, &[])?;
            connection.execute("INSERT INTO turn VALUES ('c', 't', 'e', '{}')", &[])
        })
        .await
        .unwrap();
        drop(old);
        let new = open(MIGRATIONS).await.unwrap();
        let query = "SELECT reference, day, approved_by FROM execution JOIN turn USING (execution_id) WHERE turn_id = 't'";
        let row = |row: &sql::Row<'_>| {
            Ok((row.get::<String, _>(0)?, row.get::<i64, _>(1)?, row.get::<String, _>(2)?))
        };
        let kept = new.read(move |connection| connection.first(query, &[], row)).await.unwrap();
        assert_eq!(kept, Some(("R".to_owned(), 9, String::new())));
        let gone = new.write(|connection| {
            connection.execute("UPDATE execution SET state = $1", values!["AWAITING_APPROVAL"])?;
            connection.execute("DELETE FROM execution", &[])?;
            connection.first("SELECT count(*) FROM turn", &[], |row| row.get::<i64, _>(0))
        });
        assert_eq!(gone.await.unwrap(), Some(0), "an answer goes with its execution");
    }
}
