//! The embedded store: SQLite in WAL mode, one writer with group commit, one process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Writes that share one commit at most.
const GROUP: usize = 256;
const QUEUE: usize = 1024;
const READERS: usize = 4;
/// Statements a connection keeps compiled.
const STATEMENTS: usize = 64;

/// Why a store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The database refused.
    #[error("the store failed")]
    Database(#[source] Arc<rusqlite::Error>),
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
    /// The file fails the database's own check.
    #[error("{0} is damaged: {1}; move it away, or restore a copy")]
    Damaged(String, String),
    /// Another write that shared the commit ended the transaction; nothing of either is stored.
    #[error("the store failed: the write before this one ended the transaction")]
    RolledBack,
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

/// Runs one write inside the group's transaction and returns what answers its caller after the commit.
/// Without a transaction nothing runs.
type Write = Box<dyn FnOnce(Result<Turn<'_>, Error>) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Result<(), Error>)>;

/// A write's turn on the connection.
struct Turn<'c> {
    connection: &'c Connection,
    /// Whether other writes share the transaction, so that a failing one needs a savepoint to be undone to.
    shared: bool,
}

/// A store. Clones share it; with the last one it is closed.
#[derive(Debug, Clone)]
pub struct Store {
    readers: Arc<Readers>,
    writer: Arc<Writer>,
}

/// The thread of the only connection that writes.
#[derive(Debug)]
struct Writer {
    /// `None` when the thread is to end.
    writes: Option<mpsc::Sender<Write>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Writer {
    /// Waits for the last writes and the lock: whoever opens the file next finds it free.
    fn drop(&mut self) {
        self.writes = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Store {
    /// Opens or creates the file and applies the schema, a script of idempotent statements.
    ///
    /// # Errors
    /// The file is held by another process, is damaged, or cannot be written.
    pub async fn open(path: &Path, schema: &'static str) -> Result<Self, Error> {
        let path = path.to_owned();
        blocking(move || {
            let lock = lock(&path)?;
            let writer = writer(&path, schema)?;
            let (writes, queue) = mpsc::channel(QUEUE);
            let thread = std::thread::Builder::new().name("store".to_owned());
            let thread = thread.spawn(move || {
                write_groups(&writer, queue);
                drop(writer);
                drop(lock);
            });
            let thread = thread.map_err(|error| Error::Open(path.display().to_string(), Arc::new(error)))?;
            let writer = Writer { writes: Some(writes), thread: Some(thread) };
            Ok(Self { readers: Arc::new(Readers::new(path)), writer: Arc::new(writer) })
        })
        .await
    }

    /// Runs queries on a connection that only reads, on a thread that may wait for the disk.
    ///
    /// # Errors
    /// The read's own error.
    pub async fn read<T, F>(&self, read: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let readers = self.readers.clone();
        let place = self.readers.places.clone().acquire_owned().await.map_err(|_| Error::Closed)?;
        blocking(move || {
            let connection = readers.take()?;
            let result = read(&connection);
            readers.give_back(connection);
            drop(place);
            Ok(result?)
        })
        .await
    }

    /// Queues a write and waits until it is on disk. Writes that arrive together share one commit;
    /// a write that fails is undone alone, unless the database gives up the whole transaction, as on a full
    /// disk: then none of the group happens. The write happens also when the caller stops waiting.
    ///
    /// # Errors
    /// The write's own error, or the commit's.
    pub async fn write<T, F>(&self, write: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Write = Box::new(move |turn| {
            let result = turn.and_then(|turn| Ok(undoable(&turn, write)?));
            Box::new(move |commit| {
                let _ = answer.send(result.and_then(|value| commit.map(|()| value)));
            })
        });
        let queue = self.writer.writes.as_ref().ok_or(Error::Closed)?;
        queue.send(job).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }
}

/// Runs what waits for the disk on a thread for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err(Error::Closed),
    })
}

/// Connections that only read, opened as they are needed.
#[derive(Debug)]
struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    places: Arc<Semaphore>,
}

impl Readers {
    fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::default(), places: Arc::new(Semaphore::new(READERS)) }
    }

    fn take(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY), Ok)
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

fn connect(path: &Path, mode: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

fn writer(path: &Path, schema: &str) -> Result<Connection, Error> {
    let name = || path.display().to_string();
    let open = |error: rusqlite::Error| Error::Open(name(), Arc::new(error));
    let mode = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let writer = connect(path, mode).map_err(open)?;
    // What is deleted or replaced is overwritten with zeros in the page it stood in: no sync more.
    let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON";
    writer.execute_batch(pragmas).map_err(open)?;
    let check = writer.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)).map_err(open)?;
    if check != "ok" {
        return Err(Error::Damaged(name(), check));
    }
    let version = i64::from(schema_version(schema));
    let found: i64 = writer.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(open)?;
    if found != 0 && found != version {
        return Err(Error::Schema(name()));
    }
    writer.execute_batch(schema).map_err(open)?;
    writer.pragma_update(None, "user_version", version).map_err(open)?;
    Ok(writer)
}

