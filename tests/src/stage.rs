//! A stage as a process of its own.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

use crate::process::command;
use crate::world::{demo, scratch};

/// Ends with its handle.
#[derive(Debug)]
pub struct Stage {
    child: Child,
    /// Where it serves.
    pub address: SocketAddr,
    /// Address of its health and metrics.
    pub admin: SocketAddr,
    data: Arc<TempDir>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Stage {
    /// Starts it with settings of its own table, as TOML; its metrics and spans go to the collector five times a
    /// second.
    pub fn start(name: &str, settings: &str, collector: &str) -> Self {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector),
            ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
            ("OTEL_BSP_SCHEDULE_DELAY", "200"),
        ];
        Self::launch(name, scratch::free(), Arc::new(scratch()), settings, &variables)
    }

    /// Starts it at an address, as one of several, with its store in a folder and more variables.
    pub fn at(name: &str, address: SocketAddr, data: Arc<TempDir>, variables: &[(&str, &str)]) -> Self {
        Self::launch(name, address, data, "", variables)
    }

    fn launch(
        name: &str,
        address: SocketAddr,
        data: Arc<TempDir>,
        settings: &str,
        variables: &[(&str, &str)],
    ) -> Self {
        let admin = scratch::free();
        std::fs::write(data.path().join("firstline.toml"), format!("[{name}]\n{settings}")).unwrap();
        let mut command = command(name);
        command.current_dir(data.path()).args(["--listen", &address.to_string()]);
        command.env("FIRSTLINE__SERVER__DATA_DIR", data.path()).env("FIRSTLINE__SERVER__BUNDLE", demo());
        command.env(format!("FIRSTLINE__SERVER__ADMIN__{}", name.to_uppercase()), admin.to_string());
        command.envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let mut said = String::new();
        while !said.contains("\"serving\"") {
            said.push_str(&log.next().unwrap_or_else(|| panic!("it did not start: {said}")));
        }
        // Someone must read what follows, or the writer stops at a full pipe.
        std::thread::spawn(move || log.for_each(|line| eprintln!("{line}")));
        Self { child, address, admin, data }
    }

    /// Where it serves, as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The folder of its store.
    pub fn data(&self) -> Arc<TempDir> {
        Arc::clone(&self.data)
    }

    /// Where this process has connected to.
    pub fn connected(&self) -> Vec<SocketAddr> {
        let proc = format!("/proc/{}", self.child.id());
        let own: HashSet<String> = std::fs::read_dir(format!("{proc}/fd"))
            .unwrap()
            .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok()?.to_str().map(str::to_owned))
            .collect();
        // Local and remote address, state, and the inode of a socket: proc(5), /proc/net/tcp.
        let table = std::fs::read_to_string(format!("{proc}/net/tcp")).unwrap();
        let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.filter(|row| row[3] == "01" && own.contains(&format!("socket:[{}]", row[9])))
            .filter(|row| ![self.address, self.admin].contains(&hexadecimal(row[1])))
            .map(|row| hexadecimal(row[2]))
            .collect()
    }

    /// Calls that it has answered.
    pub fn answered(&self) -> u64 {
        let page = scrape(self.admin);
        let counts = page.lines().filter(|line| line.starts_with("rpc_server_call_duration_seconds_count"));
        counts.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, without waiting for the drain.
    pub fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// The exit code, when it has ended.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

/// An address as the kernel writes it: the bytes of this machine's order.
fn hexadecimal(text: &str) -> SocketAddr {
    let (ip, port) = text.split_once(':').unwrap();
    let ip = u32::from_str_radix(ip, 16).unwrap().to_ne_bytes();
    SocketAddr::from((ip, u16::from_str_radix(port, 16).unwrap()))
}

/// What Prometheus would read at an address.
pub fn scrape(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: firstline\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
