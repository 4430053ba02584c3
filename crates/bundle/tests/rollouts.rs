//! `rollout.toml` and `menu.toml` on a small bundle: what is read to the last field, and every refusal to the letter.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::collections::BTreeMap;
use std::path::Path;

use bundle::rollout::{Action, Compares, Guard, Kind, Metric, Plan, Stage, Tripwires};
use bundle::{Audience, Entry, Menu, Problems, Reader, Risk};

const ASSISTANT: &str = r#"schema = 1
name = "t"
title = "T"
locales = ["en"]
[handoff]
message = "A person is coming."
[categories]
cards = { title = "Cards", risk = "low" }
transfers = { title = "Transfers", risk = "low" }
travel = { title = "Travel", risk = "low" }
security = { title = "Security", risk = "medium" }
fraud = { title = "Fraud", risk = "high" }
"#;
/// An entry for every category but "travel".
const MENU: &str = r#"text = "How can we help?"
[[entry]]
id = "cards"
title = "Cards"
categories = ["cards"]
text = """
Cards: choose a topic.
"""
[[entry]]
id = "money"
title = "Sending money"
categories = ["transfers"]
text = "Call 020 7946 0100."
[[entry]]
id = "lost"
under = "cards"
title = "Lost or stolen"
text = "Call 020 7946 0111."
[[entry]]
id = "pin"
under = "cards"
title = "PIN"
text = "See the app."
[[entry]]
id = "safety"
title = "Safety"
categories = ["security", "fraud"]
text = "Call 020 7946 0122."
"#;

fn bundle(files: &[(&str, &str)]) -> (tempfile::TempDir, Reader) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [&[("assistant.toml", ASSISTANT)], files].concat() {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let reader = Reader::open(dir.path()).unwrap();
    (dir, reader)
}

fn rollout(text: &str) -> Result<Option<Plan>, Problems> {
    bundle(&[("menu.toml", MENU), ("rollout.toml", text)]).1.rollout()
}

/// Every key, with its default where the plan leaves it out elsewhere.
const FULL: &str = r#"
[rollout]
id = "bank-2026"
salt = "bank"
candidate = "6c117f3a0123cdef"
categories = ["cards", "transfers"]
max_risk = "low"
interval_s = 1_200
cooldown_hours = 48
holdback = 0.1
min_customers = 200
[[stage]]
name = "shadow"
share = 0.0
mirror = 0.05
mirror_usd_per_day = 5.0
max_escalation = 0.25
min_hours = 12
min_customers = 80
[[stage]]
name = "internal"
audience = "staff"
max_risk = "high"
categories = ["fraud", "cards"]
[[stage]]
name = "p1"
share = 0.01
min_customers = 50
approval = false
[[stage]]
name = "p50"
share = 0.5
certificate = { escalation_unplanned = 1.25, dissatisfied = 10 }
[[guard]]
metric = "escalation_unplanned"
kind = "relative"
r0 = 1.25
alpha = 0.015
action = "hold"
window_s = 600
hold_margin = 0.05
[[guard]]
metric = "dissatisfied"
[[guard]]
metric = "ungrounded_delivered"
kind = "absolute"
max_rate = 0.03
[[guard]]
metric = "ungrounded_generated"
alpha = 0.05
dry_run = true
[[guard]]
metric = "misrouted"
[[guard]]
metric = "failed"
alpha = 0.005
[[guard]]
metric = "latency_over_sla"
sla_ms = 4000
[[guard]]
metric = "cost_per_request"
cap_usd = 0.02
[tripwires]
failed_share = 0.25
dispositions = ["leak"]
"#;

