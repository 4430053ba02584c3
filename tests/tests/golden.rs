//! `firstline eval assistant` on a small bundle: exact figures, a floor, a page that escapes, clear refusals.

use std::path::Path;

use serde_json::{Value, json};
use tests::{Finished, command, demo, scratch};

const ASSISTANT: &str = "schema = 1\nname = \"t\"\ntitle = \"Shop & Co\"\nlocales = [\"en\"]\n[handoff]\nmessage = \"A person is coming.\"\n[categories.general]\ntitle = \"General\"\nrisk = \"low\"\n";
const INTENTS: &str = "[[intent]]\nname = \"opening_hours\"\ntitle = \"Opening hours\"\ncategory = \"general\"\nexamples = [\"when are you open\", \"opening hours of the shop\", \"what time do you close\"]\n[[intent]]\nname = \"return_goods\"\ntitle = \"Returns\"\ncategory = \"general\"\nexamples = [\"how do I return a parcel\", \"send my order back\", \"return an item I bought\"]\n";
const CURATED: &str = "[[answer]]\nid = \"hours\"\nquestions = [\"when are you open\"]\nintents = [\"opening_hours\"]\ntext = \"We are open from nine to five.\"\ndocuments = [\"hours\"]\nowner = \"o\"\nexpires = 2099-12-31\n[[answer]]\nid = \"returns\"\nquestions = [\"how do I return a parcel\"]\ntext = \"Bring it back within 30 days.\"\ndocuments = [\"returns\"]\nowner = \"o\"\nexpires = 2099-12-31\n";
/// Five questions, of which the third expects another document, and the fifth is answered but must not be.
const QUESTIONS: &str = r#"{"text": "When are you open?", "kind": "answerable", "outcome": ["ANSWERED"], "intent": "opening_hours", "documents": ["hours"], "conversation": "a"}
{"text": "How do I return a parcel?", "kind": "answerable", "outcome": ["ANSWERED"], "documents": ["hours", "returns"], "conversation": "a"}
{"text": "how do i return a parcel", "kind": "answerable", "outcome": ["ANSWERED"], "documents": ["hours"]}

{"text": "agent <script>alert(1)</script>", "kind": "person", "outcome": ["HANDOFF", "CLARIFY"], "intent": null}
{"text": "when are you open", "kind": "unanswerable", "outcome": ["CLARIFY"], "intents": ["opening_hours"]}
"#;

