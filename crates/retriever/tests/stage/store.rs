//! Building, searching, changing, restarting.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bundle::Audience::{Internal, Public};
use retriever::{Config, Error, Query, Retriever};
use tempfile::tempdir;

use crate::{bundle, document, found, live, search};

const SECRET: &str = "Card reissue codes for staff";

fn knowledge() -> Vec<bundle::Document> {
    vec![
        document(
            "lost-card",
            "Lost card",
            "Freeze the **lost card** in the app.\n\n- Then order another.",
            Public,
        ),
        document(
            "contactless",
            "Contactless limit",
            "The limit of contactless payments is 100 pounds.",
            Public,
        ),
        document("codes", SECRET, "Reissue code 41: the card is lost.", Internal),
    ]
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

#[test]
fn an_internal_document_never_answers_a_public_question() {
    let (root, data) = (tempdir().unwrap(), tempdir().unwrap());
    let retriever = live(&bundle(root.path(), &knowledge()), data.path());
    assert_eq!(found(&retriever, SECRET, Internal)[0], "codes");
    assert_eq!(found(&retriever, SECRET, Public), ["lost-card"]);
    // Also not once it is changed, nor when a public document becomes internal.
    let mut hidden = knowledge().remove(0);
    hidden.audience = Internal;
    retriever.put(&[hidden, document("codes", SECRET, "Reissue code 43: a stolen card.", Internal)]).unwrap();
    assert!(found(&retriever, &format!("{SECRET} lost card app"), Public).is_empty());
    assert_eq!(found(&retriever, SECRET, Internal).len(), 2);
}

#[test]
fn passages_are_verbatim_and_name_the_version_they_were_cut_from() {
    let (root, data) = (tempdir().unwrap(), tempdir().unwrap());
    let long = (0..60)
        .map(|n| format!("## Part {n}\n\n- Card {n} costs {n} pounds — “really”.\n"))
        .collect::<String>();
    let documents = [document("long", "Prices", &long, Public)];
    let retriever = live(&bundle(root.path(), &documents), data.path());
    let passages = search(&retriever, "card prices", Public).passages;
    assert_eq!(passages.len() as u64, retriever.state().passages);
    assert!(passages.len() > 1);
    for (_, passage) in passages {
        assert_eq!(passage.text, long[passage.start as usize..passage.end as usize]);
        assert_eq!(passage.version, documents[0].version());
    }
}

#[test]
fn nothing_in_a_question_is_an_operator_or_a_fault() {
    let (root, data) = (tempdir().unwrap(), tempdir().unwrap());
    let retriever = live(&bundle(root.path(), &knowledge()), data.path());
    let many: String = (0..).map(|n| format!("w{n:x}yz ")).take(8_000).collect();
    let hostile = [
        "",
        "\0",
        "*",
        "+audience:internal OR *:* AND \"reissue\"",
        "audience:[public TO internal] {",
        "\"unclosed ' ( [ ^2 ~3 \\",
        "😀🏳️‍🌈 e\u{301}\u{202e}\u{feff}",
        "NOT card",
        &"card ".repeat(13_000),
        &many,
        &"ﷺ".repeat(20_000),
        &"\u{0}".repeat(65_536),
    ];
    for text in hostile {
        assert!(!found(&retriever, text, Public).contains(&"codes".to_owned()), "{text:.40}");
    }
    assert_eq!(found(&retriever, &format!("{many} contactless"), Public), ["contactless"]);
    assert_eq!(found(&retriever, "contacless limt", Public)[0], "contactless");
    let none = Query { text: "card", vector: None, audience: Public, category: "\0' OR 1", k: 0 };
    assert_eq!(retriever.search(&none).unwrap().passages.len(), 1);
}

#[test]
fn a_synonym_finds_what_the_question_calls_by_another_name_and_counts_once() {
    let (root, data) = (tempdir().unwrap(), tempdir().unwrap());
    let documents = [
        document("kept", "Kept", "The cash machine kept it.", Public),
        document("atm", "Abroad", "An ATM kept it.", Public),
        document("shop", "Shop", "The till kept cash.", Public),
        document("wallet", "Wallet", "Pay with the phone wallet.", Public),
    ];
    let before = bundle(root.path(), &documents).hash_of(&["knowledge"]);
    let file = "[[synonym]]\nwords = [\"cash machine\", \"ATM\", \"cashpoint\"]\n\
                [[synonym]]\nfrom = [\"gpay\"]\nto = [\"phone wallet\"]\n";
    std::fs::write(root.path().join("knowledge/synonyms.toml"), file).unwrap();
    let reader = bundle(root.path(), &documents);
    assert_ne!(reader.hash_of(&["knowledge"]), before);
    let retriever = live(&reader, data.path());
    // All words of a phrase, or it is none: the till has only cash.
    let mut both = found(&retriever, "a cashpoint", Public);
    both.sort();
    assert_eq!(both, ["atm", "kept"]);
    assert_eq!(found(&retriever, "cash machines", Public), ["kept", "atm", "shop"]);
    assert_eq!(found(&retriever, "gpay", Public), ["wallet"]);
    // A passage with the word and its synonym scores as one with the word.
    let score = |text: &str| search(&retriever, text, Public).passages[0].0;
    let once = score("ATM");
    retriever.put(&[document("atm", "Abroad", "An ATM cashpoint.", Public)]).unwrap();
    assert!((score("ATM") - once).abs() < 0.2 * once, "{} {once}", score("ATM"));
}

#[test]
fn a_misspelt_word_finds_the_nearest_and_only_where_it_is_near() {
    let (root, data) = (tempdir().unwrap(), tempdir().unwrap());
    let documents = [
        document("verify", "Verification", "The verification code of the day.", Public),
        document("mortgage", "Mortgages", "Ask about mortgages.", Public),
        document("code", "Codes", "A code, and a code of honour.", Public),
    ];
    let retriever = live(&bundle(root.path(), &documents), data.path());
    // Letters swapped, missing, the first one wrong, two of a long word wrong.
    for text in ["mortgaeg", "morgage", "nortgage", "martgagge"] {
        assert_eq!(found(&retriever, text, Public), ["mortgage"], "{text}");
    }
    assert_eq!(found(&retriever, "verifcation code", Public)[0], "verify");
    assert_eq!(found(&retriever, "honuor", Public), ["code"]);
    for text in ["mxrtxgxge", "cxd", "cade"] {
        assert!(!found(&retriever, text, Public).contains(&"mortgage".to_owned()), "{text}");
    }
    assert!(found(&retriever, "mxrtxgxge cxd", Public).is_empty());
}

#[test]
fn a_search_sees_a_change_whole_or_not_at_all() {
    let (root, data) = (tempdir().unwrap(), tempdir().unwrap());
    let retriever = live(&bundle(root.path(), &knowledge()), data.path());
    let pair = |round: usize| {
        ["left", "right"].map(|id| document(id, "Gauge", &format!("Gauge revision r{round}x."), Public))
    };
    retriever.put(&pair(0)).unwrap();
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut versions = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let found = search(&retriever, "gauge revision", Public);
                let texts: Vec<&str> =
                    found.passages.iter().map(|(_, passage)| passage.text.as_str()).collect();
                assert_eq!(texts.len(), 2, "{texts:?}");
                assert_eq!(texts[0], texts[1]);
                versions.push((found.index_version.clone(), texts[0].to_owned()));
            }
            versions
        });
        for round in 1..=12 {
            retriever.put(&pair(round)).unwrap();
            let now = search(&retriever, "gauge", Public);
            assert!(now.passages.iter().all(|(_, passage)| passage.text.contains(&format!("r{round}x"))));
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    // One version, one content.
    let by_version: BTreeMap<_, _> = seen.iter().cloned().collect();
    assert!(seen.iter().all(|(version, text)| &by_version[version] == text));
    assert_eq!(retriever.delete(["left", "right", "absent"]).unwrap().documents, 2);
    assert!(found(&retriever, "gauge", Public).is_empty());
}