#[test]
fn a_plan_is_read_to_the_last_field() {
    let texts = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let stage = |name: &str, share| Stage {
        name: name.to_owned(),
        share,
        mirror: 0.0,
        mirror_usd_per_day: 0.0,
        max_escalation: 0.0,
        audience: String::new(),
        categories: texts(&["cards", "transfers"]),
        max_risk: Risk::Low,
        min_hours: 24.0,
        min_customers: 0,
        approval: true,
        certificate: BTreeMap::new(),
    };
    let guard = |metric, alpha, window_s| Guard {
        max_rate: 0.0,
        metric,
        kind: Kind::Relative,
        action: Action::Rollback,
        r0: 1.0,
        alpha,
        window_s,
        sla_ms: 0,
        q: 0.0,
        cap_usd: 0.0,
        hold_margin: None,
        dry_run: false,
    };
    let staff = Stage {
        audience: "staff".to_owned(),
        max_risk: Risk::High,
        categories: texts(&["fraud", "cards"]),
        ..stage("internal", 1.0)
    };
    let certificate = [(Metric::EscalationUnplanned, 1.25), (Metric::Dissatisfied, 10.0)];
    let plan = Plan {
        id: "bank-2026".to_owned(),
        salt: "bank".to_owned(),
        candidate: "6c117f3a0123cdef".to_owned(),
        compares: Compares::Assistant,
        interval_s: 1200,
        cooldown_hours: 48.0,
        holdback: 0.1,
        min_customers: 200,
        stages: vec![
            Stage {
                mirror: 0.05,
                mirror_usd_per_day: 5.0,
                max_escalation: 0.25,
                min_hours: 12.0,
                min_customers: 80,
                ..stage("shadow", 0.0)
            },
            staff,
            Stage { min_customers: 50, approval: false, ..stage("p1", 0.01) },
            Stage { certificate: BTreeMap::from(certificate), ..stage("p50", 0.5) },
        ],
        guards: vec![
            Guard {
                r0: 1.25,
                action: Action::Hold,
                hold_margin: Some(0.05),
                ..guard(Metric::EscalationUnplanned, 0.015, 600)
            },
            guard(Metric::Dissatisfied, 0.01, 86_400),
            Guard {
                kind: Kind::Absolute,
                r0: 0.0,
                max_rate: 0.03,
                ..guard(Metric::UngroundedDelivered, 0.01, 120)
            },
            Guard { dry_run: true, ..guard(Metric::UngroundedGenerated, 0.05, 120) },
            guard(Metric::Misrouted, 0.005, 86_400),
            guard(Metric::Failed, 0.005, 1800),
            Guard {
                kind: Kind::RelativeAbsolute,
                sla_ms: 4000,
                q: 0.95,
                ..guard(Metric::LatencyOverSla, 0.005, 120)
            },
            Guard {
                kind: Kind::Cap,
                action: Action::Hold,
                cap_usd: 0.02,
                r0: 0.0,
                ..guard(Metric::CostPerRequest, 0.0, 0)
            },
        ],
        tripwires: Tripwires { failed_share: 0.25, dispositions: texts(&["leak"]) },
    };
    assert_eq!(rollout(FULL).unwrap(), Some(plan.clone()));
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan, "{json}");

    let least = "[rollout]\nid = \"r\"\n[[stage]]\nname = \"all\"\nshare = 1\ncategories = [\"cards\"]\n[[guard]]\nmetric = \"escalation_unplanned\"\n";
    let expected = Plan {
        id: "r".to_owned(),
        salt: "r".to_owned(),
        candidate: String::new(),
        compares: Compares::Assistant,
        interval_s: 300,
        cooldown_hours: 24.0,
        holdback: 0.05,
        min_customers: 50,
        stages: vec![Stage { categories: texts(&["cards"]), ..stage("all", 1.0) }],
        guards: vec![guard(Metric::EscalationUnplanned, 0.02, 1800)],
        tripwires: Tripwires { failed_share: 0.5, dispositions: texts(&["leak", "wrong_action"]) },
    };
    assert_eq!(rollout(least).unwrap(), Some(expected));
    assert_eq!(bundle(&[]).1.rollout().unwrap(), None);
}

#[test]
fn a_plan_that_cannot_be_read_is_not_taken_for_none() {
    let (dir, reader) = bundle(&[]);
    std::os::unix::fs::symlink("nowhere", dir.path().join("rollout.toml")).unwrap();
    let refused = reader.rollout().unwrap_err().to_string();
    assert!(refused.starts_with("rollout.toml: cannot be read: "), "{refused}");
}

#[test]
fn pacing_is_not_what_the_assistant_is_and_the_menu_is() {
    let hash = |files: &[(&str, &str)]| bundle(files).1.hash().to_owned();
    let alone = hash(&[("menu.toml", MENU)]);
    assert_eq!(hash(&[("menu.toml", MENU), ("rollout.toml", FULL)]), alone);
    assert_ne!(hash(&[("menu.toml", &MENU.replace("PIN", "Your PIN"))]), alone);
}

#[test]
fn check_tells_what_is_wrong_with_the_menu_and_the_plan_at_once() {
    let check = |menu: &str, plan: &str| {
        let (_dir, reader) = bundle(&[("menu.toml", menu), ("rollout.toml", plan)]);
        let intents =
            "[[intent]]\nname = \"pin\"\ntitle = \"PIN\"\ncategory = \"cards\"\nexamples = [\"my pin\"]\n";
        std::fs::create_dir(reader.root().join("intents")).unwrap();
        std::fs::write(reader.root().join("intents/a.toml"), intents).unwrap();
        bundle::check(&Reader::open(reader.root()).unwrap())
    };
    let counts = check(MENU, FULL).unwrap();
    assert!(counts.contains(&("menu entries", 5)) && counts.contains(&("rollout stages", 4)), "{counts:?}");
    let broken =
        check(&MENU.replace("under = \"cards\"", "under = \"card\""), &FULL.replace("0.1\n", "0.6\n"));
    assert_eq!(
        broken.unwrap_err().to_string(),
        "menu.toml:16: entry \"lost\": entry \"card\" does not exist, allowed the id of one of this file, such as \"cards\"\n\
         menu.toml:21: entry \"pin\": entry \"card\" does not exist, allowed the id of one of this file, such as \"cards\"\n\
         rollout.toml:10: rollout: holdback is 0.6, allowed 0..=0.5"
    );
}

