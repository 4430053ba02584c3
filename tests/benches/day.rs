//! What a day costs without any measure and with one more each time: 20,000 turns, their questions drawn by Zipf's law from
//! those in the file that `FIRSTLINE_QUESTIONS` names (JSONL with "text"), of the demo's golden questions else, against a
//! model server that counts as OpenAI does. Then the golden questions of the demo with the same measures. A number as
//! argument is the number of turns.

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;

use proto::*;
use stats::bucket;
use tests::model::Model;
use tests::{Transport, World, demo};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const TURNS: usize = 20_000;
/// At the same time.
const PARALLEL: usize = 4;

/// A setting of the generator: key, value.
type Setting = (&'static str, &'static str);

/// What there is without any measure: a dear model, at the prices of gpt-4.1 in US dollars for a million tokens.
const WITHOUT: [Setting; 6] = [
    ("packing.passage_tokens", "0"),
    ("packing.floor", "0.0"),
    ("packing.history_tokens", "0"),
    ("cache.max_mb", "0"),
    ("fallback", "[]"),
    (
        "prices.faithful",
        "{ input_usd_per_million = 2.0, output_usd_per_million = 8.0, cached_input_usd_per_million = 0.5 }",
    ),
];
/// Each measure with its settings: the cheap model has the prices of gpt-4.1-mini, and of five answers one without ground.
const MEASURES: [(&str, &[Setting]); 4] = [
    (
        "packing",
        &[("packing.passage_tokens", "800"), ("packing.floor", "0.5"), ("packing.history_tokens", "400")],
    ),
    ("routing", &[("fallback", "[\"cheap\"]"), ("routing", "cheapest")]),
    ("exact cache", &[("cache.max_mb", "64")]),
    ("semantic cache", &[("categories", "SEMANTIC")]),
];
const CHEAP: &str =
    "{ input_usd_per_million = 0.4, output_usd_per_million = 1.6, cached_input_usd_per_million = 0.1 }";

#[derive(Debug, Default)]
struct Day {
    turns: u64,
    answered: u64,
    written: u64,
    known: u64,
    input: u64,
    output: u64,
    usd: f64,
}

#[tokio::main]
async fn main() {
    let turns = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(TURNS);
    let (asked, distinct) = asked(turns);
    println!("{turns} turns of {distinct} different questions\n");
    let heads = ["answered", "written", "known", "tokens in", "tokens out", "USD a turn", "saved"];
    println!("{:<18}{}", "with", heads.map(|head| format!("{head:>12}")).concat());
    let model = Model::behaving().await;
    let mut whole = None;
    for added in 0..=MEASURES.len() {
        let name = added.checked_sub(1).map_or("without any", |last| MEASURES[last].0);
        let day = run(&settings(&model.url, added), &asked).await;
        model.take_seen();
        let a_turn = |sum: u64| sum as f64 / day.turns as f64;
        let share = |sum: u64| format!("{:.1} %", 100.0 * a_turn(sum));
        let usd = day.usd / day.turns as f64;
        let saved = 100.0 * (1.0 - usd / *whole.get_or_insert(usd));
        let figures = [
            share(day.answered),
            share(day.written),
            share(day.known),
            format!("{:.1}", a_turn(day.input)),
            format!("{:.1}", a_turn(day.output)),
            format!("{usd:.7}"),
            format!("{saved:.1} %"),
        ];
        let name = if added > 1 { format!("+ {name}") } else { name.to_owned() };
        println!("{name:<18}{}", figures.map(|figure| format!("{figure:>12}")).concat());
    }
    println!("\nThe golden questions of the demo:\n");
    golden(&model.url);
}

/// The questions of a day, and how many different ones there are among them.
fn asked(turns: usize) -> (Vec<String>, usize) {
    let mut questions = questions();
    // A fixed order that has nothing to do with that of the file.
    questions.sort_by_key(|question| bucket("rank", question));
    let weights: Vec<f64> = (1..=questions.len()).map(|rank| 1.0 / rank as f64).collect();
    let sum: f64 = weights.iter().sum();
    let draw = |turn: usize| {
        let mut at = f64::from(bucket("draw", &turn.to_string())) / f64::from(stats::BUCKETS) * sum;
        weights.iter().position(|weight| {
            at -= weight;
            at < 0.0
        })
    };
    let drawn: Vec<usize> = (0..turns).map(|turn| draw(turn).unwrap_or_default()).collect();
    let mut distinct = drawn.clone();
    distinct.sort_unstable();
    distinct.dedup();
    (drawn.into_iter().map(|rank| questions[rank].clone()).collect(), distinct.len())
}

