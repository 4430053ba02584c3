//! A Redis server of one's own: real, on a free port, in memory, gone with the test.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// A running Redis.
#[derive(Debug)]
pub struct Redis {
    child: Child,
    address: SocketAddr,
}

impl Redis {
    /// Starts a server.
    ///
    /// # Panics
    /// Redis is not installed, or does not start.
    pub fn start() -> Self {
        let address = crate::free();
        Self { child: start(address), address }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts the server again, empty, after [`Redis::kill`].
    pub fn restart(&mut self) {
        self.child = start(self.address);
    }
}

fn start(address: SocketAddr) -> Child {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let arguments = ["--port", &port, "--bind", &ip, "--save", "", "--appendonly", "no"];
    let child = Command::new("redis-server").args(arguments).stdout(Stdio::piped()).spawn();
    let mut child =
        child.expect("redis-server is needed, on Debian or Ubuntu: sudo apt-get install redis-server");
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("Ready to accept connections") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "redis-server did not start");
    }
    // It would stop at a pipe that nobody reads.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    child
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