/// A number that changes with the schema (FNV-1a), never 0, which SQLite gives to a new file.
fn schema_version(schema: &str) -> i32 {
    let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    (schema.bytes().fold(0x811c_9dc5, fold) >> 1 | 1) as i32
}

/// An exclusive lock beside the database, held by the writer thread, freed by the system with the process.
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

/// Runs a write; when it fails nothing of it stays. A transaction that cannot be saved ends.
fn undoable<T>(
    turn: &Turn<'_>,
    write: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let Turn { connection, shared } = *turn;
    if !shared {
        return write(connection).inspect_err(|_| give_up(connection));
    }
    run(connection, "SAVEPOINT job")?;
    let written = write(connection).and_then(|value| run(connection, "RELEASE job").map(|()| value));
    written.inspect_err(|_| {
        // On a full disk and the like the transaction is gone already.
        if !connection.is_autocommit() && connection.execute_batch("ROLLBACK TO job; RELEASE job").is_err() {
            give_up(connection);
        }
    })
}

fn give_up(connection: &Connection) {
    if !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
}

fn run(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute([])?;
    Ok(())
}

/// The writer's thread: ends when no handle is left.
fn write_groups(connection: &Connection, mut queue: mpsc::Receiver<Write>) {
    let mut group = Vec::with_capacity(GROUP);
    while queue.blocking_recv_many(&mut group, GROUP) > 0 {
        let mut state = run(connection, "BEGIN IMMEDIATE").map_err(Error::from);
        let shared = group.len() > 1;
        let mut answers = Vec::with_capacity(group.len());
        for write in group.drain(..) {
            let turn = state.clone().map(|()| Turn { connection, shared });
            answers.push(write(turn));
            if state.is_ok() && connection.is_autocommit() {
                // Outside a transaction the next write would commit alone while its caller is told it failed.
                state = Err(Error::RolledBack);
            }
        }
        let committed = state.and_then(|()| Ok(run(connection, "COMMIT")?));
        if committed.is_err() {
            give_up(connection);
        }
        for answer in answers {
            answer(committed.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, v TEXT)";

    async fn insert(store: &Store, id: i64) -> Result<(), Error> {
        let insert = store.write(move |connection| {
            connection.prepare_cached("INSERT INTO t VALUES (?, 'x')")?.execute([id])?;
            Ok(())
        });
        insert.await
    }

    #[tokio::test]
    async fn a_failing_write_is_undone_alone_and_the_rest_of_its_group_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.db");
        let store = Store::open(&path, SCHEMA).await.unwrap();
        let writes = futures::future::join_all((0..100).map(|i| insert(&store, i % 50))).await;
        assert_eq!(writes.iter().filter(|write| write.is_ok()).count(), 50);
        let query = "SELECT count(*) FROM t";
        let count = store.read(move |reader| reader.query_row(query, [], |row| row.get::<_, i64>(0)));
        assert_eq!(count.await.unwrap(), 50);
    }

    #[tokio::test]
    async fn a_full_disk_fails_the_whole_group_and_leaves_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("s.db"), SCHEMA).await.unwrap();
        let fill = |connection: &Connection| {
            connection.execute_batch("PRAGMA max_page_count = 4")?;
            let filled = connection.execute("INSERT INTO t VALUES (NULL, zeroblob(1000000))", []);
            connection.execute_batch("PRAGMA max_page_count = 1000000")?;
            filled.map(|_| ())
        };
        // The writer is held in a group of one write until the others are queued, so that they share a commit.
        let (entered, inside) = oneshot::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let busy = store.write(move |_| {
            entered.send(()).unwrap();
            released.recv().unwrap();
            Ok(())
        });
        let others = async {
            inside.await.unwrap();
            let free = async { release.send(()).unwrap() };
            tokio::join!(insert(&store, 1), store.write(fill), insert(&store, 2), free)
        };
        let (_, (one, full, two, ())) = tokio::join!(busy, others);
        let full = full.map_err(|error| std::error::Error::source(&error).unwrap().to_string());
        assert!(full.as_ref().unwrap_err().contains("full"), "{full:?}");
        assert!(one.is_err() && two.is_err());
        let count =
            store.read(|reader| reader.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)));
        assert_eq!(count.await.unwrap(), 0);
        insert(&store, 3).await.unwrap();
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