fn questions() -> Vec<String> {
    let Ok(file) = std::env::var("FIRSTLINE_QUESTIONS") else {
        println!("FIRSTLINE_QUESTIONS names no file: the demo's golden questions instead");
        let reader = bundle::Reader::open(&demo()).unwrap();
        return reader.questions(None).unwrap().into_iter().map(|question| question.text).collect();
    };
    let text = std::fs::read_to_string(file).unwrap();
    let question = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["text"].as_str().unwrap().to_owned()
    };
    text.lines().map(question).collect()
}

/// The settings with so many measures.
fn settings(url: &str, measures: usize) -> Vec<(String, String)> {
    let own = |(key, value): &Setting| ((*key).to_owned(), (*value).to_owned());
    let mut all: HashMap<String, String> = WITHOUT.iter().map(own).collect();
    all.extend(MEASURES[..measures].iter().flat_map(|(_, settings)| settings.iter()).map(own));
    if all.remove("categories").is_some() {
        let reader = bundle::Reader::open(&demo()).unwrap();
        let categories = reader.assistant().unwrap().categories.into_keys();
        all.extend(categories.map(|name| (format!("categories.{name}.semantic_cache"), "true".to_owned())));
    }
    let cheap = format!("{{ model = \"careless\", base_url = {url:?}, price = {CHEAP} }}");
    all.extend([
        ("provider".to_owned(), "openai".to_owned()),
        ("model".to_owned(), "faithful".to_owned()),
        ("base_url".to_owned(), url.to_owned()),
        ("models.cheap".to_owned(), cheap),
    ]);
    all.into_iter().collect()
}

async fn run(settings: &[(String, String)], asked: &[String]) -> Day {
    let limits =
        ["turns_per_minute", "customer_tokens_per_day", "tokens_per_day"].map(|key| format!("budget.{key}"));
    let mut values: Vec<_> =
        settings.iter().map(|(key, value)| ("generator", key.as_str(), value.as_str())).collect();
    values.extend(limits.iter().map(|key| ("orchestrator", key.as_str(), "0")));
    let world = World::with(Transport::Local, &values).await;
    let (places, mut asking) = (Arc::new(Semaphore::new(PARALLEL)), JoinSet::new());
    let mut day = Day::default();
    for text in asked {
        let place = places.clone().acquire_owned().await.unwrap();
        let (mut client, text) = (world.client.clone(), text.clone());
        asking.spawn(async move {
            let message = Some(Message { text, ..Message::default() });
            let turn = client.ask(AskRequest { message }).await.unwrap().into_inner().turn.unwrap();
            let record = client
                .explain_turn(ExplainTurnRequest { turn_id: turn.turn_id.clone(), ..Default::default() })
                .await
                .unwrap();
            drop(place);
            (turn, record.into_inner().record.unwrap())
        });
        while let Some(done) = asking.try_join_next() {
            day.add(done.unwrap());
        }
    }
    asking.join_all().await.into_iter().for_each(|done| day.add(done));
    world.stop().await;
    day
}

impl Day {
    fn add(&mut self, (turn, record): (Turn, TurnRecord)) {
        let (usage, savings) = (turn.usage.unwrap_or_default(), record.savings.unwrap_or_default());
        self.turns += 1;
        self.answered += u64::from(turn.outcome() == Outcome::Answered);
        self.written += u64::from(!record.calls.is_empty());
        self.known += u64::from(!savings.cache_tier.is_empty());
        self.input += usage.input_tokens;
        self.output += usage.output_tokens;
        self.usd += turn.cost_usd;
    }
}

/// `firstline eval tokens` with all measures.
fn golden(url: &str) {
    let binary = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/firstline");
    let mut command = Command::new(binary);
    command.args(["eval", "tokens", "--bundle"]).arg(demo());
    for (key, value) in settings(url, MEASURES.len()) {
        command.env(format!("FIRSTLINE__GENERATOR__{}", key.replace('.', "__").to_uppercase()), value);
    }
    assert!(command.status().unwrap().success(), "firstline eval tokens failed");
}
