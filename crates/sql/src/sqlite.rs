//! The embedded store: SQLite in WAL mode, one writer with group commit, one process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{Connection as Sqlite, OpenFlags};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::{Connection, Error, Result, blocking, migrate};

/// Writes that share one commit at most.
const GROUP: usize = 256;
const QUEUE: usize = 1024;
const READERS: usize = 4;
/// Statements a connection keeps compiled.
const STATEMENTS: usize = 64;

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

/// Runs one write inside the group's transaction and returns what answers its caller after the commit, and why it
/// failed. Without a transaction nothing runs.
type Write = Box<dyn FnOnce(Result<Turn<'_>>) -> (Answer, Option<Error>) + Send>;
type Answer = Box<dyn FnOnce(Result<()>)>;

/// A write's turn on the connection.
struct Turn<'c> {
    connection: &'c Sqlite,
    /// Whether other writes share the transaction, so that a failing one needs a savepoint to be undone to.
    shared: bool,
}

/// A store. Clones share it; with the last one it is closed.
#[derive(Debug, Clone)]
pub(crate) struct Store {
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
    pub(crate) async fn open(path: PathBuf, migrations: &'static [&'static str]) -> Result<Self> {
        blocking(move || {
            let lock = lock(&path)?;
            let writer = writer(&path, migrations)?;
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

    /// A store without a writer and without the lock.
    pub(crate) async fn inspect(path: PathBuf) -> Result<Self> {
        blocking(move || {
            let name = path.display().to_string();
            let readers = Readers::new(path);
            let first = readers.take().map_err(|error| Error::Open(name, Arc::new(error)))?;
            readers.give_back(first);
            let writer = Writer { writes: None, thread: None };
            Ok(Self { readers: Arc::new(readers), writer: Arc::new(writer) })
        })
        .await
    }

    pub(crate) async fn read<T, F>(&self, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Connection<'_>) -> Result<T> + Send + 'static,
    {
        let readers = self.readers.clone();
        let place = self.readers.places.clone().acquire_owned().await.map_err(|_| Error::Closed)?;
        blocking(move || {
            let connection = readers.take()?;
            let result = read(&mut Connection::from(&connection));
            readers.give_back(connection);
            drop(place);
            result
        })
        .await
    }

    /// Writes that arrive together share one commit; a write that fails is undone alone, unless the database gives
    /// up the whole transaction, as on a full disk: then none of the group happens.
    pub(crate) async fn write<T, F>(&self, write: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Connection<'_>) -> Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Write = Box::new(move |turn| {
            let result = turn.and_then(|turn| undoable(&turn, write));
            let failure = result.as_ref().err().cloned();
            let tell = move |commit: Result<()>| {
                let _ = answer.send(result.and_then(|value| commit.map(|()| value)));
            };
            (Box::new(tell), failure)
        });
        let queue = self.writer.writes.as_ref().ok_or(Error::Closed)?;
        queue.send(job).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }
}

/// Connections that only read, opened as they are needed.
#[derive(Debug)]
struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Sqlite>>,
    places: Arc<Semaphore>,
}

impl Readers {
    fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::default(), places: Arc::new(Semaphore::new(READERS)) }
    }

    fn take(&self) -> rusqlite::Result<Sqlite> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY), Ok)
    }

    fn give_back(&self, connection: Sqlite) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

fn connect(path: &Path, mode: OpenFlags) -> rusqlite::Result<Sqlite> {
    let connection = Sqlite::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

fn writer(path: &Path, migrations: &'static [&'static str]) -> Result<Sqlite> {
    let name = || path.display().to_string();
    let open = |error: rusqlite::Error| Error::Open(name(), Arc::new(error));
    let mode = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut writer = connect(path, mode).map_err(open)?;
    // What is deleted or replaced is overwritten with zeros in the page it stood in: no sync more.
    let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON";
    writer.execute_batch(pragmas).map_err(open)?;
    let check = writer.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)).map_err(open)?;
    if check != "ok" {
        return Err(Error::Damaged(name(), check));
    }
    let found: i64 = writer.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(open)?;
    let missing = migrate::after(migrations, found).ok_or_else(|| Error::Schema(name()))?;
    if !missing.is_empty() {
        let change = writer.transaction().map_err(open)?;
        missing.iter().try_for_each(|script| change.execute_batch(script)).map_err(open)?;
        change.pragma_update(None, "user_version", migrations.len() as i64).map_err(open)?;
        change.commit().map_err(open)?;
    }
    Ok(writer)
}

/// An exclusive lock beside the database, held by the writer thread, freed by the system with the process.
fn lock(path: &Path) -> Result<File> {
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
fn undoable<T>(turn: &Turn<'_>, write: impl Fn(&mut Connection<'_>) -> Result<T>) -> Result<T> {
    let Turn { connection, shared } = *turn;
    let write = || write(&mut Connection::from(connection));
    if !shared {
        return write().inspect_err(|_| give_up(connection));
    }
    run(connection, "SAVEPOINT job")?;
    let written = write().and_then(|value| Ok(run(connection, "RELEASE job").map(|()| value)?));
    written.inspect_err(|_| {
        // On a full disk and the like the transaction is gone already.
        if !connection.is_autocommit() && connection.execute_batch("ROLLBACK TO job; RELEASE job").is_err() {
            give_up(connection);
        }
    })
}

