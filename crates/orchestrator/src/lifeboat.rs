//! Messages that want a person and that the journal could not take: a file beside it, until it takes them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto::{HandoffReason, Message, Turn};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::admit::Admission;
use crate::draft::Draft;
use crate::store::{Accepted, Finish};
use crate::turn::{self, Act, Events, Orchestrator};

/// Bytes of the file. They are all written once at the start, so that a full disk does not keep anyone out.
const SIZE: u64 = 4 << 20;
/// Hex digits of the checksum before every entry.
const CHECKSUM: usize = 16;
/// How long a message waits for the journal before it goes to the file: while the journal works, and while it does
/// not. Together with a write of the file the second stays below 50 ms (promises.md, R5).
const PATIENCE: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(20)];

/// A message that reaches a person, as it came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Castaway {
    /// As the journal gets it.
    pub(crate) admission: Admission,
    /// The customer pressed the button; otherwise the message holds the keyword.
    pub(crate) by_button: bool,
}

/// Why a message is not in the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot be written")]
    Write(#[from] io::Error),
    #[error("is full")]
    Full,
}

/// The file. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Lifeboat(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    boat: Mutex<Boat>,
    /// Whether the journal did not answer the last time.
    sick: AtomicBool,
}

#[derive(Debug)]
struct Boat {
    file: File,
    /// Where the next entry goes.
    end: u64,
    aboard: Vec<Castaway>,
}

impl Lifeboat {
    /// Opens or makes the file with what an earlier process left in it.
    ///
    /// # Errors
    /// The file cannot be made or written, or another process has it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.try_lock()?;
        let used = file.metadata()?.len();
        if used < SIZE {
            file.write_all_at(&vec![0; usize::try_from(SIZE - used).unwrap_or(0)], used)?;
            file.sync_all()?;
        }
        let mut bytes = vec![0; usize::try_from(SIZE).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0)?;
        let (aboard, end) = entries(&bytes);
        let boat = Mutex::new(Boat { file, end, aboard });
        Ok(Self(Arc::new(Shared { boat, sick: AtomicBool::new(false) })))
    }

    /// How long a message waits for the journal.
    pub(crate) fn patience(&self) -> Duration {
        PATIENCE[usize::from(self.0.sick.load(Ordering::Relaxed))]
    }

    /// Whether the journal answered.
    pub(crate) fn heard(&self, answered: bool) {
        self.0.sick.store(!answered, Ordering::Relaxed);
    }

    /// Keeps a message; when this returns, it is on disk. The same request again is the one that is there.
    ///
    /// # Errors
    /// The file is full or cannot be written.
    pub(crate) async fn take(&self, castaway: Castaway) -> Result<Castaway, Error> {
        let shared = self.0.clone();
        let taken = tokio::task::spawn_blocking(move || shared.boat().take(castaway)).await;
        taken.unwrap_or_else(|ended| Err(Error::Write(io::Error::other(ended))))
    }

    /// Who is in it, oldest first.
    pub(crate) fn aboard(&self) -> Vec<Castaway> {
        self.0.boat().aboard.clone()
    }

    /// Forgets everybody, if they are still these many.
    pub(crate) async fn land(&self, aboard: usize) -> io::Result<()> {
        let shared = self.0.clone();
        let landed = tokio::task::spawn_blocking(move || shared.boat().land(aboard)).await;
        landed.unwrap_or_else(|ended| Err(io::Error::other(ended)))
    }
}

