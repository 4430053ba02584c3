//! `firstline gaps`: what customers asked and did not get from the bot.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use clap::Args;
use kit::config::Settings;
use learn::Ngrams;
use proto::{HandoffReason, Outcome};
use serde_json::{Value, json};

use super::conversation::{Conversation, Open, Said};
use super::export::Source;
use super::short;
use super::window::Window;
use crate::desk::Running;
use crate::show;

/// Least likeness of two groups of questions that are put together, chosen on training questions of CLINC150 and
/// BANKING77. Of 2000 of each, 78 and 64 in 100 then belong to the intent that most of their group belong to (V-measure
/// 0.84 and 0.72), of 300 of each 73 and 72 (0.90 and 0.83), of 400 of forty intents of CLINC150 92 (0.86).
const LIKENESS: f32 = 0.2;
/// Different questions that are put together; the most frequent ones where there are more.
const MAX_QUESTIONS: usize = 4000;
/// Different questions that are remembered while they are counted.
const MAX_COUNTED: usize = 100_000;
/// Examples and replies that are shown of each gap.
const SHOWN: usize = 3;
const SHOWN_CHARS: usize = 200;

#[derive(Args)]
pub(crate) struct GapsArgs {
    /// Only turns of so long ago and later, such as 7d or 12h
    #[arg(long, value_name = "TIME", default_value = "7d")]
    window: Window,
    /// Only groups of at least so many questions, from 1
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    least: u32,
    #[command(flatten)]
    at: Running,
}

/// Prints the questions that ended without knowledge or with a person, those alike together, the most frequent first.
pub(crate) async fn gaps(settings: &Settings, args: GapsArgs, as_json: bool) -> anyhow::Result<bool> {
    let source = Source::at(&args.at, settings)?;
    let now = jiff::Timestamp::now();
    let mut records = source.records(Some(args.window.before(now)?), now, true).await?;
    let (mut open, mut questions) = (Open::default(), Questions::default());
    while let Some(exported) = source.next(&mut records).await? {
        open.add(&exported, None).iter().for_each(|complete| questions.take(complete));
    }
    open.end().iter().for_each(|complete| questions.take(complete));
    let (gaps, rare) = questions.gaps();
    if rare > 0 {
        eprintln!("{rare} rare questions are left out: choose a shorter --window");
    }
    for gap in gaps.iter().filter(|gap| gap.count >= args.least) {
        show::line(&if as_json { gap.told().to_string() } else { gap.lines() });
    }
    Ok(true)
}

/// What was asked, in the same words or in others.
#[derive(Debug, Default)]
struct Gap {
    count: u32,
    customers: BTreeSet<u64>,
    /// By how it ended.
    reasons: BTreeMap<String, u32>,
    /// As it was asked, masked; one for what was asked in the same words.
    examples: Vec<String>,
    /// What people answered, masked.
    replies: Vec<String>,
}

impl Gap {
    /// Takes another one in.
    fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.customers.extend(&other.customers);
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason.clone()).or_default() += count;
        }
        for (mine, theirs) in [(&mut self.examples, &other.examples), (&mut self.replies, &other.replies)] {
            let free = SHOWN.saturating_sub(mine.len());
            mine.extend(theirs.iter().take(free).cloned());
        }
    }

    fn told(&self) -> Value {
        json!({
            "count": self.count,
            "customers": self.customers.len(),
            "reasons": self.reasons,
            "examples": self.examples,
            "replies": self.replies,
        })
    }

    fn lines(&self) -> String {
        let reasons = self.reasons.iter().map(|(reason, count)| format!("{reason} {count}"));
        let reasons = reasons.collect::<Vec<_>>().join(", ");
        let mut lines = vec![format!("{}, customers: {}, {reasons}", self.count, self.customers.len())];
        let shown = |sign: &'static str| {
            move |text: &String| format!("  {sign} {}", show::excerpt(text, SHOWN_CHARS))
        };
        lines.extend(self.examples.iter().map(shown("?")));
        lines.extend(self.replies.iter().map(shown(">")));
        lines.join("\n")
    }
}

/// How a question that the bot did not answer for good ended; `None` where it did, or where the question is not known.
fn ending(said: &Said, next: Option<&Said>) -> Option<String> {
    use HandoffReason::{
        Loop, LowConfidence, NoKnowledge, OutOfScope, Sentiment, Ungrounded, UserKeyword, UserRequest,
    };
    let unknown = [NoKnowledge, Ungrounded, LowConfidence, OutOfScope, Loop, Sentiment, UserRequest];
    let name =
        |reason: HandoffReason| reason.as_str_name().trim_start_matches("HANDOFF_REASON_").to_lowercase();
    if said.question.trim().is_empty() || said.only_calls() {
        return None;
    }
    if said.outcome == Outcome::Handoff {
        return unknown.contains(&said.reason).then(|| name(said.reason));
    }
    let called = next.filter(|next| next.reason == UserKeyword || next.only_calls());
    called
        .map(|next| name(next.reason))
        .or_else(|| (!said.demonstration.is_empty()).then(|| "corrected_by_a_person".to_owned()))
}

