//! Dialogues of the demo's workflows as customers write them, from `dialogues/*.toml`: what each message leads to,
//! what is known after it, and what the bank's systems get in the end.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{ToSpan as _, Zoned};
use proto::{ExecutionState, Outcome, Turn};
use regex::{Captures, Regex};
use serde::Deserialize;
use tests::{Transport, World, demo};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    dialogue: Vec<Dialogue>,
}

/// One conversation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dialogue {
    name: String,
    /// The workflow it begins.
    workflow: String,
    turns: Vec<Said>,
    /// Bodies of the requests the receiver got, in order.
    #[serde(default)]
    bodies: Vec<serde_json::Value>,
}

/// One message. `{day -3}` is three days ago as 2026-11-25, `{on -3}` as 25 November 2026, `{uk -3}` as 25/11/2026,
/// `{short -3}` as 25 November; `{last friday}` and `{next friday}` are 2026-11-27.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    say: String,
    /// `ask SLOT`, `confirm`, `done`, `approval` (which a person then gives), `cancelled`, `answered`, `clarify`, or `handoff REASON`.
    then: String,
    /// The workflow from here on, where it changes.
    workflow: Option<String>,
    /// Values that are new or have changed; an empty one is gone.
    #[serde(default)]
    slots: BTreeMap<String, String>,
    /// What the customer reads, in parts.
    #[serde(default)]
    says: Vec<String>,
}

/// The questions for the slots of the demo's workflows: by workflow and slot, the prompt and what is said instead.
type Questions = BTreeMap<(String, String), Vec<String>>;

fn scripts(today: Date) -> Vec<Dialogue> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |file: &std::path::PathBuf| {
        let text = dated(&std::fs::read_to_string(file).unwrap(), today);
        toml::from_str::<Script>(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())).dialogue
    };
    files.iter().flat_map(read).collect()
}

fn dated(text: &str, today: Date) -> String {
    let token = Regex::new(r"\{(day|on|uk|short|last|next) (-?\w+)\}").unwrap();
    let replace = |found: &Captures<'_>| {
        let to = match &found[2] {
            day if day.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                let step = if &found[1] == "last" { -1 } else { 1 };
                let mut dates = (1..=7).map(|n| today + (n * step).days());
                dates.find(|date| date.weekday() == weekday(day)).unwrap()
            }
            days => today + days.parse::<i64>().unwrap().days(),
        };
        let form = match &found[1] {
            "on" => "%-d %B %Y",
            "uk" => "%d/%m/%Y",
            "short" => "%-d %B",
            _ => "%F",
        };
        to.strftime(form).to_string()
    };
    token.replace_all(text, replace).into_owned()
}

fn weekday(name: &str) -> Weekday {
    match name {
        "monday" => Weekday::Monday,
        "tuesday" => Weekday::Tuesday,
        "friday" => Weekday::Friday,
        other => panic!("{other}: no weekday of a dialogue"),
    }
}

fn questions() -> Questions {
    let workflows = bundle::Reader::open(&demo()).unwrap().workflows().unwrap();
    let of = |workflow: bundle::Workflow| {
        let name = workflow.name;
        workflow.slots.into_iter().map(move |slot| {
            let said = std::iter::once(slot.prompt).chain(slot.invalid).collect();
            ((name.clone(), slot.name), said)
        })
    };
    workflows.into_iter().flat_map(of).collect()
}

/// What a turn led to, in the words of [`Said::then`].
fn outcome(turn: &Turn, questions: &Questions) -> String {
    let status = turn.workflow.clone().unwrap_or_default();
    match turn.outcome() {
        Outcome::ActionPending if status.awaiting_confirmation => "confirm".to_owned(),
        Outcome::ActionPending if status.state() == ExecutionState::AwaitingApproval => "approval".to_owned(),
        Outcome::ActionPending => {
            let asks = |((workflow, _), said): &(&(String, String), &Vec<String>)| {
                *workflow == status.name && said.iter().any(|said| turn.answer.ends_with(said))
            };
            questions
                .iter()
                .find(asks)
                .map_or("ask nothing".to_owned(), |((_, slot), _)| format!("ask {slot}"))
        }
        Outcome::Clarify if status.state() == ExecutionState::Cancelled => "cancelled".to_owned(),
        Outcome::ActionDone => "done".to_owned(),
        Outcome::Handoff => {
            let reason = turn.handoff.as_ref().unwrap().reason().as_str_name();
            format!("handoff {}", reason.trim_start_matches("HANDOFF_REASON_"))
        }
        other => other.as_str_name().trim_start_matches("OUTCOME_").to_lowercase(),
    }
}

