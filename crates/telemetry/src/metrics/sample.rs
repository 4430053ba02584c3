//! One turn as far as metrics need it, and the text it is stored as.

use std::fmt::Write as _;

use super::window::Kind;
use crate::record::{Outcome, Reason, Row};

/// Where a workflow of the turn stands, as far as metrics need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Step {
    /// There is none.
    #[default]
    Nothing = 0,
    /// It waits for the customer's yes.
    Confirmation,
    /// The customer gave it up.
    GivenUp,
    /// Anything else.
    Other,
}

impl Step {
    fn from_number(number: u8) -> Option<Self> {
        [Self::Nothing, Self::Confirmation, Self::GivenUp, Self::Other]
            .into_iter()
            .find(|step| *step as u8 == number)
    }
}

/// Sentences of a written answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grounding {
    /// Written.
    pub claims: u32,
    /// Written without support.
    pub unsupported: u32,
    /// Delivered.
    pub delivered_claims: u32,
    /// Delivered without support.
    pub delivered_unsupported: u32,
}

/// One turn, as far as metrics need it.
#[derive(Debug, Clone)]
pub struct Sample<'a> {
    /// When it was accepted, microseconds since 1970.
    pub accepted_us: i64,
    /// Id of the conversation.
    pub conversation_id: &'a str,
    /// What it may be told apart by.
    pub kind: Kind<'a>,
    /// How the turn ended.
    pub outcome: Outcome,
    /// Why a person took over, when the outcome is a handoff.
    pub reason: Reason,
    /// Whether a person had the conversation already.
    pub muted: bool,
    /// Where its workflow stands.
    pub step: Step,
    /// Hash of the customer's key, empty for nobody known.
    pub customer: &'a str,
    /// Sentences of a written answer.
    pub grounding: Grounding,
    /// What judged them, empty without any.
    pub judge: &'a str,
    /// Prices of its cost, empty without any.
    pub prices: &'a str,
    /// Cost in billionths of a US dollar.
    pub cost_nanos: u64,
    /// Microseconds by stage, and "total".
    pub timings_us: Vec<(&'a str, u64)>,
}

/// What was measured of a turn, such as "3 4 1200 classifier=1250,total=400000, c7": outcome, reason, cost,
/// microseconds by stage, conversation.
pub(crate) fn render(row: &Row) -> String {
    let mut text = format!("{} {} {} ", row.outcome as u8, row.reason as u8, row.cost_nanos);
    for (stage, micros) in &row.timings_us {
        // Writing to a string cannot fail.
        let _ = write!(text, "{stage}={micros},");
    }
    text + " " + &row.conversation_id
}

/// What else is told of a turn, such as "0 1 5 1 4 0 9f3c21\u{1e}support/1 at 0.4\u{1e}": muted, step, the four
/// counts of grounding, customer, judge, prices.
pub(crate) fn render_details(row: &Row) -> String {
    let Grounding { claims, unsupported, delivered_claims, delivered_unsupported } = row.grounding;
    format!(
        "{} {} {claims} {unsupported} {delivered_claims} {delivered_unsupported} {}\u{1e}{}\u{1e}{}",
        u8::from(row.muted),
        row.step as u8,
        row.customer_hash,
        row.judge,
        row.prices
    )
}

/// What `render` and `render_details` wrote; `None` for anything else. Turns of before there were details have
/// empty ones.
pub(crate) fn parse<'a>(
    accepted_us: i64,
    text: &'a str,
    details: &'a str,
    kind: Kind<'a>,
) -> Option<Sample<'a>> {
    let (outcome, text) = cut(text, b' ')?;
    let (reason, text) = cut(text, b' ')?;
    let (cost, text) = cut(text, b' ')?;
    let (mut timings, conversation_id) = cut(text, b' ')?;
    let mut timings_us = Vec::with_capacity(16);
    while !timings.is_empty() {
        let (stage, rest) = cut(timings, b'=')?;
        let (micros, rest) = cut(rest, b',')?;
        timings_us.push((stage, micros.parse().ok()?));
        timings = rest;
    }
    let sample = Sample {
        accepted_us,
        conversation_id,
        kind,
        outcome: Outcome::from_number(outcome.parse().ok()?)?,
        reason: Reason::from_number(reason.parse().ok()?)?,
        muted: false,
        step: Step::Nothing,
        customer: "",
        grounding: Grounding::default(),
        judge: "",
        prices: "",
        cost_nanos: cost.parse().ok()?,
        timings_us,
    };
    if details.is_empty() { Some(sample) } else { with_details(sample, details) }
}

fn with_details<'a>(sample: Sample<'a>, text: &'a str) -> Option<Sample<'a>> {
    let (muted, text) = cut(text, b' ')?;
    let (step, mut text) = cut(text, b' ')?;
    let mut counts = [0; 4];
    for count in &mut counts {
        let (number, rest) = cut(text, b' ')?;
        (*count, text) = (number.parse().ok()?, rest);
    }
    let [claims, unsupported, delivered_claims, delivered_unsupported] = counts;
    let (customer, text) = cut(text, 0x1e)?;
    let (judge, prices) = cut(text, 0x1e)?;
    let grounding = Grounding { claims, unsupported, delivered_claims, delivered_unsupported };
    let step = Step::from_number(step.parse().ok()?)?;
    Some(Sample { muted: muted == "1", step, customer, grounding, judge, prices, ..sample })
}

/// Splits at the first `separator`, an ASCII byte. For so few bytes the block search of `split_once`
/// costs more than it saves.
fn cut(text: &str, separator: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}