fn bundle(questions: &str) -> tempfile::TempDir {
    let dir = scratch();
    for (name, text) in [
        ("assistant.toml", ASSISTANT),
        ("intents/a.toml", INTENTS),
        ("curated.toml", CURATED),
        (
            "knowledge/hours.md",
            "---\nid: hours\ntitle: Hours\naudience: public\n---\nWe are open from nine to five.\n",
        ),
        (
            "knowledge/returns.md",
            "---\nid: returns\ntitle: Returns\naudience: public\n---\nReturn it within 30 days.\n",
        ),
        (
            "knowledge/staff.md",
            "---\nid: staff\ntitle: Staff\naudience: internal\n---\nThe code of the door.\n",
        ),
        ("eval/questions.jsonl", questions),
    ] {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

/// Runs the command in the bundle's own folder, hidden files and `.data` aside.
fn run(dir: &Path, arguments: &[&str]) -> Finished {
    let mut command = command("firstline");
    command.current_dir(dir).args(arguments).env("FIRSTLINE__SERVER__DATA_DIR", dir.join(".data"));
    let output = command.output().unwrap();
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn eval(dir: &Path, more: &[&str]) -> Finished {
    run(dir, &[&["eval", "assistant", "--bundle", "."], more].concat())
}

#[test]
fn golden_questions_give_exact_figures_a_floor_and_a_page_that_escapes() {
    let dir = bundle(QUESTIONS);
    let first = eval(dir.path(), &["--json", "--report", ".report.html"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    let figures: Value = serde_json::from_str(&first.stdout).unwrap();
    let expected = json!({
        "n": 5, "correct": 3, "outcome_accuracy": 0.8, "intent_accuracy": 1.0, "document_hit_rate": 2.0 / 3.0,
        "grounded_rate": 1.0, "answered_rate": 0.8, "false_answer_rate": 1.0, "cost_usd": 0.0,
        "by_kind": {
            "answerable": { "n": 3, "correct": 2 },
            "person": { "n": 1, "correct": 1 },
            "unanswerable": { "n": 1, "correct": 0 },
        },
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&figures[name], value, "{name}: {figures}");
    }
    assert!(figures["p50_ms"].as_f64().unwrap() <= figures["p95_ms"].as_f64().unwrap(), "{figures}");
    let failures = figures["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 2, "{figures}");
    let one = &failures[0];
    assert_eq!(
        (&one["line"], &one["wrong"], &one["documents"]),
        (&json!(3), &json!(["documents"]), &json!(["returns"]))
    );
    let other = &failures[1];
    assert_eq!(
        (&other["line"], &other["got"], &other["expected"]["outcome"]),
        (&json!(6), &json!("ANSWERED"), &json!(["CLARIFY"]))
    );

    let page = std::fs::read_to_string(dir.path().join(".report.html")).unwrap();
    assert!(page.contains("agent &lt;script&gt;alert(1)&lt;&#x2f;script&gt;"), "{page}");
    assert!(page.contains("Shop &amp; Co") && !page.contains("<script"), "{page}");
    let tags = ["src=", "href=", "url(", "@import"];
    assert!(tags.iter().all(|tag| !page.contains(tag)), "nothing is loaded");
    let table = page.split_once("<tbody>").unwrap().1;
    let rows: Vec<bool> = table.split("<tr").skip(1).map(|row| row.starts_with(" class=\"fail\"")).collect();
    assert_eq!(rows, [true, true, false, false, false], "failures come first");

    // The same conversation's name starts a conversation anew, and a floor may be an earlier run.
    std::fs::write(dir.path().join(".last.json"), &first.stdout).unwrap();
    let again = eval(dir.path(), &["--floor", ".last.json"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    let last = again.stdout.lines().last().unwrap();
    assert_eq!(last, "./eval/questions.jsonl:6 \"when are you open\" ANSWERED, not CLARIFY");
    let below = eval(dir.path(), &["--floor", "0.8"]);
    assert_eq!(below.code, Some(1), "{below:?}");
    assert!(below.stderr.contains("0.6000") && below.stderr.contains("floor of 0.8"), "{below:?}");
    assert!(below.stdout.contains("total                        5         3    60.0 %"), "{}", below.stdout);
}

#[test]
fn a_workflow_has_its_effect_on_the_receiver_of_the_run_and_not_on_the_configured_target() {
    let dir = scratch();
    let turn = |text: &str, outcome: &str| {
        format!(
            "{{\"text\": \"{text}\", \"kind\": \"workflow\", \"outcome\": [\"{outcome}\"], \"conversation\": \"c\"}}\n"
        )
    };
    let questions =
        turn("my card was stolen, block it, it ends in 9903", "ACTION_PENDING") + &turn("yes", "ACTION_DONE");
    std::fs::write(dir.path().join("q.jsonl"), questions).unwrap();
    let target = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    target.set_nonblocking(true).unwrap();
    let url = format!("http://{}", target.local_addr().unwrap());
    let mut command = command("firstline");
    command.current_dir(dir.path()).args([
        "eval",
        "assistant",
        "--json",
        "--questions",
        "q.jsonl",
        "--floor",
        "1",
    ]);
    command.arg("--bundle").arg(demo()).env("FIRSTLINE__WORKFLOW__TARGETS__BANK__URL", url);
    command.env("FIRSTLINE__WORKFLOW__TARGETS__BANK__SECRET", tests::SECRET);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        target.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "nobody asked the target"
    );
}

#[test]
fn a_wrong_line_is_refused_with_its_place_and_a_question_more_leaves_the_bundle_as_it_is() {
    let dir = bundle(QUESTIONS);
    let check = || run(dir.path(), &["bundle", "check", ".", "--json"]);
    let hash = |checked: &Finished| -> Value {
        serde_json::from_str::<Value>(&checked.stdout).unwrap()["bundle"].clone()
    };
    let before = check();
    assert!(before.code == Some(0) && before.stdout.contains("\"questions\":5"), "{before:?}");
    let file = dir.path().join("eval/questions.jsonl");
    let line =
        |more: &str| format!("{{\"text\": \"x\", \"kind\": \"k\", \"outcome\": [\"CLARIFY\"]{more}}}\n");
    std::fs::write(&file, format!("{QUESTIONS}{}", line(""))).unwrap();
    assert_eq!(hash(&check()), hash(&before));
    for (wrong, expected) in [
        (line(", \"intnet\": null"), "unknown field `intnet`, expected one of `text`, `kind`, `outcome`"),
        (
            line("").replace("CLARIFY", "ANSWERD"),
            "outcome: unknown word \"ANSWERD\", allowed ANSWERED, CLARIFY",
        ),
        (line("").replace("\"CLARIFY\"", ""), "outcome: is empty, needed is one or more of ANSWERED"),
        (line("").replace("\"k\"", "\"out-of-scope\""), "kind: \"out-of-scope\", allowed [a-z][a-z0-9_]*"),
        (line("").replace("\"x\"", "\" \""), "text: 1 bytes, allowed 1 to 65536 with a word"),
        (
            line(", \"intents\": [\"opening_hour\"]"),
            "intent: intent \"opening_hour\" does not exist, allowed the name of one in intents/, such as \"opening_hours\"",
        ),
        (
            line(", \"documents\": [\"return\"]"),
            "documents: document \"return\" does not exist, allowed the id of one in knowledge/, such as \"returns\"",
        ),
        (
            line(", \"documents\": [\"staff\"]"),
            "documents: document \"staff\" is internal, allowed public ones",
        ),
        (line(", \"all_documents\": true"), "all_documents: is true without documents"),
    ] {
        std::fs::write(&file, format!("\n{}{wrong}", line(""))).unwrap();
        for refused in [run(dir.path(), &["bundle", "check", "."]), eval(dir.path(), &[])] {
            assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
            assert!(refused.stderr.contains("eval/questions.jsonl:3: "), "{refused:?}");
            assert!(refused.stderr.contains(expected), "{expected:?} is not in {}", refused.stderr);
        }
    }
    std::fs::write(&file, QUESTIONS).unwrap();
    std::fs::write(dir.path().join("eval/question.jsonl"), QUESTIONS).unwrap();
    let stranger = run(dir.path(), &["bundle", "check", "."]);
    assert!(stranger.stderr.contains("eval/question.jsonl: is no part of a bundle, allowed"), "{stranger:?}");
    std::fs::remove_dir_all(dir.path().join("eval")).unwrap();
    let missing = eval(dir.path(), &[]);
    assert!(missing.stderr.contains("no such file; pass --questions FILE"), "{missing:?}");
}

/// The floor of the demo: its golden questions are indirect on purpose, and a change that loses some shows here.
#[test]
fn the_demo_holds_its_floor_and_answers_nothing_it_should_not() {
    let data = scratch();
    let (demo, floor) = (demo(), "0.48");
    let arguments = ["eval", "assistant", "--bundle", demo.to_str().unwrap(), "--floor", floor, "--json"];
    let finished = run(data.path(), &arguments);
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(finished.code, Some(0), "{} of {} right: {}", report["correct"], report["n"], finished.stderr);
    assert!(report["n"].as_u64().unwrap() >= 150);
    assert_eq!(report["grounded_rate"], json!(1.0));
    assert!(report["false_answer_rate"].as_f64().unwrap() <= 0.02, "{}", report["false_answer_rate"]);
}

#[test]
fn in_the_mode_intent_a_compound_is_answered_with_the_offer_of_a_person() {
    let dir = bundle(QUESTIONS);
    let assistant = ASSISTANT.replace("[handoff]", "[handoff]\nkeyword_mode = \"intent\"");
    std::fs::write(dir.path().join("assistant.toml"), assistant).unwrap();
    let ask = |text: &str| {
        let asked = run(dir.path(), &["ask", "--bundle", ".", "--json", text]);
        let turn: Value = serde_json::from_str(&asked.stdout).unwrap();
        (turn["outcome"] == "HANDOFF", turn["offers_person"] == true)
    };
    assert_eq!(ask("my travel agent asks: when are you open"), (false, true));
    assert_eq!(ask("when are you open"), (false, false));
    assert_eq!(ask("no travel agent, an agent"), (true, false));
    let shown = run(dir.path(), &["ask", "--bundle", ".", "my travel agent asks: when are you open"]).stdout;
    assert!(shown.contains("(type \"agent\" to talk to a person)"), "{shown}");
}
