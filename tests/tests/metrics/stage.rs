//! A stage as a process of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};

use tests::{command, demo, scratch};

/// Ends with the test.
pub struct Stage {
    child: Child,
    pub url: String,
    /// Address of its health and metrics.
    pub admin: String,
    _data: tempfile::TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stage {
    /// Starts it with settings of its own table, as TOML; its metrics and spans go to the collector five times a
    /// second.
    pub fn start(name: &str, settings: &str, collector: &str) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (listen, admin) = (free(), free());
        let data = scratch();
        std::fs::write(data.path().join("firstline.toml"), format!("[{name}]\n{settings}")).unwrap();
        let mut command = command(name);
        command.current_dir(data.path()).args(["--listen", &listen]);
        command.env("FIRSTLINE__SERVER__DATA_DIR", data.path()).env("FIRSTLINE__SERVER__BUNDLE", demo());
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector).env("OTEL_METRIC_EXPORT_INTERVAL", "200");
        command.env("OTEL_BSP_SCHEDULE_DELAY", "200");
        command.env(format!("FIRSTLINE__SERVER__ADMIN__{}", name.to_uppercase()), &admin);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let mut said = String::new();
        while !said.contains("\"serving\"") {
            said.push_str(&log.next().unwrap_or_else(|| panic!("it did not start: {said}")));
        }
        // Someone must read what follows, or the writer stops at a full pipe.
        std::thread::spawn(move || log.for_each(|line| eprintln!("{line}")));
        Self { child, url: format!("http://{listen}"), admin, _data: data }
    }
}

/// What Prometheus would read at an address.
pub fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: firstline\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
