//! Decisions of a turn that need nothing but what the stages said: pure functions.

use bundle::Assistant;
use proto::{HandoffReason, Intent, IntentDecision, SafetyAction, SafetyStatus, Verdict};

/// What the safety verdict allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// Go on.
    Open,
    /// Refuse with the verdict's message.
    Blocked,
    /// A person takes over.
    Person(HandoffReason),
}

/// Anything but a clear "allow" of a rail that ran to its end keeps the turn from going on.
pub(crate) fn safety(verdict: &Verdict) -> Passage {
    match (verdict.status(), verdict.action()) {
        (SafetyStatus::Ok, SafetyAction::Allow | SafetyAction::Rewrite) => Passage::Open,
        (SafetyStatus::Ok, SafetyAction::Escalate) => Passage::Person(HandoffReason::SafetyPolicy),
        (_, SafetyAction::Block) => Passage::Blocked,
        _ => Passage::Person(HandoffReason::GuardError),
    }
}

/// Why a verdict holds something of ours back from the customer or from its effect.
pub(crate) fn held(verdict: &Verdict) -> Option<HandoffReason> {
    match safety(verdict) {
        Passage::Open => None,
        Passage::Blocked => Some(HandoffReason::SafetyPolicy),
        Passage::Person(reason) => Some(reason),
    }
}

/// Whether the classifier has a guess it does not stand for.
pub(crate) fn is_unsure(intent: &Intent) -> bool {
    matches!(intent.decision(), IntentDecision::Ambiguous | IntentDecision::LowConfidence)
}

/// Whether a reason for no answer ends the turn, where a question back to the customer would be possible.
pub(crate) fn ends(reason: HandoffReason) -> bool {
    matches!(reason, HandoffReason::GuardError | HandoffReason::SafetyPolicy)
}

/// What the classification leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// The intent stands.
    Go,
    /// Ask the customer to choose, or offer a person when there is nothing to choose from.
    Ask(Vec<Choice>),
    /// A person takes over.
    Person(HandoffReason),
}

/// One intent the customer may choose.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Choice {
    pub(crate) name: String,
    pub(crate) title: String,
}

/// A question the customer has not answered yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Pending {
    /// The message that led to the question.
    pub(crate) question: String,
    /// The turn of that message.
    pub(crate) turn_id: String,
    /// What may be chosen; empty means a person was offered.
    pub(crate) choices: Vec<Choice>,
    /// Whether it waits for the end of a workflow; then it is asked.
    #[serde(default)]
    pub(crate) later: bool,
}

/// Routes by the decision of the classifier; `asked` questions of `most` are used up.
pub(crate) fn route(intent: &Intent, asked: u32, most: u32) -> Route {
    let choices = || {
        let best = Choice { name: intent.name.clone(), title: intent.title.clone() };
        let next = intent
            .alternatives
            .iter()
            .map(|other| Choice { name: other.name.clone(), title: other.title.clone() });
        let known = std::iter::once(best).chain(next).filter(|choice| !choice.name.is_empty());
        known.take(2).collect()
    };
    match intent.decision() {
        IntentDecision::Accept => Route::Go,
        IntentDecision::Person => Route::Person(HandoffReason::UserRequest),
        IntentDecision::OutOfScope | IntentDecision::Language if asked >= most => {
            Route::Person(HandoffReason::OutOfScope)
        }
        IntentDecision::OutOfScope | IntentDecision::Language => Route::Ask(Vec::new()),
        _ if asked >= most => Route::Person(HandoffReason::LowConfidence),
        _ => Route::Ask(choices()),
    }
}

/// The choice a reply names: by its number, its place, the words of its title, or a yes to the only one.
pub(crate) fn chosen<'c>(choices: &'c [Choice], reply: &str) -> Option<&'c Choice> {
    const PLACES: [[&str; 4]; 2] =
        [["1", "one", "first", "the first one"], ["2", "two", "second", "the second one"]];
    let said = text::plain(reply);
    let by_place =
        PLACES.iter().position(|names| names.contains(&said.as_str())).and_then(|index| choices.get(index));
    let only = choices.first().filter(|_| choices.len() == 1 && takes_offer(reply));
    by_place.or(only).or_else(|| {
        choices.iter().find(|choice| {
            let title = text::plain(&choice.title);
            !title.is_empty() && said.contains(&title)
        })
    })
}

/// Whether a reply begins with a yes.
pub(crate) fn takes_offer(reply: &str) -> bool {
    const YES: [&str; 10] = ["yes", "yeah", "yep", "yup", "sure", "ok", "okay", "please", "definitely", "y"];
    let normal = text::normalise(reply);
    text::words(&normal).next().is_some_and(|word| YES.contains(&word))
}

