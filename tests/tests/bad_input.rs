//! Everything a person can get wrong at the command line: one clear line, and nothing half done.

use std::path::Path;

use tests::{command, demo, firstline, scratch};

fn bundle(change: impl FnOnce(&Path)) -> tempfile::TempDir {
    let dir = scratch();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let assistant = "schema = 1\nname = \"t\"\ntitle = \"T\"\nlocales = [\"en\"]\n[handoff]\nmessage = \"m\"\n[categories.general]\ntitle = \"G\"\nrisk = \"low\"\n";
    write("assistant.toml", assistant);
    write(
        "intents/a.toml",
        "[[intent]]\nname = \"hours\"\ntitle = \"Hours\"\ncategory = \"general\"\nexamples = [\"when are you open\", \"opening hours\"]\n",
    );
    write(
        "knowledge/hours.md",
        "---\nid: hours\ntitle: Hours\naudience: public\n---\nWe are open from nine to five.\n",
    );
    change(dir.path());
    dir
}

/// A change to a file of the valid bundle, and what the check must say about it.
fn check(change: impl FnOnce(&Path), expected: &[&str]) {
    let dir = bundle(change);
    let checked = firstline(&["bundle", "check", dir.path().to_str().unwrap()]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert_eq!(checked.stderr.lines().count(), 1, "one line: {}", checked.stderr);
    for part in expected {
        assert!(checked.stderr.contains(part), "{part:?} is not in {}", checked.stderr);
    }
    let built = firstline(&["bundle", "build", dir.path().to_str().unwrap()]);
    assert_eq!(built.code, Some(1), "{built:?}");
    assert!(!dir.path().join(".build").exists(), "nothing half done");
}

fn append(dir: &Path, file: &str, text: &str) {
    let path = dir.join(file);
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, old + text).unwrap();
}

