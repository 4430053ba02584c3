//! A PostgreSQL server of one's own: real, on a free port, in a folder of its own, gone with the test; a Redis; and
//! addresses that stay free until somebody listens there.

mod redis;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use postgres::{Client, NoTls};

pub use redis::Redis;

const SCRIPT: &str = include_str!("postgres.sh");

/// An address to give to a server that is started later. Nobody else takes it meanwhile: the IP address is of this process
/// (127.128.0.0/10), the port is given once, and it is below those that the system chooses for connections. At other
/// addresses too each process begins with a port of its own.
///
/// # Panics
/// All ports were given.
pub fn free() -> SocketAddr {
    const PORTS: Range<u16> = 10_000..32_768;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let id = std::process::id();
    let [_, high, middle, low] = id.to_be_bytes();
    let ip = Ipv4Addr::new(127, 128 | high & 63, middle, low);
    loop {
        let (given, all) = (NEXT.fetch_add(1, Ordering::Relaxed), PORTS.len());
        assert!(usize::from(given) < all, "all ports were given");
        let port = PORTS.start + ((id as usize + usize::from(given)) % all) as u16;
        if TcpListener::bind((ip, port)).is_ok() {
            return (ip, port).into();
        }
    }
}

/// A running PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Postgres {
    /// Starts a server.
    ///
    /// # Panics
    /// PostgreSQL is not installed, or does not start.
    pub fn start() -> Self {
        let address = free();
        let path = format!("{}:{}", programs().display(), std::env::var("PATH").unwrap_or_default());
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let script = ["bash", "-c", SCRIPT, "postgres.sh", &ip, &port].map(str::to_owned);
        // PostgreSQL refuses to run as root.
        let user = ["runuser", "-u", "postgres", "--"].map(str::to_owned);
        let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        let words: Vec<String> = user.into_iter().filter(|_| root).chain(script).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env("PATH", path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (orders, answers) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut server = Self { child, orders, answers, address };
        server.order("start");
        server
    }

    /// Kills the server as a power cut would, but for the disk.
    pub fn kill(&mut self) {
        self.order("kill");
    }

    /// Starts the server again after [`Postgres::kill`].
    pub fn restart(&mut self) {
        self.order("start");
    }

    /// Makes an empty database and returns its URL.
    pub fn database(&self) -> String {
        let url = |name: &str| format!("postgres://postgres@{}/{name}?sslmode=disable", self.address);
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        run(&url("postgres"), &format!("CREATE DATABASE {name}"));
        url(&name)
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert!(!answer.is_empty(), "PostgreSQL did not {order}; see above");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.child.wait();
    }
}

/// The URL of an empty database on the server that the tests of this process share.
///
/// # Panics
/// As [`Postgres::start`].
pub fn database() -> String {
    static SHARED: LazyLock<Mutex<Postgres>> = LazyLock::new(|| Mutex::new(Postgres::start()));
    SHARED.lock().unwrap_or_else(PoisonError::into_inner).database()
}

/// The database of a stage whose files would be in this folder, where the test's program is called
/// `..._on_postgres`: a second build of the same tests. The same folder has the same database.
///
/// # Panics
/// As [`Postgres::start`].
pub fn chosen(folder: &Path) -> Option<String> {
    let program = std::env::current_exe().unwrap();
    if !program.file_name()?.to_str()?.contains("_on_postgres") {
        return None;
    }
    let note = folder.join("database");
    let known = std::fs::read_to_string(&note);
    Some(known.unwrap_or_else(|_| {
        let url = database();
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(&note, &url).unwrap();
        url
    }))
}

/// Changes a row behind the back of a stage.
///
/// # Panics
/// The statement does not succeed.
pub fn tamper(folder: &Path, stage: &str, change: &str) {
    let Some(url) = chosen(folder) else {
        let file = folder.join(stage).with_extension("db");
        rusqlite::Connection::open(file).unwrap().execute(change, []).unwrap();
        return;
    };
    run(&url, &format!("SET search_path = firstline_{stage}; {change}"));
}

/// Runs statements in a database.
///
/// # Panics
/// They do not succeed.
pub fn run(url: &str, statements: &str) {
    let (url, statements) = (url.to_owned(), statements.to_owned());
    // Connecting blocks, which a test's own runtime does not allow on its thread.
    let ran = std::thread::spawn(move || {
        Client::connect(&url, NoTls).unwrap().batch_execute(&statements).unwrap();
    });
    ran.join().unwrap();
}

/// The number that a query of one row and column says.
///
/// # Panics
/// It does not, or says something else.
pub fn number(url: &str, query: &str) -> f64 {
    let (url, query) = (url.to_owned(), query.to_owned());
    let asked =
        std::thread::spawn(move || Client::connect(&url, NoTls).unwrap().query_one(&query, &[]).unwrap());
    asked.join().unwrap().get(0)
}

/// The folder of `initdb`: on the path, or where Debian puts it.
fn programs() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = debian.map(|version| version.path().join("bin"));
    let found = std::env::split_paths(&path).chain(debian).find(|folder| folder.join("initdb").exists());
    found.expect("PostgreSQL is not installed: on Debian or Ubuntu by: sudo apt-get install postgresql")
}