#[test]
fn a_customer_reads_the_entry_of_the_category_and_the_titles_below_it() {
    let menu = bundle(&[("menu.toml", MENU)]).1.menu().unwrap().unwrap();
    assert_eq!(menu.shown("cards"), "Cards: choose a topic.\n1. Lost or stolen\n2. PIN");
    assert_eq!(menu.shown("fraud"), "Call 020 7946 0122.");
    assert_eq!(menu.shown("travel"), "How can we help?\n1. Cards\n2. Sending money\n3. Safety");
    let pin = Entry {
        id: "pin".to_owned(),
        title: "PIN".to_owned(),
        under: "cards".to_owned(),
        categories: Vec::new(),
        text: "See the app.".to_owned(),
    };
    assert_eq!((menu.entries.len(), &menu.entries[3]), (5, &pin));
    assert_eq!(bundle(&[]).1.menu().unwrap(), None::<Menu>);
}

#[test]
fn a_malformed_menu_is_refused_for_all_that_is_wrong_with_it() {
    let refused = |text: &str| bundle(&[("menu.toml", text)]).1.menu().unwrap_err().to_string();
    let menu = r#"txt = "How can we help?"
[[entry]]
id = "a"
title = "A"
under = "c"
categories = ["cards", "card"]
text = "A."
[[entry]]
id = "b"
title = " "
under = "a"
categories = ["cards"]
text = ""
[[entry]]
id = "c"
title = "C\nC"
under = "b"
text = "C."
[[entry]]
id = "b"
title = "B"
under = "a"
text = "B."
[[entry]]
id = "d"
title = "D"
under = "c"
[[entry]]
id = "self"
title = "Self"
under = "self"
text = "S."
"#;
    assert_eq!(
        refused(menu),
        r#"menu.toml: has no text, allowed 1 to 4000 bytes with a word
menu.toml:1: key "txt" does not exist, allowed text, entry, such as "text"
menu.toml:5: entry "a": under is "c", which lies under it itself
menu.toml:6: entry "a": category "card" does not exist, allowed the name of one in assistant.toml, such as "cards"
menu.toml:10: entry "b": title is " ", allowed one line of 1 to 200 bytes with a word
menu.toml:11: entry "b": under is "a", which lies under it itself
menu.toml:12: entry "b": category "cards" stands already at entry "a", allowed at one
menu.toml:13: entry "b": text is "", allowed 1 to 4000 bytes with a word
menu.toml:16: entry "c": title is "C\nC", allowed one line of 1 to 200 bytes with a word
menu.toml:17: entry "c": under is "b", which lies under it itself
menu.toml:20: entry "b": id stands already on line 9, allowed once
menu.toml:22: entry "b": under is "a", which lies under it itself
menu.toml:24: entry "d": has no text, allowed 1 to 4000 bytes with a word
menu.toml:31: entry "self": under is "self", which lies under it itself"#
    );
    assert_eq!(refused("text = \"T.\"\ntext = \"U.\"\n"), "menu.toml:2: duplicate key");
}

#[test]
fn the_menu_of_the_demo_covers_its_categories_and_tells_only_numbers_and_hours_of_its_articles() {
    let demo = Reader::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/demo")).unwrap();
    let menu = demo.menu().unwrap().unwrap();
    for category in demo.assistant().unwrap().categories.keys() {
        assert!(menu.entry(category).is_some(), "{category}");
    }
    let articles = demo.knowledge().unwrap().into_iter().filter(|one| one.audience == Audience::Public);
    let told: String = articles.map(|article| article.content).collect();
    let said = menu.entries.iter().map(|entry| entry.text.as_str()).chain([menu.text.as_str()]);
    let figures = regex::Regex::new(r"(020|\+44 20) 7946 \d{4}|\d\d:\d\d|\d[\d,]* pounds").unwrap();
    let mut count = 0;
    for figure in said.flat_map(|text| figures.find_iter(text)) {
        assert!(told.contains(figure.as_str()), "{}", figure.as_str());
        count += 1;
    }
    assert!(count > 40, "{count}");
}

/// Each file begins with the problems that it has, one a line.
#[test]
fn every_malformed_plan_is_refused_for_all_that_is_wrong_with_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rollouts");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let expected: Vec<_> = text.lines().map_while(|line| line.strip_prefix("# rollout.toml")).collect();
        let found = rollout(&text).unwrap_err().to_string();
        let found: Vec<_> = found.lines().map(|line| line.strip_prefix("rollout.toml").unwrap()).collect();
        assert_eq!(found, expected, "{}", path.display());
        count += 1;
    }
    assert!(count >= 24, "{count} plans");
}