/// The question that offers the choices, or a person; `foreign` when the customer's language is not served.
pub(crate) fn question(assistant: &Assistant, choices: &[Choice], foreign: bool) -> String {
    match choices {
        [] if foreign => {
            let served: Vec<String> = assistant.locales.iter().map(|tag| language(tag)).collect();
            let served = served.join(", ");
            format!("I can help in {served} only. Shall I connect you with a colleague?")
        }
        [] => {
            let topics: Vec<&str> =
                assistant.categories.values().map(|category| category.title.as_str()).collect();
            format!(
                "I cannot help with that. I can help with: {}. Shall I connect you with a colleague?",
                topics.join(", ")
            )
        }
        [only] => format!("Is this about: {}? If not, please describe it in other words.", only.title),
        several => {
            let lines =
                several.iter().enumerate().map(|(index, choice)| format!("{}. {}", index + 1, choice.title));
            format!("Which of these do you mean?\n{}", lines.collect::<Vec<_>>().join("\n"))
        }
    }
}

/// The English name of the language of a BCP 47 tag, the tag itself where it is a rare one.
fn language(tag: &str) -> String {
    let name = match tag.split(['-', '_']).next().unwrap_or_default() {
        "ar" => "Arabic",
        "cs" => "Czech",
        "da" => "Danish",
        "de" => "German",
        "en" => "English",
        "es" => "Spanish",
        "fi" => "Finnish",
        "fr" => "French",
        "hi" => "Hindi",
        "it" => "Italian",
        "ja" => "Japanese",
        "ko" => "Korean",
        "nl" => "Dutch",
        "no" | "nb" | "nn" => "Norwegian",
        "pl" => "Polish",
        "pt" => "Portuguese",
        "ru" => "Russian",
        "sv" => "Swedish",
        "tr" => "Turkish",
        "uk" => "Ukrainian",
        "vi" => "Vietnamese",
        "zh" => "Chinese",
        _ => tag,
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(name: &str, title: &str) -> Choice {
        Choice { name: name.into(), title: title.into() }
    }

    #[test]
    fn only_an_ok_allow_or_rewrite_goes_on() {
        let all = [
            SafetyAction::Unspecified,
            SafetyAction::Allow,
            SafetyAction::Rewrite,
            SafetyAction::Escalate,
            SafetyAction::Block,
        ];
        for action in all {
            for status in
                [SafetyStatus::Unspecified, SafetyStatus::Ok, SafetyStatus::Error, SafetyStatus::Timeout]
            {
                let verdict = Verdict { action: action.into(), status: status.into(), ..Verdict::default() };
                let open = status == SafetyStatus::Ok
                    && matches!(action, SafetyAction::Allow | SafetyAction::Rewrite);
                assert_eq!(safety(&verdict) == Passage::Open, open, "{action:?} {status:?}");
            }
        }
    }

    #[test]
    fn a_reply_chooses_by_number_place_or_title() {
        let choices =
            [choice("lost_card", "Report a lost card"), choice("stolen_card", "Report a stolen card")];
        for (reply, name) in [
            ("1", Some("lost_card")),
            ("2.", Some("stolen_card")),
            ("the second one", Some("stolen_card")),
            ("Report a lost card!", Some("lost_card")),
            ("I want to report a stolen card", Some("stolen_card")),
            ("none of these", None),
            ("yes please", None),
            ("", None),
        ] {
            assert_eq!(chosen(&choices, reply).map(|choice| choice.name.as_str()), name, "{reply}");
        }
        assert_eq!(chosen(&choices[1..], "yes please"), choices.get(1));
    }

    #[test]
    fn questions_end_after_the_allowed_number() {
        let mut intent = Intent { name: "a".into(), ..Intent::default() };
        for decision in
            [IntentDecision::Ambiguous, IntentDecision::LowConfidence, IntentDecision::Unspecified]
        {
            intent.set_decision(decision);
            assert!(matches!(route(&intent, 1, 2), Route::Ask(_)));
            assert_eq!(route(&intent, 2, 2), Route::Person(HandoffReason::LowConfidence));
        }
        for decision in [IntentDecision::OutOfScope, IntentDecision::Language] {
            intent.set_decision(decision);
            assert_eq!(route(&intent, 1, 2), Route::Ask(Vec::new()));
            assert_eq!(route(&intent, 2, 2), Route::Person(HandoffReason::OutOfScope));
        }
        intent.set_decision(IntentDecision::Person);
        assert_eq!(route(&intent, 0, 2), Route::Person(HandoffReason::UserRequest));
    }
}