/// Questions by their words in the normal form.
#[derive(Debug, Default)]
struct Questions {
    of: HashMap<String, Gap>,
    uncounted: u64,
}

impl Questions {
    /// Takes the gaps of a conversation.
    fn take(&mut self, conversation: &Conversation) {
        for (at, said) in conversation.turns.iter().enumerate() {
            let Some(reason) = ending(said, conversation.turns.get(at + 1)) else { continue };
            let normal = text::normalise(&said.question);
            let normal = text::words(&normal).collect::<Vec<_>>().join(" ");
            if self.of.len() >= MAX_COUNTED && !self.of.contains_key(&normal) {
                self.uncounted += 1;
                continue;
            }
            let reply = Some(&said.demonstration).filter(|reply| !reply.is_empty());
            let one = Gap {
                count: 1,
                customers: BTreeSet::from([short(&conversation.customer)]),
                reasons: BTreeMap::from([(reason, 1)]),
                examples: Vec::new(),
                replies: reply.into_iter().map(|reply| personal::mask(reply)).collect(),
            };
            let question = self.of.entry(normal).or_default();
            question.join(&one);
            if question.examples.is_empty() {
                question.examples.push(personal::mask(said.question.trim()));
            }
        }
    }

    /// Those alike together, the most frequent first, and how many different questions were too rare to be compared.
    fn gaps(self) -> (Vec<Gap>, u64) {
        let mut questions: Vec<_> = self.of.into_iter().collect();
        questions.sort_by(|one, other| other.1.count.cmp(&one.1.count).then_with(|| one.0.cmp(&other.0)));
        let rare = questions.split_off(questions.len().min(MAX_QUESTIONS));
        let ngrams: Vec<_> = questions.iter().map(|(normal, _)| Ngrams::of_normal(normal)).collect();
        let counts = questions.iter().map(|(_, question)| question.count);
        let weighed: Vec<_> = ngrams.iter().zip(counts).collect();
        let together = |places: Vec<usize>| {
            let mut gap = Gap::default();
            places.into_iter().for_each(|place| gap.join(&questions[place].1));
            gap
        };
        let mut gaps: Vec<_> = learn::clusters(&weighed, LIKENESS).into_iter().map(together).collect();
        gaps.sort_by_key(|gap| std::cmp::Reverse(gap.count));
        (gaps, self.uncounted + rare.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(question: &str, outcome: Outcome, reason: HandoffReason, demonstration: &str) -> Said {
        let (question, demonstration) = (question.to_owned(), demonstration.to_owned());
        Said { question, outcome, reason, demonstration, ..Said::default() }
    }

    #[test]
    fn questions_that_ended_with_a_person_come_together_and_those_answered_stay_out() {
        use HandoffReason::{GuardError, NoKnowledge, Unspecified, UserKeyword, UserRequest};
        use Outcome::{Answered, Handoff};
        let conversations = [
            (
                "ann",
                vec![turn(
                    "Do you deliver to Norway?",
                    Handoff,
                    NoKnowledge,
                    "Yes, write to ann@example.com.",
                )],
            ),
            ("ann", vec![turn("do you deliver to norway", Handoff, NoKnowledge, "")]),
            (
                "bob",
                vec![
                    turn("When is delivery to Norway possible?", Answered, Unspecified, ""),
                    turn("", Handoff, UserKeyword, ""),
                ],
            ),
            (
                "cid",
                vec![
                    turn("The kettle leaks", Answered, Unspecified, "Send it back."),
                    turn("a person please", Handoff, UserRequest, ""),
                    turn("And toasters?", Answered, Unspecified, ""),
                ],
            ),
            ("dan", vec![turn("Is this on?", Handoff, GuardError, "")]),
            ("eve", vec![turn("Is payment by cheque possible?", Answered, Unspecified, "By card.")]),
        ];
        let mut questions = Questions::default();
        for (customer, turns) in conversations {
            let customer = customer.to_owned();
            questions.take(&Conversation { customer, turns, ..Conversation::default() });
        }
        let (gaps, rare) = questions.gaps();
        let mut told: Vec<_> = gaps.iter().map(Gap::told).collect();
        told[1..].sort_by_key(ToString::to_string);
        let wanted = [
            json!({ "count": 3, "customers": 2, "reasons": { "no_knowledge": 2, "user_keyword": 1 },
                "examples": ["Do you deliver to Norway?", "When is delivery to Norway possible?"],
                "replies": ["Yes, write to [EMAIL_ADDRESS]."] }),
            json!({ "count": 1, "customers": 1, "reasons": { "corrected_by_a_person": 1 },
                "examples": ["Is payment by cheque possible?"], "replies": ["By card."] }),
            json!({ "count": 1, "customers": 1, "reasons": { "user_request": 1 },
                "examples": ["The kettle leaks"], "replies": ["Send it back."] }),
        ];
        assert_eq!((told, rare), (wanted.to_vec(), 0));
    }
}
