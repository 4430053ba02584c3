//! What became of conversations.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::sample::{Sample, Step};
use super::window::{Rating, hashed};
use crate::record::{Outcome, Reason};

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3600 * SECOND;
/// Silence after which a conversation counts as closed.
const CLOSED: i64 = HOUR;
/// Silence after which a problem is assumed to be solved.
const QUIET: i64 = 72 * HOUR;
/// A customer who comes back for the same within this time had no solution.
const RETURN: i64 = 7 * 24 * HOUR;

/// The hasher of keys that are hashes already.
#[derive(Debug, Default)]
struct Identity(u64);

impl std::hash::Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// One conversation. Names are kept as hashes, 0 for none.
#[derive(Debug, Clone, Copy, Default)]
struct Conversation {
    /// Whether the assistant replied, or tried to.
    attempted: bool,
    /// Reasons of its handoffs, a bit each.
    reasons: u32,
    /// Whether a person was asked for before the assistant tried.
    person_first: bool,
    /// Whether it waits for the customer's yes to a workflow.
    waits: bool,
    /// Whether it was led to a workflow or a person.
    routed: bool,
    misrouted: bool,
    rated: bool,
    resolved: Option<bool>,
    customer: u64,
    first_intent: u64,
    last_intent: u64,
    first_us: i64,
    last_us: i64,
}

impl Conversation {
    fn escalated(&self) -> bool {
        self.reasons != 0
    }

    /// Whether a person took over for a reason that is planned, or for one that is not.
    fn for_reasons(&self, planned: bool) -> bool {
        Reason::ALL
            .into_iter()
            .any(|reason| self.reasons & bit(reason) != 0 && reason.is_planned() == planned)
    }

    fn quiet_for(&self, silence: i64, now_us: i64) -> bool {
        now_us - self.last_us >= silence
    }
}

fn bit(reason: Reason) -> u32 {
    1 << reason as u8
}

/// How many conversations came to what. All but `all` and `person_first` are of `attempted`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Standing {
    pub(super) all: u64,
    /// A person was asked for before the assistant tried.
    pub(super) person_first: u64,
    /// The assistant replied, or tried to.
    pub(super) attempted: u64,
    pub(super) rated: u64,
    pub(super) escalated: u64,
    pub(super) planned: u64,
    pub(super) unplanned: u64,
    /// By reason, in the order of `Reason::ALL`.
    pub(super) by_reason: [u64; Reason::ALL.len()],
    /// Silent for an hour.
    pub(super) closed: u64,
    /// Closed without a person.
    pub(super) contained: u64,
    /// Silent for 72 hours.
    pub(super) ripe: u64,
    /// The customer said that it is solved, and no person took over.
    pub(super) confirmed: u64,
    /// Silent for 72 hours without a person and without a word about it.
    pub(super) assumed: u64,
    /// Of confirmed and assumed ones: the customer came back for the same within 7 days.
    pub(super) reversed: u64,
    /// Of confirmed ones.
    pub(super) confirmed_reversed: u64,
    /// Led to a workflow or a person.
    pub(super) routed: u64,
    pub(super) misrouted: u64,
}

/// The conversations of a group of turns.
#[derive(Debug, Default)]
pub(super) struct Conversations(HashMap<u64, Conversation, BuildHasherDefault<Identity>>);

impl Conversations {
    /// Adds a turn, of which `greets` says whether its reply is no more than a greeting; returns whether the
    /// customer rejected a workflow at its confirmation.
    pub(super) fn add(&mut self, turn: &Sample<'_>, greets: bool) -> bool {
        let intent = hashed(turn.kind.intent);
        let known = self.0.entry(hashed(turn.conversation_id)).or_insert(Conversation {
            customer: hashed(turn.customer),
            first_us: turn.accepted_us,
            ..Conversation::default()
        });
        known.last_us = turn.accepted_us;
        if turn.muted {
            return false;
        }
        if intent != 0 {
            known.last_intent = intent;
            known.first_intent = if known.first_intent == 0 { intent } else { known.first_intent };
        }
        let handed = turn.outcome == Outcome::Handoff;
        let asked_for = handed
            && matches!(turn.reason, Reason::UserKeyword | Reason::UserRequest | Reason::HumanPreferred);
        known.person_first |= asked_for && !known.attempted;
        known.attempted |= !(asked_for || greets && turn.outcome == Outcome::Answered);
        known.reasons |= if handed { bit(turn.reason) } else { 0 };
        known.routed |= handed || turn.step != Step::Nothing;
        let rejected = known.waits && turn.step == Step::GivenUp;
        known.misrouted |= rejected;
        known.waits = turn.step == Step::Confirmation || (known.waits && turn.step == Step::Nothing);
        rejected
    }