#[test]
fn a_broken_bundle_is_refused_with_file_line_and_what_is_allowed() {
    assert_eq!(firstline(&["bundle", "check", bundle(|_| ()).path().to_str().unwrap()]).code, Some(0));
    let intent = |name: &str, category: &str, examples: &str| {
        format!(
            "[[intent]]\nname = \"{name}\"\ntitle = \"X\"\ncategory = \"{category}\"\nexamples = [{examples}]\n"
        )
    };
    check(
        |dir| append(dir, "assistant.toml", "rsik = \"low\"\n"),
        &["assistant.toml:10:", "unknown field `rsik`", "`risk`"],
    );
    check(
        |dir| {
            let path = dir.join("assistant.toml");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, text.replace("message", "keyword_mode = \"off\"\nmessage")).unwrap();
        },
        &["assistant.toml:6:", "unknown variant `off`", "`strict` or `intent`"],
    );
    check(
        |dir| append(dir, "intents/a.toml", &intent("hours", "general", "\"a b\"")),
        &["intents/a.toml:6:", "duplicate intent \"hours\"", "intents/a.toml:1"],
    );
    check(
        |dir| append(dir, "intents/b.toml", &intent("other", "general", "")),
        &["intents/b.toml:1:", "has no examples"],
    );
    check(
        |dir| append(dir, "intents/b.toml", &intent("other", "nowhere", "\"a b\"")),
        &["intents/b.toml:4:", "unknown category \"nowhere\"", "allowed general"],
    );
    check(
        |dir| {
            append(dir, "intents/a.toml", "handoff = true\n");
            append(
                dir,
                "curated.toml",
                "[[answer]]\nid = \"h\"\nintents = [\"hours\"]\ntext = \"t\"\nowner = \"o\"\nexpires = 2099-01-01\n",
            );
        },
        &["curated.toml:3:", "\"hours\" has handoff = true"],
    );
    check(
        |dir| append(dir, "prompts/answer.j2", "---\nversion: 1\n---\nline\n{{ question \n"),
        &["prompts/answer.j2:5:", "broken template"],
    );
    check(
        |dir| append(dir, "prompts/answer.j2", "---\nversion: 1\n---\nline\n{{ questoin }}\n"),
        &["prompts/answer.j2:5:", "`questoin` is undefined", "question"],
    );
    check(
        |dir| append(dir, "knowledge/b.md", "---\nid: hours\ntitle: B\naudience: public\n---\nText.\n"),
        &["knowledge/hours.md:1: duplicate id \"hours\", first at knowledge/b.md:1"],
    );
    check(
        |dir| append(dir, "knowledge/b.md", "---\nid: b\ntitle: B\naudience: everyone\n---\nText.\n"),
        &["knowledge/b.md:4: unknown variant", "public, internal"],
    );
    check(
        |dir| append(dir, "knowledge/b.md", "---\nid: b\ntitle: B\n---\nText.\n"),
        &["knowledge/b.md:1: has no `audience`", "public or internal"],
    );
    check(
        |dir| append(dir, "intents/b.toml", &intent("other", "general", "\"  \"")),
        &["intents/b.toml:5:", "only spaces"],
    );
    check(
        |dir| append(dir, "intents/b.toml", &intent("other", "general", "\"opening hours\"")),
        &["intents/b.toml:5:", "also one of \"hours\""],
    );
    check(
        |dir| append(dir, "intents/b.toml", "out_of_scope = [\n  \"Opening  hours\",\n]\n"),
        &["intents/b.toml:2:", "of out_of_scope is also one of \"hours\""],
    );
    check(
        |dir| append(dir, "intents/b.jsonl", "{\"text\": \"is it raining\"}\n"),
        &["intents/b.jsonl:1:", "missing field `intent`", "or null"],
    );
    check(
        |dir| {
            append(
                dir,
                "knowledge/b.md",
                &format!("---\nid: b\ntitle: B\naudience: public\n---\n{}", "long text ".repeat(5 << 20)),
            )
        },
        &["knowledge/b.md:1:", "allowed up to 1048576"],
    );
    check(
        |dir| {
            std::fs::write(
                dir.join("knowledge/b.md"),
                b"---\nid: b\ntitle: B\naudience: public\n---\nok\n\xff\xfe\n",
            )
            .unwrap()
        },
        &["knowledge/b.md:7:", "not UTF-8"],
    );
    check(
        |dir| append(dir, "safety/policy.toml", "[categories.self_harn]\naction = \"escalate\"\n"),
        &["self_harn", "self_harm"],
    );
    let workflow = |intent: &str, value: &str| {
        format!(
            "name = \"block\"\ntitle = \"Card\"\nintents = [\n    \"{intent}\",\n]\nthreshold = 0.5\ndone = \"ok\"\nconfirmation = \"Block {{{{ {value} }}}}?\"\n[request]\nmethod = \"POST\"\ntarget = \"bank\"\npath = \"/a\"\n[[slot]]\nname = \"card\"\ntype = \"text\"\nprompt = \"Which card?\"\n"
        )
    };
    check(
        |dir| append(dir, "workflows/w.toml", &workflow("hours", "crad")),
        &["workflows/w.toml:8:", "crad is no slot, allowed [card]"],
    );
    check(
        |dir| append(dir, "workflows/w.toml", &workflow("hour", "card")),
        &["workflows/w.toml:4:", "\"hour\" does not exist", "such as \"hours\""],
    );
    for (caps, line, expected) in [
        ("per_day = 0\nper_customer_per_day = 1", 18, "caps.per_day is 0, allowed 1..=1000000"),
        (
            "per_day = 1\nper_customer_per_day = 2000000",
            19,
            "caps.per_customer_per_day is 2000000, allowed 1",
        ),
        ("amount = 10", 18, "caps.amount needs a slot of type \"amount\""),
        ("per_week = 10", 18, "unknown field `per_week`"),
    ] {
        let text = format!("{}[caps]\n{caps}\n", workflow("hours", "card"));
        let place = format!("workflows/w.toml:{line}: ");
        check(|dir| append(dir, "workflows/w.toml", &text), &[&place, expected]);
    }
    for (kind, expected) in [
        ("date\"\npast_days = 40000", "past_days of slot \"card\" is 40000, allowed 0..=36500"),
        ("date\"\nfuture_days = -1", "invalid value: integer `-1`, expected u32"),
        ("date\"\nfuture_day = 0", "slot \"card\" has an unknown key \"future_day\" for its type"),
        ("text\"\npast_days = 1", "slot \"card\" has an unknown key \"past_days\" for its type"),
    ] {
        let text = workflow("hours", "card").replace("text\"", kind);
        check(|dir| append(dir, "workflows/w.toml", &text), &["workflows/w.toml:1", expected]);
    }
    for (when, expected) in [
        ("slots.crad == 'x'", "slots.crad does not exist, allowed [card]"),
        ("slots.card <", "Syntax error"),
        ("slots.card > 5", "no matching overload"),
    ] {
        let table = format!("[[precondition]]\nreason = \"R\"\nmessage = \"No.\"\nwhen = \"{when}\"\n");
        let text = workflow("hours", "card") + &table;
        check(|dir| append(dir, "workflows/w.toml", &text), &["workflows/w.toml:20: ", expected]);
    }
    for (table, line, expected) in [
        ("[retry]\nmax_attempts = 3", 17, "retry needs effect = \"idempotent\""),
        ("[response.messages]\n500 = \"No.\"", 18, "message for \"500\", allowed a status from 400 to 499"),
        ("[response]\nsuccess = \"bodi.ok\"", 18, "bodi does not exist, allowed [body, status]"),
        ("[response]\nreference = \"id\"", 18, "reference is \"id\", allowed a JSON pointer"),
        (
            "[compensation]\nconfirmation = \"Undo {{ card }}?\"\nrequest = { method = \"POST\", target = \"b\", path = \"/u\" }",
            18,
            "card is no slot, allowed [reference]",
        ),
    ] {
        let text = format!("{}{table}\n", workflow("hours", "card"));
        let place = format!("workflows/w.toml:{line}: ");
        check(|dir| append(dir, "workflows/w.toml", &text), &[&place, expected]);
    }
    let missing = firstline(&["bundle", "check", "/nonexistent"]);
    assert!(missing.code == Some(1) && missing.stderr.contains("no such folder"), "{missing:?}");
}