impl Shared {
    fn boat(&self) -> MutexGuard<'_, Boat> {
        self.boat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Boat {
    fn take(&mut self, castaway: Castaway) -> Result<Castaway, Error> {
        let mut aboard = self.aboard.iter();
        if let Some(known) = aboard.find(|known| known.admission.turn_id == castaway.admission.turn_id) {
            return Ok(known.clone());
        }
        // Behind it the end is marked in the same write: what an earlier, longer list left there does not count.
        let line = [line(&castaway)?, vec![0]].concat();
        let end = self.end + line.len() as u64;
        if end > SIZE {
            return Err(Error::Full);
        }
        self.file.write_all_at(&line, self.end)?;
        self.file.sync_data()?;
        self.end = end - 1;
        self.aboard.push(castaway.clone());
        Ok(castaway)
    }

    /// Overwrites them with nothing: what customers said does not stay here.
    fn land(&mut self, aboard: usize) -> io::Result<()> {
        if self.aboard.len() != aboard {
            return Ok(());
        }
        self.file.write_all_at(&vec![0; usize::try_from(self.end).unwrap_or(0)], 0)?;
        self.file.sync_data()?;
        self.end = 0;
        self.aboard.clear();
        Ok(())
    }
}

impl Orchestrator {
    /// Message, outcome and handoff in one commit, without asking anyone. While the journal does not answer, the
    /// message is on disk here and the answer is the one that the journal will have.
    pub(crate) async fn override_turn(
        &self,
        message: &Message,
        act: &Act,
        events: Events,
    ) -> Result<Turn, turn::Error> {
        let by_button = *act == Act::AskForPerson;
        let castaway = Castaway { admission: self.admit(message, act).pinned(message), by_button };
        let accept = self.journal.accept(castaway.admission.clone(), Some(self.override_end(&castaway)));
        let answered = timeout(self.lifeboat.patience(), accept).await.unwrap_or(Err(sql::Error::Timeout));
        self.lifeboat.heard(answered.is_ok());
        let accepted = match answered {
            Ok(accepted) => accepted,
            Err(error) => Accepted::Done(Box::new(self.cast_away(castaway, error).await?)),
        };
        self.spooled.notify_one();
        self.known(&events, &message.text, accepted).await
    }

    async fn cast_away(&self, castaway: Castaway, error: sql::Error) -> Result<Turn, turn::Error> {
        let turn_id = castaway.admission.turn_id.clone();
        match self.lifeboat.take(castaway).await {
            Ok(taken) => {
                tracing::error!(turn_id, %error, "the journal does not answer: the handoff waits in the lifeboat");
                Ok(self.override_end(&taken).turn)
            }
            Err(full) => {
                tracing::error!(turn_id, error = %full, "the lifeboat takes nobody");
                Err(error.into())
            }
        }
    }

    fn override_end(&self, castaway: &Castaway) -> Finish {
        let mut draft = Draft::new(self, &castaway.admission, Instant::now(), None);
        let (decision, reason) = if castaway.by_button {
            ("the customer asked for a person by button", HandoffReason::UserRequest)
        } else {
            ("the message holds the keyword for a person", HandoffReason::UserKeyword)
        };
        draft.note(decision);
        draft.hand_over(reason);
        draft.end()
    }

    /// Brings those in the lifeboat to the journal, each once however often it is tried.
    pub(crate) async fn land(&self) -> Result<(), turn::Error> {
        let aboard = self.lifeboat.aboard();
        let n = aboard.len();
        let mut landed = 0;
        for castaway in aboard {
            landed += usize::from(self.land_one(castaway).await?);
            self.lifeboat.heard(true);
        }
        if n > 0 && landed == n {
            self.spooled.notify_one();
            tracing::info!(handoffs = n, "the lifeboat has landed");
            let cleared = self.lifeboat.land(n).await;
            cleared.unwrap_or_else(|error| tracing::warn!(%error, "the lifeboat is not cleared yet"));
        }
        Ok(())
    }

