//! A file of the test's own in the place of /etc/hosts, so that names have several addresses that come and go.

use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::not_run;
use crate::world::scratch;

/// The file that says where names are, of the process inside.
const HOSTS: &str = "FIRSTLINE_TEST_HOSTS";

/// Names and addresses of this process and its children. The file is written over in one go and never shorter, since it
/// is read at any moment.
#[derive(Debug)]
pub struct Names(File);

impl Names {
    const BYTES: usize = 4096;

    /// Those of the process that [`inside`] started; `None` in any other.
    pub fn here() -> Option<Self> {
        let path = PathBuf::from(std::env::var_os(HOSTS)?);
        Some(Self(File::options().write(true).create(true).truncate(false).open(path).unwrap()))
    }

    /// From now on these are all names, each with one of its addresses.
    pub fn are<'a>(&self, names: impl IntoIterator<Item = (&'a str, IpAddr)>) {
        let lines: String = names.into_iter().map(|(name, address)| format!("{address} {name}\n")).collect();
        assert!(lines.len() <= Self::BYTES, "too many names");
        self.0.write_all_at(format!("{lines:<width$}\n", width = Self::BYTES).as_bytes(), 0).unwrap();
    }
}

/// Runs this program once more, with these arguments and variables, where [`Names`] stand for /etc/hosts: in a mount
/// namespace. Says that the test is not run where there can be none.
pub fn inside(test: &str, arguments: &[&str], variables: &[(&str, &str)]) {
    let dir = scratch();
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, "").unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]);
    command.arg(&hosts).arg(std::env::current_exe().unwrap()).args(arguments);
    command.envs(variables.iter().copied()).env(HOSTS, &hosts);
    let ended = command.stdin(Stdio::null()).output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    if said.contains("unshare failed") {
        return not_run(test, &said);
    }
    println!("{said}");
    assert!(ended.status.success(), "{test} failed inside, see above");
}
