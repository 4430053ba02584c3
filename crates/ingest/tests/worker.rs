//! Readers that misbehave, played by a shell: the file at hand is lost, the others are read.
#![cfg(unix)]

use std::time::{Duration, Instant};

use bundle::Audience;
use ingest::Worker;

#[test]
fn a_reader_that_dies_hangs_or_babbles_loses_its_own_file_alone() {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        ("babble.html", "yes | head -c 300000000"),
        ("dies.html", "kill -ABRT $$"),
        ("good.html", r#"echo noise; printf '{"page":{"title":"Good","text":"Text.","notes":[]}}'"#),
        ("hangs.html", "exec sleep 60"),
        ("panics.html", "exit 101"),
        ("refuses.html", r#"printf '{"refused":"is odd"}'"#),
    ];
    for (name, script) in files {
        std::fs::write(dir.path().join(name), script).unwrap();
    }
    std::fs::write(dir.path().join("plain.md"), "# Plain\n\nText.\n").unwrap();
    // The document is its reader's script.
    let arguments = vec!["-c".to_owned(), "eval \"$(cat)\"".to_owned()];
    let worker = Worker { limit: Duration::from_secs(3), ..Worker::new("/bin/sh".into(), arguments) };
    let start = Instant::now();
    let imported = ingest::read(dir.path(), Audience::Public, &worker).unwrap();
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    let ids: Vec<_> = imported.documents.iter().map(|document| document.id.as_str()).collect();
    assert_eq!(ids, ["good", "plain"]);
    let said: Vec<_> = imported.problems.iter().map(ToString::to_string).collect();
    let expected = [
        ("babble.html: ", ""),
        ("dies.html: ", "memory"),
        ("hangs.html: ", "longer than 3 s"),
        ("panics.html: ", "broke its reader"),
        ("refuses.html: ", "is odd"),
    ];
    assert_eq!(said.len(), expected.len(), "{said:?}");
    for (line, (file, why)) in said.iter().zip(expected) {
        assert!(line.contains(file) && line.contains(why), "{line}");
    }
}