    /// `false` while another process has the same request in hand.
    async fn land_one(&self, mut castaway: Castaway) -> Result<bool, turn::Error> {
        loop {
            let end = self.override_end(&castaway);
            match self.journal.accept(castaway.admission.clone(), Some(end)).await? {
                Accepted::Busy => return Ok(false),
                Accepted::Orphan { turn_id } => {
                    self.reap_one(&turn_id).await?;
                    return Ok(true);
                }
                // Who was told that a person comes gets one, also if the journal would have refused the message.
                Accepted::Conflict => castaway.admission.request_id = None,
                Accepted::Foreign => {
                    castaway.admission.conversation_id.clone_from(&castaway.admission.turn_id)
                }
                Accepted::Done(_) | Accepted::New(_) | Accepted::Stale => return Ok(true),
            }
        }
    }
}

fn checksum(json: &[u8]) -> String {
    blake3::hash(json).to_hex()[..CHECKSUM].to_owned()
}

fn line(castaway: &Castaway) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(castaway)?;
    Ok([checksum(&json).as_bytes(), &json, b"\n"].concat())
}

/// The entries up to the first that is not whole, and where they end.
fn entries(bytes: &[u8]) -> (Vec<Castaway>, u64) {
    let (mut found, mut end) = (Vec::new(), 0);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let whole = line.strip_suffix(b"\n").and_then(|line| line.split_at_checked(CHECKSUM));
        let whole = whole.filter(|(sum, json)| checksum(json).as_bytes() == *sum);
        let Some(castaway) = whole.and_then(|(_, json)| serde_json::from_slice(json).ok()) else { break };
        found.push(castaway);
        end += line.len() as u64;
    }
    (found, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn castaway(request: &str, text: &str) -> Castaway {
        let admission = Admission {
            turn_id: format!("t_{request}{}", text.len()),
            conversation_id: "c".to_owned(),
            customer_key: String::new(),
            request_id: Some(request.to_owned()).filter(|id| !id.is_empty()),
            fingerprint: *blake3::hash(text.as_bytes()).as_bytes(),
            trace_id: String::new(),
            text: text.to_owned(),
            masked: None,
            accepted_at: 7,
            lease: 1,
            history: 0,
            consent: 0,
            confirms: None,
        };
        Castaway { admission, by_button: false }
    }

    #[tokio::test]
    async fn what_was_taken_is_there_after_a_crash_once_and_what_was_torn_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lifeboat");
        let boat = Lifeboat::open(&path).unwrap();
        assert!(Lifeboat::open(&path).is_err(), "one process at a time");
        let (long, short) = (castaway("", &"agent\n".repeat(50)), castaway("r1", "agent"));
        for one in [&long, &short, &short] {
            assert_eq!(boat.take(one.clone()).await.unwrap(), *one);
        }
        let mut again = short.clone();
        again.admission.accepted_at = 8;
        assert_eq!(boat.take(again).await.unwrap(), short, "the same request");
        let other = castaway("r1", "another agent");
        assert_eq!(boat.take(other.clone()).await.unwrap(), other, "the same id for another message");
        drop(boat);
        let boat = Lifeboat::open(&path).unwrap();
        assert_eq!(boat.aboard(), [long.clone(), short.clone(), other]);

        boat.land(2).await.unwrap();
        assert_eq!(boat.aboard().len(), 3, "one came in meanwhile");
        boat.land(3).await.unwrap();
        boat.take(short.clone()).await.unwrap();
        drop(boat);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let whole = line(&short).unwrap().len() as u64;
        file.write_all_at(&line(&long).unwrap()[..40], whole).unwrap();
        let boat = Lifeboat::open(&path).unwrap();
        assert_eq!(boat.aboard(), [short]);
        let text = std::fs::read(&path).unwrap();
        assert!(!text.windows(11).any(|bytes| bytes == b"agent\\nagent"), "what was landed is overwritten");
    }

    #[tokio::test]
    async fn a_full_file_refuses_and_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let boat = Lifeboat::open(&folder.path().join("lifeboat")).unwrap();
        let large = |one: usize| castaway("", &"x".repeat((1 << 20) - one));
        let mut taken = 0;
        while boat.take(large(taken)).await.is_ok() {
            taken += 1;
        }
        assert_eq!(taken, 3);
        assert!(matches!(boat.take(large(9)).await, Err(Error::Full)));
        boat.take(castaway("", "agent")).await.unwrap();
        assert_eq!(boat.aboard().len(), 4);
    }
}