/// Holds a dialogue and returns what differs, and the executions it began.
async fn hold(world: &World, dialogue: &Dialogue, questions: &Questions) -> (Vec<String>, Vec<String>) {
    let (mut id, mut slots, mut wrong, mut begun) = (String::new(), BTreeMap::new(), Vec::new(), Vec::new());
    let mut workflow = &dialogue.workflow;
    for said in &dialogue.turns {
        let turn = world.say(&id, &said.say).await;
        id.clone_from(&turn.conversation_id);
        workflow = said.workflow.as_ref().unwrap_or(workflow);
        slots.extend(said.slots.clone());
        slots.retain(|_, value| !value.is_empty());
        let got = outcome(&turn, questions);
        let mut differs = |what: String| {
            wrong.push(format!("  {:?}\n    {what}\n    customer reads: {:?}", said.say, turn.answer));
        };
        if got != said.then {
            differs(format!("{got}, not {}", said.then));
        }
        let missing: Vec<_> = said.says.iter().filter(|part| !turn.answer.contains(*part)).collect();
        if !missing.is_empty() {
            differs(format!("does not say {missing:?}"));
        }
        if got == "approval" {
            let id = turn.workflow.clone().unwrap_or_default().execution_id;
            world.approve(&id).await.unwrap();
        }
        if turn.outcome() != Outcome::Handoff
            && let Some(status) = &turn.workflow
        {
            let known: BTreeMap<_, _> = status.slots.clone().into_iter().collect();
            // Personal data in the values of one that is over is masked.
            let over = status.state() != ExecutionState::Proposed;
            if status.name != *workflow || !over && known != slots {
                differs(format!("{} knows {known:?}, not {workflow} {slots:?}", status.name));
            }
            if over {
                slots.clear();
            }
            begun.push(status.execution_id.clone());
        }
    }
    (wrong, begun)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn customers_get_what_they_came_for() {
    let world = World::start(Transport::Local).await;
    let london = || Zoned::now().with_time_zone(TimeZone::get("Europe/London").unwrap()).date();
    let today = london();
    let (dialogues, questions) = (scripts(today), questions());
    let mut failed = Vec::new();
    for dialogue in &dialogues {
        let (mut wrong, begun) = hold(&world, dialogue, &questions).await;
        let received = world.receiver.received().into_iter().filter(|request| begun.contains(&request.key));
        let bodies: Vec<_> = received.map(|request| request.body).collect();
        if bodies != dialogue.bodies {
            wrong.push(format!("  the receiver got {bodies:?}, not {:?}", dialogue.bodies));
        }
        if !wrong.is_empty() {
            failed.push(format!("{}: {}\n{}", dialogue.workflow, dialogue.name, wrong.join("\n")));
        }
    }
    let sent: usize = dialogues.iter().map(|dialogue| dialogue.bodies.len()).sum();
    let differ = format!("{} of {} dialogues differ:\n{}", failed.len(), dialogues.len(), failed.join("\n"));
    // What "yesterday" means changes at midnight; nothing can be said of a run across it.
    if london() == today {
        assert!(failed.is_empty(), "{differ}");
        assert_eq!(world.receiver.received().len(), sent, "every request belongs to a dialogue");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_without_its_target_is_left_to_a_person_before_anything_is_asked() {
    let world = World::with(Transport::Local, &[("workflow", "targets", "{}")]).await;
    let turn = world.say("", "I lost my card, please block it").await;
    assert_eq!(outcome(&turn, &questions()), "handoff WORKFLOW_FAILED", "{turn:?}");
    assert!(turn.workflow.is_none(), "{turn:?}");
    world.stop().await;
}
