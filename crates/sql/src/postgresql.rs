//! The store of larger installations: a schema of a PostgreSQL server, shared by any number of processes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres::types::ToSql;
use postgres::{Client, Config, Row, Statement};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::ConfigVerifierExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{Connection, Error, Result, Value, blocking, migrate};

/// Longest that a caller waits.
pub(crate) const WAIT: Duration = Duration::from_secs(20);
/// How long work is begun again while the server is away: it restarts, or its successor takes over.
const PATIENCE: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Pauses between two tries are random, up to this.
const PAUSE: Duration = Duration::from_millis(200);
/// What a server should never need for one of our statements. A lock is held for some milliseconds.
const LIMITS: &str = "SET statement_timeout = '10s'; SET lock_timeout = '5s';
    SET idle_in_transaction_session_timeout = '10s'";
/// For who only looks, and may look at much.
const READ_ONLY: &str = "SET default_transaction_read_only = on; SET statement_timeout = '5min'";

/// A PostgreSQL server and how it is reached.
#[derive(Debug, Clone)]
pub struct Server {
    /// `postgres://user:password@host:port/database?sslmode=require`, or `key=value` words.
    pub url: SecretString,
    /// Certificates of authorities, PEM; without them those of the system count.
    pub ca: Option<PathBuf>,
    /// Connections at most, at least 1.
    pub connections: u32,
}

impl Server {
    /// Reads the URL and the certificates.
    ///
    /// # Errors
    /// What is wrong with them, in one line without the password.
    fn client(&self) -> std::result::Result<(Config, MakeRustlsConnect), Failure> {
        let mut config: Config = self.url.expose_secret().parse()?;
        config
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(CONNECT_TIMEOUT)
            .application_name("firstline");
        let tls = match &self.ca {
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_file_iter(path)? {
                    roots.add(certificate?)?;
                }
                ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
            }
            None => ClientConfig::with_platform_verifier()?,
        };
        Ok((config, MakeRustlsConnect::new(tls)))
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl From<postgres::Error> for Error {
    fn from(error: postgres::Error) -> Self {
        if may_pass(&error) { Self::Interrupted(Arc::new(error)) } else { Self::Database(Arc::new(error)) }
    }
}

/// Whether the same work may succeed on another connection or a moment later.
fn may_pass(error: &postgres::Error) -> bool {
    let Some(code) = error.code() else {
        // Not the server's word, but about the way to it, unless a value did not fit its column.
        return error.is_closed()
            || std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>());
    };
    let passing = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::READ_ONLY_SQL_TRANSACTION,
    ];
    passing.contains(code) || code.code().starts_with("08")
}

/// A store. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Store(Arc<Pool>);

struct Pool {
    config: Config,
    tls: MakeRustlsConnect,
    schema: String,
    /// Statements that begin every connection.
    begin: &'static str,
    idle: Mutex<Vec<Session>>,
    places: Arc<Semaphore>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Drop for Pool {
    /// Saying goodbye blocks, which no thread of the runtime may.
    fn drop(&mut self) {
        let idle = std::mem::take(self.idle.get_mut().unwrap_or_else(PoisonError::into_inner));
        if !idle.is_empty() {
            std::thread::spawn(move || drop(idle));
        }
    }
}

impl Store {
    pub(crate) async fn open(
        server: Server,
        schema: String,
        migrations: &'static [&'static str],
    ) -> Result<Self> {
        blocking(move || {
            let (pool, mut session) = Pool::open(&server, schema, LIMITS)?;
            let migrated = session.migrate(&pool.schema, migrations);
            migrated.map_err(|error| match error {
                Error::Database(source) => Error::Open(format!("schema {}", pool.schema), source),
                error => error,
            })?;
            pool.give_back(session);
            Ok(Self(Arc::new(pool)))
        })
        .await
    }

    /// A store whose transactions may not write.
    pub(crate) async fn inspect(server: Server, schema: String) -> Result<Self> {
        blocking(move || {
            let (pool, session) = Pool::open(&server, schema, READ_ONLY)?;
            pool.give_back(session);
            Ok(Self(Arc::new(pool)))
        })
        .await
    }