#[test]
fn a_file_that_nobody_would_read_is_refused_by_name() {
    for (name, expected) in [
        ("workflow/w.toml", "workflow/: is no part of a bundle, allowed assistant.toml"),
        ("curated.tml", "curated.tml: is no part of a bundle, allowed assistant.toml"),
        ("safety/lexicon/l.toml", "safety/lexicon/: is no part of a bundle, allowed policy.toml"),
        ("intents/x.txt", "intents/x.txt: is no part of a bundle, allowed in intents/: .toml and .jsonl"),
        ("knowledge/x.html", "knowledge/x.html: is no part of a bundle, allowed in knowledge/: .md"),
        ("workflows/x.yaml", "workflows/x.yaml: is no part of a bundle, allowed in workflows/: .toml"),
        ("prompts/anwser.j2", "prompts/anwser.j2: is no part of a bundle, allowed in prompts/: answer.j2"),
        ("safety/lexicons/x.txt", "safety/lexicons/x.txt: is no part of a bundle"),
    ] {
        check(|dir| append(dir, name, "text\n"), &[expected]);
    }
    let free = bundle(|dir| {
        let names = ["README.md", "LICENSE", ".git/HEAD", "knowledge/.DS_Store"];
        names.iter().for_each(|name| append(dir, name, "text\n"));
    });
    assert_eq!(firstline(&["bundle", "check", free.path().to_str().unwrap()]).code, Some(0));
}