#[test]
fn changes_outlive_the_process_and_leave_the_bundle_as_it_was() {
    let (root, data) = (tempdir().unwrap(), tempdir().unwrap());
    let reader = bundle(root.path(), &knowledge());
    let built = retriever::build(&reader, None, &|_, _| {}).unwrap();
    assert!(built.reused);
    let before = files(&built.path);
    let first = live(&reader, data.path());
    assert_eq!(first.state().index_version, built.version);
    assert_eq!((first.state().documents, first.state().passages), (3, 3));
    let put = first.put(&[document("pin", "PIN", "See the PIN in the app.", Public)]).unwrap();
    let deleted = first.delete(["lost-card"]).unwrap();
    assert_ne!(put.index_version, built.version);
    assert_ne!(put.index_version, deleted.index_version);
    let state = first.state();
    assert_eq!((state.documents, &state.index_version), (3, &deleted.index_version));
    drop(first);
    assert_eq!(live(&reader, data.path()).state(), state);
    assert_eq!(files(&built.path), before);
    assert_eq!(
        Retriever::open(&reader, None, &Config::default()).unwrap().state().index_version,
        built.version
    );
    // The same changes make the same version elsewhere.
    let other = tempdir().unwrap();
    let replica = live(&reader, other.path());
    replica.put(&[document("pin", "PIN", "See the PIN in the app.", Public)]).unwrap();
    assert_eq!(replica.delete(["lost-card"]).unwrap().index_version, state.index_version);
}

