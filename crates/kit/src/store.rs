//! The embedded store: SQLite in WAL mode, one writer with group commit, one process.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

/// Writes that share one commit at most.
const GROUP: usize = 256;
const QUEUE: usize = 1024;
const READERS: u32 = 4;

/// Why a store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The database refused.
    #[error("the store failed")]
    Database(#[source] Arc<sqlx::Error>),
    /// The file is held by another process.
    #[error("{0} is in use by another process; stop it or choose another server.data_dir")]
    InUse(String),
    /// The file was written with another schema.
    #[error(
        "{0} was written by another version of Firstline; choose another server.data_dir, or move it away"
    )]
    Schema(String),
    /// The file cannot be opened.
    #[error("cannot open {0}")]
    Open(String, #[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

/// Runs one write inside the group's transaction and returns what answers its caller after the commit.
/// Without a transaction nothing runs.
type Write = Box<dyn for<'c> FnOnce(Result<Turn<'c>, Error>) -> BoxFuture<'c, Answer> + Send>;
type Answer = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// A write's turn on the connection.
struct Turn<'c> {
    connection: &'c mut SqliteConnection,
    /// Whether other writes share the transaction, so that a failing one needs a savepoint to be undone to.
    shared: bool,
}

/// A store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    readers: SqlitePool,
    writes: mpsc::Sender<Write>,
}

impl Store {
    /// Opens or creates the file and applies the schema, a script of idempotent statements.
    ///
    /// # Errors
    /// The file is held by another process, is damaged, or cannot be written.
    pub async fn open(path: &Path, schema: &'static str) -> Result<Self, Error> {
        let lock = lock(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true);
        let open = |error| Error::Open(path.display().to_string(), Arc::new(error));
        let mut writer = SqliteConnection::connect_with(&options).await.map_err(|e: sqlx::Error| open(e))?;
        let check: String =
            sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut writer).await.map_err(open)?;
        if check != "ok" {
            return Err(open(sqlx::Error::Protocol(format!("integrity check: {check}"))));
        }
        let version = i64::from(schema_version(schema));
        let found: i64 =
            sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut writer).await.map_err(open)?;
        if found != 0 && found != version {
            return Err(Error::Schema(path.display().to_string()));
        }
        writer.execute(sqlx::raw_sql(schema)).await.map_err(open)?;
        let mark = format!("PRAGMA user_version = {version}");
        writer.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(mark))).await.map_err(open)?;
        let readers = SqlitePoolOptions::new().max_connections(READERS).connect_with(options.read_only(true));
        let readers = readers.await.map_err(open)?;
        let (writes, queue) = mpsc::channel(QUEUE);
        #[expect(clippy::disallowed_methods, reason = "ends by itself when the last handle is dropped")]
        tokio::spawn(write_groups(writer, queue, lock));
        Ok(Self { readers, writes })
    }

    /// Connections that only read.
    pub fn reader(&self) -> &SqlitePool {
        &self.readers
    }

    /// Queues a write and waits until it is on disk. Writes that arrive together share one commit;
    /// a write that fails is undone alone. The write happens also when the caller stops waiting.
    ///
    /// # Errors
    /// The write's own error, or the commit's.
    pub async fn write<T, F>(&self, write: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Write = Box::new(move |turn| {
            Box::pin(async move {
                let result = match turn {
                    Ok(turn) => undoable(turn, write).await.map_err(Error::from),
                    Err(error) => Err(error),
                };
                let answer: Answer = Box::new(move |commit| {
                    let _ = answer.send(result.and_then(|value| commit.map(|()| value)));
                });
                answer
            })
        });
        self.writes.send(job).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }
}

/// A number that changes with the schema (FNV-1a), never 0, which SQLite gives to a new file.
fn schema_version(schema: &str) -> i32 {
    let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    (schema.bytes().fold(0x811c_9dc5, fold) >> 1 | 1) as i32
}

/// An exclusive lock beside the database, held by the writer task, freed by the system with the process.
fn lock(path: &Path) -> Result<File, Error> {
    let name = path.with_extension("lock");
    let open = |error: std::io::Error| Error::Open(name.display().to_string(), Arc::new(error));
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(open)?;
    }
    let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(open)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::InUse(path.display().to_string())),
        Err(std::fs::TryLockError::Error(error)) => Err(open(error)),
    }
}

/// Runs a write; when it fails nothing of it stays.
async fn undoable<T, F>(turn: Turn<'_>, write: F) -> Result<T, sqlx::Error>
where
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send,
{
    let Turn { connection, shared } = turn;
    if shared {
        connection.execute("SAVEPOINT job").await?;
    }
    let result = write(connection).await;
    match (&result, shared) {
        (Ok(_), true) => connection.execute("RELEASE job").await?,
        (Err(_), true) => connection.execute("ROLLBACK TO job; RELEASE job").await?,
        (Err(_), false) => connection.execute("ROLLBACK; BEGIN IMMEDIATE").await?,
        (Ok(_), false) => return result,
    };
    result
}

async fn write_groups(mut connection: SqliteConnection, mut queue: mpsc::Receiver<Write>, lock: File) {
    let mut group = Vec::with_capacity(GROUP);
    while queue.recv_many(&mut group, GROUP).await > 0 {
        let begun = connection.execute("BEGIN IMMEDIATE").await.map(|_| ()).map_err(Error::from);
        let shared = group.len() > 1;
        let mut answers = Vec::with_capacity(group.len());
        for write in group.drain(..) {
            let turn = begun.clone().map(|()| Turn { connection: &mut connection, shared });
            answers.push(write(turn).await);
        }
        let committed = match begun {
            Ok(()) => connection.execute("COMMIT").await.map(|_| ()).map_err(Error::from),
            Err(error) => Err(error),
        };
        if committed.is_err() {
            let _ = connection.execute("ROLLBACK").await;
        }
        for answer in answers {
            answer(committed.clone());
        }
    }
    let _ = connection.close().await;
    drop(lock);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, v TEXT)";

    async fn insert(store: &Store, id: i64) -> Result<(), Error> {
        store
            .write(move |connection| {
                Box::pin(async move {
                    sqlx::query("INSERT INTO t VALUES (?, 'x')").bind(id).execute(connection).await?;
                    Ok(())
                })
            })
            .await
    }

    #[tokio::test]
    async fn a_failing_write_is_undone_alone_and_the_rest_of_its_group_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.db");
        let store = Store::open(&path, SCHEMA).await.unwrap();
        let writes = futures::future::join_all((0..100).map(|i| insert(&store, i % 50))).await;
        assert_eq!(writes.iter().filter(|write| write.is_ok()).count(), 50);
        let n: i64 = sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(store.reader()).await.unwrap();
        assert_eq!(n, 50);
    }

    #[tokio::test]
    async fn a_second_opener_is_refused_with_the_file_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.db");
        let _store = Store::open(&path, SCHEMA).await.unwrap();
        let error = Store::open(&path, SCHEMA).await.unwrap_err().to_string();
        assert!(error.contains("s.db is in use by another process"), "{error}");
    }
}