#[test]
fn a_bundle_from_existing_material_answers_and_a_broken_source_leaves_nothing() {
    let dir = scratch();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("kb.jsonl"), "{\"id\":\"opening\",\"title\":\"Opening hours\",\"content\":\"The shop opens at nine in the morning and closes at six in the evening.\",\"audience\":\"public\"}\n{\"id\":\"staff\",\"title\":\"Internal: opening\",\"content\":\"The alarm code of the shop in the morning is QUARTZ.\",\"audience\":\"internal\"}\n").unwrap();
    let line = |text: &str, intent: &str| serde_json::json!({ "text": text, "intent": intent }).to_string();
    let examples = [
        line("when does the shop open", "opening"),
        line("what time do you close", "opening"),
        line("are you open in the morning", "opening"),
        line("opening times please", "opening"),
        line("send my parcel back", "return"),
        line("I want to return this parcel", "return"),
        line("how do I give the parcel back", "return"),
        line("returning an item", "return"),
        serde_json::json!({ "text": "is it raining", "intent": null }).to_string(),
        line("Is it raining", "return"),
    ];
    std::fs::write(at("intents.jsonl"), examples.join("\n")).unwrap();
    let new = firstline(&[
        "bundle",
        "new",
        &at("shop"),
        "--kb",
        &at("kb.jsonl"),
        "--intents",
        &at("intents.jsonl"),
        "--json",
    ]);
    assert_eq!(new.code, Some(0), "{new:?}");
    let counts = firstline(&["bundle", "check", &at("shop"), "--json"]).stdout;
    assert!(counts.contains("\"examples\":8") && counts.contains("\"out_of_scope_examples\":1"), "{counts}");
    let first = firstline(&["bundle", "build", &at("shop"), "--json"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    let files = || {
        let mut files: Vec<_> = std::fs::read_dir(dir.path().join("shop/.build"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), entry.metadata().unwrap().modified().unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = files();
    assert_eq!(firstline(&["bundle", "build", &at("shop"), "--json"]).code, Some(0));
    assert_eq!(files(), before, "nothing is redone when nothing changed");
    let asked =
        firstline(&["ask", "--bundle", &at("shop"), "--json", "when does the shop open in the morning?"]);
    let turn: serde_json::Value = serde_json::from_str(&asked.stdout).unwrap();
    assert!(!asked.stdout.contains("QUARTZ"), "{turn}");
    assert_eq!(asked.code, Some(0));
    std::fs::write(at("bad.jsonl"), "{\"text\": \"a\", \"intent\": \"b\"}\nnot json\n").unwrap();
    let bad =
        firstline(&["bundle", "new", &at("bad"), "--kb", &at("kb.jsonl"), "--intents", &at("bad.jsonl")]);
    assert!(bad.code == Some(1) && bad.stderr.contains("bad.jsonl:2"), "{bad:?}");
    assert!(!dir.path().join("bad").exists());
    std::fs::create_dir(at("kb")).unwrap();
    std::fs::write(at("kb/a.xlsx"), "rows").unwrap();
    std::fs::write(at("kb/b.html"), "<nav>menu</nav>").unwrap();
    for (kb, expected, lines) in [
        ("kb/b.html", "kb/b.html: holds no text", 1),
        ("kb/a.xlsx", "kb/a.xlsx: is not read, allowed .md", 1),
        ("kb", "kb/a.xlsx: is not read, allowed .md", 2),
        ("none", "none: cannot be read", 1),
    ] {
        let bad =
            firstline(&["bundle", "new", &at("bad"), "--kb", &at(kb), "--intents", &at("intents.jsonl")]);
        assert!(bad.code == Some(1) && bad.stderr.contains(expected), "{bad:?}");
        assert!(bad.stderr.lines().count() == lines && !dir.path().join("bad").exists(), "{bad:?}");
    }
    let again = firstline(&[
        "bundle",
        "new",
        &at("shop"),
        "--kb",
        &at("kb.jsonl"),
        "--intents",
        &at("intents.jsonl"),
    ]);
    assert!(again.code == Some(1) && again.stderr.contains("exists already"), "{again:?}");
}

#[test]
fn wrong_usage_ends_with_two_and_a_start_that_fails_with_one_line() {
    for usage in ["ask", "ask --batch f text", "ask --batch f --attribute a=b", "nonsense"] {
        assert_eq!(firstline(&usage.split(' ').collect::<Vec<_>>()).code, Some(2), "{usage}");
    }
    let demo = demo().display().to_string();
    let one_line = |finished: &tests::Finished, parts: &[&str]| {
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
        parts.iter().for_each(|part| {
            assert!(finished.stderr.contains(part), "{part:?} is not in {}", finished.stderr)
        });
    };
    let batch = scratch();
    for (text, place, what) in [
        ("{\"text\": \"a\"}\n{\"txt\": \"a\"}\n", ":2: ", "unknown field `txt`"),
        ("{\"text\": \"a\"}\nnot json\n", ":2: ", "no JSON"),
        ("{\"text\": \"  \"}\n", ":1: ", "text without a word, allowed 1 to 65536"),
        ("\n", ": ", "holds no questions"),
    ] {
        let file = batch.path().join("b.jsonl");
        std::fs::write(&file, text).unwrap();
        let finished = firstline(&["ask", "--bundle", &demo, "--batch", file.to_str().unwrap()]);
        one_line(&finished, &[&format!("b.jsonl{place}"), what]);
        assert!(!finished.stderr.contains("column"), "{finished:?}");
    }
    one_line(&firstline(&["ask", "--bundle", "/nonexistent", "hello"]), &["/nonexistent", "no such folder"]);
    let misnamed = ["ask", "--bundle", &demo, "--attribute", "Tier=gold", "hi"];
    one_line(&firstline(&misnamed), &["attributes: name \"Tier\""]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let finished = firstline(&["up", "--bundle", &demo, "--listen", &address]);
    one_line(&finished, &[&address, "cannot listen", "server.listen.orchestrator"]);
    let refused = |program: &str, arguments: &[&str], variables: &[(&str, &str)], says: &[&str]| {
        let (mut program, dir) = (command(program), scratch());
        program.args(arguments).envs(variables.iter().copied()).current_dir(dir.path());
        let output = program.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && stderr.lines().count() == 1, "{stderr}");
        assert!(says.iter().all(|part| stderr.contains(part)), "{stderr}");
    };
    // A port of a stage that is taken by something silent, before any process starts.
    let up = ["up", "--processes", "--bundle", &demo, "--listen", "127.0.0.1:0"];
    let there = [("FIRSTLINE__SERVER__LISTEN__SAFETY", address.as_str())];
    refused("firstline", &up, &there, &[&address, "server.listen.safety"]);
    let tls = ["CERT", "KEY", "CA"].map(|file| format!("FIRSTLINE__SERVER__TLS__{file}"));
    let tls = tls.each_ref().map(|name| (name.as_str(), "/nonexistent"));
    let without = [&tls[..], &[("FIRSTLINE__SERVER__ADMIN__SAFETY", "")]].concat();
    refused("firstline", &up, &without, &["server.admin.safety is empty"]);
    let nowhere = [("FIRSTLINE__SERVER__BUNDLE", "/nonexistent")];
    refused("classifier", &[], &nowhere, &["classifier: ", "/nonexistent"]);
    let dir = scratch();
    let config = dir.path().join("firstline.toml");
    std::fs::write(&config, "[orchestrator]\n\npasages = 3\n").unwrap();
    let config = config.to_str().unwrap();
    let finished = firstline(&["--config", config, "up", "--bundle", &demo, "--listen", "127.0.0.1:0"]);
    one_line(&finished, &[&format!("{config}:3:"), "unknown field `pasages`", "`passages`"]);
}

#[test]
fn an_unreachable_model_still_answers_from_the_articles_and_doctor_names_it() {
    let demo = demo();
    let data = scratch();
    let run = |arguments: &[&str]| {
        let mut firstline = command("firstline");
        firstline.args(arguments).current_dir(data.path());
        firstline.env("FIRSTLINE__GENERATOR__PROVIDER", "openai").env("FIRSTLINE__GENERATOR__MODEL", "any");
        firstline.env("FIRSTLINE__GENERATOR__BASE_URL", "http://127.0.0.1:1/v1");
        firstline.output().unwrap()
    };
    let bundle = demo.to_str().unwrap();
    let question = "What does it cost to withdraw cash at a cash machine abroad?";
    let asked = run(&["ask", "--json", "--bundle", bundle, question]);
    let turn: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert_eq!((&turn["outcome"], &turn["model"]), (&"ANSWERED".into(), &"extractive".into()), "{turn}");
    let doctor = run(&["doctor", "--bundle", bundle]);
    assert_eq!(doctor.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("127.0.0.1:1"), "{doctor:?}");
}