    /// Takes what a customer said; of conversations without a turn in the window nothing is kept.
    pub(super) fn rate(&mut self, rating: &Rating<'_>) {
        if let Some(known) = self.0.get_mut(&hashed(rating.conversation_id)) {
            known.rated |= rating.rating > 0;
            known.resolved = rating.resolved.or(known.resolved);
        }
    }

    /// A person said that it should have been led elsewhere.
    pub(super) fn misroute(&mut self, conversation_id: &str) {
        if let Some(known) = self.0.get_mut(&hashed(conversation_id)) {
            known.misrouted = true;
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// Conversations with a planned and with an unplanned handoff, whether the assistant had tried or not.
    pub(super) fn handed_over(&self) -> (u64, u64) {
        let with = |planned| self.0.values().filter(|known| known.for_reasons(planned)).count() as u64;
        (with(true), with(false))
    }

    /// What they came to at a moment, microseconds since 1970.
    pub(super) fn standing(&self, now_us: i64) -> Standing {
        let mut standing = Standing { all: self.len(), ..Standing::default() };
        let starts = self.starts();
        for known in self.0.values() {
            let later = starts.get(&(known.customer, known.last_intent)).map_or(&[][..], Vec::as_slice);
            let next = later.get(later.partition_point(|start| *start <= known.last_us));
            standing.count(known, next.is_some_and(|start| start - known.last_us <= RETURN), now_us);
        }
        standing
    }
}

impl Conversations {
    /// When each known customer came for an intent, in order.
    fn starts(&self) -> HashMap<(u64, u64), Vec<i64>> {
        let mut starts: HashMap<_, Vec<i64>> = HashMap::new();
        for known in self.0.values().filter(|known| known.customer != 0 && known.first_intent != 0) {
            starts.entry((known.customer, known.first_intent)).or_default().push(known.first_us);
        }
        starts.values_mut().for_each(|starts| starts.sort_unstable());
        starts
    }
}

impl Standing {
    fn count(&mut self, known: &Conversation, returned: bool, now_us: i64) {
        self.person_first += u64::from(known.person_first);
        if !known.attempted {
            return;
        }
        let escalated = known.escalated();
        self.attempted += 1;
        self.rated += u64::from(known.rated);
        self.escalated += u64::from(escalated);
        self.planned += u64::from(known.for_reasons(true));
        self.unplanned += u64::from(known.for_reasons(false));
        for (count, reason) in self.by_reason.iter_mut().zip(Reason::ALL) {
            *count += u64::from(known.reasons & bit(reason) != 0);
        }
        // Whatever became of it: who counted escalations at once and the rest later would see too many of them.
        self.closed += u64::from(known.quiet_for(CLOSED, now_us));
        self.contained += u64::from(!escalated && known.quiet_for(CLOSED, now_us));
        self.ripe += u64::from(known.quiet_for(QUIET, now_us));
        self.routed += u64::from(known.routed);
        self.misrouted += u64::from(known.routed && known.misrouted);
        let confirmed = !escalated && known.resolved == Some(true);
        let assumed = !escalated && known.resolved.is_none() && known.quiet_for(QUIET, now_us);
        self.confirmed += u64::from(confirmed);
        self.assumed += u64::from(assumed);
        self.reversed += u64::from((confirmed || assumed) && returned);
        self.confirmed_reversed += u64::from(confirmed && returned);
    }
}