    pub(crate) async fn read<T, F>(&self, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Connection<'_>) -> Result<T> + Send + 'static,
    {
        self.patiently(move |session| read(&mut Connection::from(session))).await
    }

    pub(crate) async fn write<T, F>(&self, write: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Connection<'_>) -> Result<T> + Send + 'static,
    {
        self.patiently(move |session| session.transaction(&write)).await
    }

    /// Runs work on a connection, again and again while only the way to the server is at fault.
    async fn patiently<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Session) -> Result<T> + Send + 'static,
    {
        let pool = self.0.clone();
        let run = async move {
            let place = pool.places.clone().acquire_owned().await.map_err(|_| Error::Closed)?;
            blocking(move || {
                let _place = place;
                let begun = Instant::now();
                loop {
                    match pool.attempt(&work) {
                        Err(Error::Interrupted(error)) if begun.elapsed() < PATIENCE => {
                            tracing::debug!(%error, "the store is tried again");
                            std::thread::sleep(PAUSE.mul_f64(fraction()));
                        }
                        done => return done,
                    }
                }
            })
            .await
        };
        tokio::time::timeout(WAIT, run).await.unwrap_or(Err(Error::Timeout))
    }
}

/// A random number in 0..1.
fn fraction() -> f64 {
    uuid::Uuid::new_v4().as_u64_pair().1 as f64 / u64::MAX as f64
}

impl Pool {
    /// A pool with its first connection.
    fn open(server: &Server, schema: String, begin: &'static str) -> Result<(Self, Session)> {
        let open = |error: Failure| Error::Open("the PostgreSQL server".to_owned(), error.into());
        let (config, tls) = server.client().map_err(open)?;
        let places = Arc::new(Semaphore::new(server.connections.max(1) as usize));
        let pool = Self { config, tls, schema, begin, idle: Mutex::default(), places };
        let session = pool.connect().map_err(|error| open(error.into()))?;
        Ok((pool, session))
    }

    fn attempt<T>(&self, work: &impl Fn(&mut Session) -> Result<T>) -> Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut session = match idle {
            Some(session) if !session.client.is_closed() => session,
            _ => self.connect()?,
        };
        let done = work(&mut session);
        // A connection that failed somehow is not worth finding out how.
        if !matches!(done, Err(Error::Interrupted(_) | Error::Database(_))) {
            self.give_back(session);
        }
        done
    }

    fn connect(&self) -> std::result::Result<Session, postgres::Error> {
        let mut client = self.config.connect(self.tls.clone())?;
        client.batch_execute(self.begin)?;
        client.batch_execute(&format!("SET search_path = \"{}\"", self.schema))?;
        Ok(Session { client, statements: HashMap::new() })
    }

    fn give_back(&self, session: Session) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }
}

/// A connection with the statements it has prepared.
pub struct Session {
    client: Client,
    statements: HashMap<String, Statement>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn execute(&mut self, statement: &str, values: &[Value<'_>]) -> Result<u64> {
        let statement = self.prepared(statement)?;
        Ok(self.client.execute(&statement, &parameters(values))?)
    }

    pub(crate) fn query(&mut self, statement: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
        let statement = self.prepared(statement)?;
        Ok(self.client.query(&statement, &parameters(values))?)
    }

    fn prepared(&mut self, statement: &str) -> Result<Statement> {
        if let Some(known) = self.statements.get(statement) {
            return Ok(known.clone());
        }
        let prepared = self.client.prepare(statement)?;
        self.statements.insert(statement.to_owned(), prepared.clone());
        Ok(prepared)
    }

    fn transaction<T>(&mut self, write: &impl Fn(&mut Connection<'_>) -> Result<T>) -> Result<T> {
        self.client.batch_execute("BEGIN")?;
        match write(&mut Connection::from(&mut *self)) {
            Ok(value) => {
                self.client.batch_execute("COMMIT")?;
                Ok(value)
            }
            Err(error) => {
                self.client.batch_execute("ROLLBACK")?;
                Err(error)
            }
        }
    }

    /// Makes or changes the tables; of several processes that start at once the others wait for the first.
    fn migrate(&mut self, schema: &str, migrations: &'static [&'static str]) -> Result<()> {
        let create = format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"");
        self.transaction(&|connection: &mut Connection<'_>| {
            connection.lock(schema)?;
            connection.execute(&create, &[])?;
            let table = "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)";
            connection.execute(table, &[])?;
            let column =
                "ALTER TABLE schema_version ADD COLUMN IF NOT EXISTS least BIGINT NOT NULL DEFAULT 0";
            connection.execute(column, &[])?;
            let version = "SELECT version, least FROM schema_version ORDER BY version DESC LIMIT 1";
            let found = connection.first(version, &[], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let (found, least): (i64, i64) = found.unwrap_or((0, 0));
            // While an update is rolled out, or taken back, processes of the version before start too.
            if found > migrations.len() as i64 && least <= migrations.len() as i64 {
                tracing::info!(
                    schema,
                    found,
                    known = migrations.len(),
                    "tables of a newer version that only adds"
                );
                return Ok(());
            }
            let missing = migrate::after(migrations, found);
            let missing = missing.ok_or_else(|| Error::Schema(format!("schema {schema}")))?;
            for statement in missing.iter().flat_map(|script| script.split(';')) {
                if !statement.trim().is_empty() {
                    connection.execute(&migrate::for_postgres(statement), &[])?;
                }
            }
            if !missing.is_empty() {
                let insert = "INSERT INTO schema_version (version, least) VALUES ($1, $2)";
                let values = [migrations.len(), migrate::least(migrations)];
                connection.execute(insert, &values.map(|value| Value::Integer(value as i64)))?;
            }
            Ok(())
        })
    }
}

fn parameters<'v>(values: &'v [Value<'_>]) -> Vec<&'v (dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}
