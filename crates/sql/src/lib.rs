//! Stores of the stages: one set of statements, on SQLite or on PostgreSQL.
//!
//! A read or a write is one plain function over a [`Connection`]. On SQLite there is one writer, whose writes share
//! commits, and one process; on PostgreSQL every write is a transaction of its own, at READ COMMITTED, and any
//! number of processes work on the same tables. What a write looked at before it decided, it keeps from others by
//! [`Connection::lock`].

mod connection;
mod migrate;
mod postgresql;
mod sqlite;
mod value;

use std::path::PathBuf;
use std::sync::Arc;

pub use connection::{Connection, Row};
pub use postgresql::Server;
pub use value::{FromValue, Value};

/// Why a store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The database refused.
    #[error("the store failed")]
    Database(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The database cannot be reached, or gave up a transaction that may succeed when it is repeated.
    #[error("the store is not to be reached")]
    Interrupted(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The database did not answer in time; what was written may have happened.
    #[error("the store did not answer in {} s", postgresql::WAIT.as_secs())]
    Timeout,
    /// The file is held by another process.
    #[error("{0} is in use by another process; stop it or choose another server.data_dir")]
    InUse(String),
    /// The tables were made by a version that this one does not know.
    #[error(
        "{0} was written by another version of Firstline; choose another server.data_dir or database, or move it away"
    )]
    Schema(String),
    /// The store cannot be opened.
    #[error("cannot open {0}")]
    Open(String, #[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The file fails the database's own check.
    #[error("{0} is damaged: {1}; move it away, or restore a copy")]
    Damaged(String, String),
    /// Another write that shared the commit ended the transaction; nothing of either is stored.
    #[error("a write that shared the commit ended the transaction")]
    RolledBack(#[source] Arc<Error>),
    /// The write found what it wanted to change as somebody else had left it; nothing of it is stored.
    #[error("somebody else was faster")]
    Lost,
    /// A value that no version of the program has written.
    #[error("column {0} holds what no version of Firstline writes")]
    Malformed(String),
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
}

/// The result of a store.
pub type Result<T> = std::result::Result<T, Error>;

/// Where the tables of a stage are.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file of SQLite, held by one process.
    File(PathBuf),
    /// A schema of a PostgreSQL server.
    Postgres {
        /// The server.
        server: Server,
        /// The schema, created when it is missing.
        schema: String,
    },
}

/// A store. Clones share it; with the last one it is closed.
#[derive(Debug, Clone)]
pub struct Store(Backend);

#[derive(Debug, Clone)]
enum Backend {
    Sqlite(sqlite::Store),
    Postgres(postgresql::Store),
}

impl Store {
    /// Opens or creates the tables. `migrations` are scripts in SQLite's words (see [`migrate`](crate)): the first
    /// makes the tables, each further one changes what the one before left. They are only ever added to. One that earlier
    /// versions of the program cannot work with begins with `-- breaking`; on PostgreSQL those start with tables that have
    /// more migrations than they know, as long as none of these is one.
    ///
    /// # Errors
    /// The file is held by another process or damaged, the server does not answer, or the tables are of a version
    /// that this one does not know.
    pub async fn open(source: Source, migrations: &'static [&'static str]) -> Result<Self> {
        Ok(Self(match source {
            Source::File(path) => Backend::Sqlite(sqlite::Store::open(path, migrations).await?),
            Source::Postgres { server, schema } => {
                Backend::Postgres(postgresql::Store::open(server, schema, migrations).await?)
            }
        }))
    }

    /// Opens tables to read only, beside whoever works on them; nothing is created or changed.
    ///
    /// # Errors
    /// There are no such tables, or the server does not answer.
    pub async fn inspect(source: Source) -> Result<Self> {
        Ok(Self(match source {
            Source::File(path) => Backend::Sqlite(sqlite::Store::inspect(path).await?),
            Source::Postgres { server, schema } => {
                Backend::Postgres(postgresql::Store::inspect(server, schema).await?)
            }
        }))
    }

    /// Whether other processes may work on the same tables.
    pub fn is_shared(&self) -> bool {
        matches!(self.0, Backend::Postgres(_))
    }

    /// Runs queries, on a thread that may wait for the disk or the server.
    ///
    /// # Errors
    /// The read's own error.
    pub fn read<T, F>(&self, read: F) -> impl Future<Output = Result<T>> + Send
    where
        T: Send + 'static,
        F: Fn(&mut Connection<'_>) -> Result<T> + Send + 'static,
    {
        // What it captured would otherwise lie in every future up to the caller's.
        let read = Box::new(read);
        async move {
            match &self.0 {
                Backend::Sqlite(store) => store.read(read).await,
                Backend::Postgres(store) => store.read(read).await,
            }
        }
    }

    /// Runs a write whole or not at all, and returns when it is on disk. It happens also when the caller stops
    /// waiting. On PostgreSQL it is repeated for some seconds while the server is away; one whose commit got no
    /// answer may then meet what it has itself written, so that every write has to bear that.
    ///
    /// # Errors
    /// The write's own error, or the commit's.
    pub fn write<T, F>(&self, write: F) -> impl Future<Output = Result<T>> + Send
    where
        T: Send + 'static,
        F: Fn(&mut Connection<'_>) -> Result<T> + Send + 'static,
    {
        // What it captured would otherwise lie in every future up to the caller's.
        let write = Box::new(write);
        async move {
            match &self.0 {
                Backend::Sqlite(store) => store.write(write).await,
                Backend::Postgres(store) => store.write(write).await,
            }
        }
    }
}

/// Runs what waits for the disk or the network on a thread for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err(Error::Closed),
    })
}
