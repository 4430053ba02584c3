//! Which turns are taken: an expression over what is recorded of each, in the language of preconditions.

use std::collections::HashMap;

use anyhow::Context as _;
use cel::Value;
use proto::{Arm, ExportResponse, HandoffReason, Turn};
use workflow::condition::{Condition, Facts};

/// A compiled `--where`.
pub(super) struct Filter(Condition);

impl Filter {
    /// Compiles an expression.
    ///
    /// # Errors
    /// It does not parse, uses a name that does not exist, or its types do not fit.
    pub(super) fn of(source: &str) -> anyhow::Result<Self> {
        let examples = facts(&Turn::default(), Some(5), Some(true));
        Condition::compile(source, &examples).map(Self).context("--where")
    }

    /// Whether a turn is taken; `None` where that hangs on something that was not said.
    pub(super) fn takes(&self, exported: &ExportResponse, turn: &Turn) -> Option<bool> {
        let (rating, resolved) = said(exported, &turn.turn_id);
        self.0.holds(&facts(turn, rating, resolved)).ok()
    }
}

/// The latest rating and the latest word on whether it is solved: of the turn, else of its conversation.
fn said(exported: &ExportResponse, turn_id: &str) -> (Option<u32>, Option<bool>) {
    let given = || exported.feedback.iter().rev();
    let mut of_turn_first: Vec<_> = given().filter(|one| one.turn_id == turn_id).collect();
    of_turn_first.extend(given().filter(|one| one.turn_id != turn_id));
    let rating = of_turn_first.iter().map(|one| one.rating).find(|rating| *rating > 0);
    (rating, of_turn_first.iter().find_map(|one| one.resolved))
}

fn facts(turn: &Turn, rating: Option<u32>, resolved: Option<bool>) -> Facts {
    let intent = turn.intent.clone().unwrap_or_default();
    let reason = turn.handoff.as_ref().map_or(HandoffReason::Unspecified, |notice| notice.reason());
    let values: HashMap<&'static str, Value> = HashMap::from([
        ("rating", rating.map_or(Value::Null, |rating| Value::Int(rating.into()))),
        ("resolved", resolved.map_or(Value::Null, Value::Bool)),
        ("outcome", word(turn.outcome().as_str_name(), "OUTCOME_")),
        ("reason", word(reason.as_str_name(), "HANDOFF_REASON_")),
        ("intent", Value::from(intent.name)),
        ("category", Value::from(intent.category)),
        ("arm", word(Arm::as_str_name(&turn.arm()), "ARM_")),
        ("model", Value::from(turn.model.as_str())),
        ("confidence", Value::Float(intent.confidence)),
        ("bundle", Value::from(turn.bundle.as_str())),
    ]);
    Facts { values, ..Facts::default() }
}

/// A value of an enum in small letters, empty for none.
fn word(name: &str, prefix: &str) -> Value {
    let word = name.trim_start_matches(prefix).to_lowercase();
    Value::from(if word == "unspecified" { String::new() } else { word })
}

#[cfg(test)]
mod tests {
    use proto::{Feedback, Outcome};

    use super::*;

    fn exported(feedback: Vec<Feedback>) -> ExportResponse {
        ExportResponse { feedback, ..ExportResponse::default() }
    }

    #[test]
    fn what_was_not_said_is_neither_true_nor_false_and_a_turns_own_rating_counts_first() {
        let mut turn = Turn { turn_id: "t1".to_owned(), ..Turn::default() };
        turn.set_outcome(Outcome::Answered);
        let about = |turn_id: &str, rating: u32| Feedback {
            turn_id: turn_id.to_owned(),
            rating,
            ..Feedback::default()
        };
        let silent = exported(Vec::new());
        let rated = exported(vec![about("t1", 2), about("t1", 4), about("", 1), about("t2", 0)]);
        let conversation = exported(vec![about("", 1), about("t2", 0)]);
        for (source, given, wanted) in [
            ("outcome == 'answered'", &silent, Some(true)),
            ("rating >= 4", &silent, None),
            ("resolved", &silent, None),
            ("!resolved", &silent, None),
            ("rating >= 4 || outcome == 'answered'", &silent, Some(true)),
            ("rating == 4", &rated, Some(true)),
            ("rating == 1 && confidence < 0.5 && intent == ''", &conversation, Some(true)),
        ] {
            assert_eq!(Filter::of(source).unwrap().takes(given, &turn), wanted, "{source}");
        }
        let unknown = format!("{:#}", Filter::of("ratting > 3").err().unwrap());
        assert!(unknown.starts_with("--where: ratting does not exist, allowed [arm, bundle,"), "{unknown}");
        assert!(Filter::of("rating > 'x'").is_err());
    }
}