fn give_up(connection: &Sqlite) {
    if !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
}

fn run(connection: &Sqlite, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute([])?;
    Ok(())
}

/// The writer's thread: ends when no handle is left.
fn write_groups(connection: &Sqlite, mut queue: mpsc::Receiver<Write>) {
    let mut group = Vec::with_capacity(GROUP);
    let mut out = false;
    while queue.blocking_recv_many(&mut group, GROUP) > 0 {
        let mut state = run(connection, "BEGIN IMMEDIATE").map_err(Error::from);
        let (writes, before) = (group.len(), connection.total_changes());
        let mut answers = Vec::with_capacity(writes);
        for write in group.drain(..) {
            let turn = state.clone().map(|()| Turn { connection, shared: writes > 1 });
            let (answer, failure) = write(turn);
            answers.push(answer);
            if state.is_ok() && connection.is_autocommit() {
                // Outside a transaction the next write would commit alone while its caller is told it failed.
                state = Err(Error::RolledBack(Arc::new(failure.unwrap_or(Error::Closed))));
            }
        }
        let committed = state.and_then(|()| Ok(run(connection, "COMMIT")?));
        if committed.is_err() {
            give_up(connection);
        }
        let rows = connection.total_changes() - before;
        tracing::debug!(writes, rows, committed = committed.is_ok(), "a group of writes");
        if committed.is_err() || rows > 0 {
            out = report(connection, &committed, out);
        }
        for answer in answers {
            answer(committed.clone());
        }
    }
}

/// Tells once that the database does not take writes, and once that it does again; returns which it is.
fn report(connection: &Sqlite, committed: &Result<()>, out: bool) -> bool {
    let store = connection.path();
    match committed {
        Err(error) if !out && is_out(error) => {
            let error: &dyn std::error::Error = error;
            tracing::error!(
                store,
                error,
                "a store takes no writes; what it cannot keep is refused until it does"
            );
            true
        }
        Ok(()) if out => {
            tracing::info!(store, "a store takes writes again");
            false
        }
        _ => out,
    }
}

/// Whether the database is to blame, as on a full disk, and not one of the writes.
fn is_out(error: &Error) -> bool {
    use rusqlite::ErrorCode::{
        CannotOpen, DatabaseCorrupt, DiskFull, NotADatabase, ReadOnly, SystemIoFailure,
    };
    let error = match error {
        Error::RolledBack(cause) => return is_out(cause),
        Error::Database(cause) => cause.downcast_ref::<rusqlite::Error>(),
        _ => None,
    };
    let code = error.and_then(rusqlite::Error::sqlite_error_code);
    code.is_some_and(|code| {
        matches!(code, CannotOpen | DatabaseCorrupt | DiskFull | NotADatabase | ReadOnly | SystemIoFailure)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values;

    const SCHEMA: &[&str] = &["CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"];

    async fn insert(store: &Store, id: i64) -> Result<()> {
        let insert = move |connection: &mut Connection<'_>| {
            connection.execute("INSERT INTO t VALUES ($1, 'x')", values![id]).map(|_| ())
        };
        store.write(insert).await
    }

    #[tokio::test]
    async fn a_full_disk_fails_the_whole_group_and_leaves_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("s.db"), SCHEMA).await.unwrap();
        let fill = |connection: &mut Connection<'_>| {
            connection.query("PRAGMA max_page_count = 4", &[], |_| Ok(()))?;
            let filled = connection.execute("INSERT INTO t VALUES (NULL, zeroblob(1000000))", &[]);
            connection.query("PRAGMA max_page_count = 1000000", &[], |_| Ok(()))?;
            filled.map(|_| ())
        };
        // The writer is held in a group of one write until the others are queued, so that they share a commit.
        let (entered, inside) = oneshot::channel();
        let entered = Mutex::new(Some(entered));
        let (release, released) = std::sync::mpsc::channel::<()>();
        let busy = store.write(move |_| {
            entered.lock().unwrap().take().unwrap().send(()).unwrap();
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
        // Each caller is told why, also those whose own write was right.
        for other in [one, two] {
            let why = std::error::Error::source(&other.unwrap_err()).unwrap().to_string();
            assert_eq!(why, "the store failed");
        }
        let count = |connection: &mut Connection<'_>| {
            connection.first("SELECT count(*) FROM t", &[], |row| row.get::<i64, _>(0))
        };
        assert_eq!(store.read(count).await.unwrap(), Some(0));
        insert(&store, 3).await.unwrap();
    }

    #[tokio::test]
    async fn a_second_opener_is_refused_with_the_file_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.db");
        let _store = Store::open(path.clone(), SCHEMA).await.unwrap();
        let error = Store::open(path, SCHEMA).await.unwrap_err().to_string();
        assert!(error.contains("s.db is in use by another process"), "{error}");
    }
}
