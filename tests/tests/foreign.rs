//! A client of another make: Python's grpcio, from the .proto files.

use std::path::Path;
use std::process::Command;

use tests::{Processes, python};

#[test]
fn a_python_client_asks_and_converses() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let processes = Processes::start(&[]);
    let script = root.join("tests/python/client.py");
    let output =
        Command::new(python()).arg(script).arg(&processes.url).arg(root.join("proto")).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(stdout.trim(), "ok");
}
