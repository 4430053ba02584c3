//! The passage rail: asked once for each passage under a policy, since its verdict depends on nothing else.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto::{Passage, SafetyStatus, Verdict};

use crate::draft::Draft;
use crate::gate;
use crate::stages::Failure;
use crate::turn::Orchestrator;

/// Most passages remembered: a few thousand articles.
const REMEMBERED: usize = 16 * 1024;
/// How long: a new version of the rail judges by the same policy, and is heard after this time at most.
const FOR: Duration = Duration::from_secs(600);

type Key = [u8; 32];

/// Whether the rail lets a passage through, by policy and text, and since when that is known.
#[derive(Debug, Default)]
pub(crate) struct Screened(Mutex<HashMap<Key, (bool, Instant)>>);

impl Screened {
    fn known(&self, key: &Key) -> Option<bool> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(_, since)| since.elapsed() < FOR).map(|(open, _)| *open)
    }

    fn remember(&self, key: Key, open: bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, (open, Instant::now()));
    }
}

impl Orchestrator {
    /// Keeps the passages that the rail allows.
    pub(crate) async fn screen(&self, draft: &mut Draft<'_>) -> Result<(), Failure> {
        let policy = draft.turn.safety.as_ref().map(|verdict| verdict.policy_id.clone()).unwrap_or_default();
        let keys: Vec<Key> = draft.passages.iter().map(|passage| key(&policy, passage)).collect();
        let mut open: Vec<Option<bool>> = keys.iter().map(|key| self.screened.known(key)).collect();
        let unknown: Vec<usize> = (0..open.len()).filter(|place| open[*place].is_none()).collect();
        draft.note(format!(
            "passage rail: {} passages, {} seen before",
            open.len(),
            open.len() - unknown.len()
        ));
        if !unknown.is_empty() {
            let passages = unknown.iter().map(|place| draft.passages[*place].clone()).collect();
            let screened = self.stages.screen_passages(passages).await;
            for (place, verdict) in unknown.into_iter().zip(draft.took("safety", screened)?) {
                let allowed = gate::safety(&verdict) == gate::Passage::Open;
                open[place] = Some(allowed);
                if lasts(&verdict, &policy) {
                    self.screened.remember(keys[place], allowed);
                }
            }
        }
        draft.keep_passages(&open);
        Ok(())
    }
}

/// Whether a verdict holds for the next turn too: it ran to its end, under the policy of this turn.
fn lasts(verdict: &Verdict, policy: &str) -> bool {
    verdict.status() == SafetyStatus::Ok && !policy.is_empty() && verdict.policy_id == policy
}

/// What the verdict depends on: the policy and all of the passage that can reach a prompt or an answer.
fn key(policy: &str, passage: &Passage) -> Key {
    let mut hasher = blake3::Hasher::new();
    for part in [policy, &passage.title, &passage.heading, &passage.text] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    *hasher.finalize().as_bytes()
}
