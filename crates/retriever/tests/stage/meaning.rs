//! The dense tier, with the real encoder.

use std::sync::Arc;

use bundle::Audience::{Internal, Public};
use encoder::Encoder;
use kit::config::{Encoder as Settings, Tier};
use retriever::{Config, Error, Query, Retriever};
use tempfile::tempdir;

use crate::{bundle, document, found};

#[test]
fn meaning_finds_what_no_word_does_and_keeps_to_the_audience() {
    let settings = Settings { tier: Tier::Dense, ..Settings::default() };
    let encoder = Encoder::open(&settings).expect("the dense tier needs the encoder: run `make models`");
    let encoder = Arc::new(encoder);
    let (root, data) = (tempdir().unwrap(), tempdir().unwrap());
    let documents = [
        document("lost", "Mislaid cards", "Freeze a missing card in the app at once.", Public),
        document("isa", "Savings", "The cash ISA pays interest every year.", Public),
        document("secret", "Purse gone", "What staff do when a wallet disappeared.", Internal),
    ];
    let reader = bundle(root.path(), &documents);
    let dense = || Retriever::open_live(&reader, Some(encoder.clone()), data.path(), &Config::default());
    // The index of words is no index of meaning.
    assert!(matches!(dense(), Err(Error::Absent(_))));
    let built = retriever::build(&reader, Some(&encoder), &|_, _| {}).unwrap();
    let retriever = dense().unwrap();
    let nearest = |text: &str, audience| {
        let vector = encoder.embed(text).unwrap();
        let query = Query { text, vector: Some((encoder.id(), &vector)), audience, category: "", k: 1 };
        retriever.search(&query).unwrap().passages[0].1.document.clone()
    };
    let question = "my wallet vanished on the bus";
    assert!(!found(&retriever, question, Public).contains(&"lost".to_owned()));
    assert_eq!(nearest(question, Public), "lost");
    assert_eq!(nearest(question, Internal), "secret");
    // A document added later has its meaning too, and one deleted is gone.
    retriever.put(&[document("bus", "Property", "Things left behind on public transport.", Public)]).unwrap();
    assert_eq!(nearest("I forgot my umbrella in the tram", Public), "bus");
    retriever.delete(["bus"]).unwrap();
    assert_ne!(nearest("I forgot my umbrella in the tram", Public), "bus");

    let other = Query { text: "x", vector: Some(("other", &[1.0])), audience: Public, category: "", k: 1 };
    let refused = retriever.search(&other).unwrap_err().to_string();
    assert!(refused.starts_with("embedding: is by \"other\", 1 dimensions"), "{refused}");
    // Without the encoder the same index answers by words, and a vector does not count.
    std::fs::remove_dir_all(root.path().join(".build").join(format!("index-{}", &built.version[..16])))
        .unwrap();
    let words = Retriever::open(&reader, None, &Config::default()).unwrap();
    assert_eq!(words.search(&other).unwrap().passages, []);
    assert_eq!(found(&words, "freeze", Public), ["lost"]);
}