#[test]
fn a_process_killed_while_it_writes_leaves_the_last_commit() {
    let (root, data, killed) = (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    let reader = bundle(root.path(), &knowledge());
    let state = live(&reader, data.path()).put(&[document("pin", "PIN", "The PIN.", Public)]).unwrap();
    let folder = |data: &Path| data.join("retriever").join(state.index_version.split('.').next().unwrap());
    // What is on disk once new segments are written and before they are committed.
    let index = tantivy::Index::open_in_dir(folder(data.path())).unwrap();
    let analyser = tantivy::tokenizer::TokenizerManager::default().get("default").unwrap();
    index.tokenizers().register("english", analyser);
    let mut writer: tantivy::IndexWriter = index.writer_with_num_threads(1, 15_000_000).unwrap();
    let mut entry = tantivy::TantivyDocument::new();
    entry.add_text(index.schema().get_field("body").unwrap(), "half written PIN");
    writer.add_document(entry).unwrap();
    writer.delete_term(tantivy::Term::from_field_text(index.schema().get_field("id").unwrap(), "pin"));
    let prepared = writer.prepare_commit().unwrap();
    std::fs::create_dir_all(folder(killed.path())).unwrap();
    let left = files(&folder(data.path()));
    assert!(left.len() > files(&retriever::build(&reader, None, &|_, _| {}).unwrap().path).len());
    for (name, content) in left {
        std::fs::write(folder(killed.path()).join(name), content).unwrap();
    }
    drop(prepared);
    let retriever = live(&reader, killed.path());
    assert_eq!(retriever.state().index_version, state.index_version);
    assert_eq!(found(&retriever, "PIN", Public), ["pin"]);
    retriever.put(&[document("pin", "PIN", "Another PIN.", Public)]).unwrap();
    assert_eq!(search(&retriever, "PIN", Public).passages[0].1.text, "Another PIN.");
}

#[test]
fn a_second_process_on_the_folder_reads_but_does_not_write() {
    let (root, data) = (tempdir().unwrap(), tempdir().unwrap());
    let reader = bundle(root.path(), &knowledge());
    let (first, second) = (live(&reader, data.path()), live(&reader, data.path()));
    let change = [document("pin", "PIN", "The PIN.", Public)];
    first.put(&change).unwrap();
    assert_eq!(found(&second, "contactless", Public), ["contactless"]);
    let refused = second.put(&change).unwrap_err();
    assert!(matches!(&refused, Error::ReadOnly(reason) if reason.contains("another process")), "{refused}");
    drop(first);
    second.delete(["contactless"]).unwrap();
    assert_eq!(found(&second, "PIN", Public), ["pin"]);
    let fixed = Retriever::open(&reader, None, &Config::default()).unwrap();
    assert!(matches!(fixed.delete(["pin"]).unwrap_err(), Error::ReadOnly(_)));
}

#[test]
fn an_index_belongs_to_the_knowledge_it_was_built_from() {
    let root = tempdir().unwrap();
    let first = retriever::build(&bundle(root.path(), &knowledge()), None, &|_, _| {}).unwrap();
    let mut changed = knowledge();
    changed[0].audience = Internal;
    let reader = bundle(root.path(), &changed);
    assert_ne!(retriever::build(&reader, None, &|_, _| {}).unwrap().version, first.version);
    std::fs::remove_dir_all(reader.build_dir()).unwrap();
    let missing = Retriever::open(&reader, None, &Config::default()).err().unwrap().to_string();
    assert!(missing.contains("firstline bundle build"), "{missing}");
    let empty = tempdir().unwrap();
    let none = Retriever::open(&bundle(empty.path(), &[]), None, &Config::default()).unwrap();
    assert!(found(&none, "card", Public).is_empty());
    assert_eq!(none.state().documents, 0);
}

#[test]
fn an_evaluation_measures_judged_queries_and_names_the_line_it_cannot_read() {
    let root = tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = root.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let corpus =
        ["a", "b", "c"].map(|id| format!("{{\"_id\":\"{id}\",\"title\":\"T\",\"text\":\"{id}x only\"}}\n"));
    write("corpus.jsonl", &corpus.concat());
    write(
        "queries.jsonl",
        "{\"_id\":\"1\",\"text\":\"bx\"}\n{\"_id\":\"2\",\"text\":\"cx\"}\n{\"_id\":\"3\",\"text\":\"z\"}\n",
    );
    write("qrels/test.tsv", "query-id\tcorpus-id\tscore\n1\tb\t1\n2\ta\t1\n");
    let report = retriever::evaluate(root.path(), None, &Config::default(), &|_, _| {}).unwrap();
    assert_eq!((report.docs, report.queries, report.ndcg_10, report.recall_20), (3, 2, 0.5, 0.5));
    write("qrels/test.tsv", "query-id\tcorpus-id\tscore\n1\tb\tmany\n");
    let error =
        retriever::evaluate(root.path(), None, &Config::default(), &|_, _| {}).unwrap_err().to_string();
    assert!(error.contains("test.tsv:2: score \"many\""), "{error}");
}
