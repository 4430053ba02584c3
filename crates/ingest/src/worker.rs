//! The side of the caller: one process a document, so that whatever a document does to its reader is
//! lost with it.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::markup::MAX_TEXT_BYTES;
use crate::read::{Answer, Format, MEMORY_MIB, SECONDS};
use crate::refusal::Refusal;

/// Largest answer, in bytes: JSON may double a text.
const MAX_ANSWER_BYTES: u64 = 4 * MAX_TEXT_BYTES as u64;
/// Exit code of a Rust program that panicked.
const PANICKED: i32 = 101;

/// The program that reads untrusted documents, one a process.
#[derive(Debug, Clone)]
pub struct Worker {
    /// The program.
    pub program: PathBuf,
    /// What makes it call [`crate::serve`]; the name of the format is appended.
    pub arguments: Vec<String>,
    /// How long one document may take.
    pub limit: Duration,
}

impl Worker {
    /// A worker with the usual limit of 20 seconds a document.
    #[must_use]
    pub fn new(program: PathBuf, arguments: Vec<String>) -> Self {
        Self { program, arguments, limit: Duration::from_secs(SECONDS) }
    }

    /// Reads a document; ends within the time limit.
    pub(crate) fn read(&self, file: File, format: Format) -> Result<Answer, Refusal> {
        let fail = |error: std::io::Error| Refusal::NoWorker(error.to_string());
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .arg(format.name())
            // In KiB. The reserve of mimalloc, by default 1 GiB, is mapped before the limit of memory is set
            // and would count as the program's own.
            .env("MIMALLOC_ARENA_RESERVE", "32768")
            .stdin(file)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(fail)?;
        let output = listen(&mut child, self.limit);
        let status = child.kill().and_then(|()| child.wait());
        let output = output.map_err(|_| Refusal::Slow(self.limit.as_secs()))?;
        match status.map_err(fail)?.code() {
            Some(0) => {}
            Some(PANICKED) => return Err(Refusal::Broken),
            Some(_) => return Err(Refusal::NoWorker("its process failed at its start".to_owned())),
            // Ended by a signal: out of memory, or of stack.
            None => return Err(Refusal::Hungry(MEMORY_MIB)),
        }
        let last = output.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        match serde_json::from_slice(last) {
            Ok(Answer::Refused(message)) => Err(Refusal::Told(message)),
            Ok(answer) => Ok(answer),
            Err(_) => Err(Refusal::Broken),
        }
    }
}

/// Everything the process prints until it ends, or nothing when it takes too long.
fn listen(child: &mut Child, limit: Duration) -> Result<Vec<u8>, mpsc::RecvTimeoutError> {
    let (sender, receiver) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        // Ends with the process, whose end of the pipe closes then.
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = output.take(MAX_ANSWER_BYTES).read_to_end(&mut bytes);
            let _ = sender.send(read.map_or_else(|_| Vec::new(), |_| bytes));
        });
    }
    let output = receiver.recv_timeout(limit)?;
    // Its output is closed; its end follows at once, or is brought about by the caller.
    for _ in 0..100 {
        if !matches!(child.try_wait(), Ok(None)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(output)
}
