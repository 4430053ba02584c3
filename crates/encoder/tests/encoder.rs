//! The encoder of `make models`, and one behind a server.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

use std::sync::atomic::{AtomicUsize, Ordering};

use encoder::{Encoder, Error, Opened, Vectors, cosine};
use kit::config::{Encoder as Config, Tier};

fn local() -> Encoder {
    let config = Config { tier: Tier::Dense, ..Config::default() };
    Encoder::open(&config).expect("the tests of the dense tier need the encoder: run `make models`")
}

#[test]
fn meanings_are_near_whatever_the_words_and_a_vector_depends_on_its_text_alone() {
    let encoder = local();
    let texts = ["my card has been stolen", "a thief took my debit card", "what is the exchange rate", ""];
    let all = encoder.embed_all(&texts, &|_| {}).unwrap();
    assert_eq!((encoder.dimension(), all[0].len()), (384, 384));
    assert!(cosine(&all[0], &all[1]) > 0.6, "{}", cosine(&all[0], &all[1]));
    assert!(cosine(&all[0], &all[2]) < 0.3, "{}", cosine(&all[0], &all[2]));
    for (text, vector) in texts.iter().zip(&all) {
        assert_eq!(encoder.embed(text).unwrap(), *vector);
        assert!((cosine(vector, vector) - 1.0).abs() < 1e-4);
    }
    // A very long text costs no more than a window of it.
    let long = "card ".repeat(20_000);
    assert_eq!(encoder.embed(&long).unwrap(), encoder.embed(&long[..5000]).unwrap());
}

#[test]
fn vectors_are_kept_for_the_texts_that_stay_and_not_taken_from_another_model() {
    let encoder = local();
    let folder = tempfile::tempdir().unwrap();
    let encoded = |texts: &[&str]| {
        let n = AtomicUsize::new(0);
        let mut vectors = Vectors::open(folder.path(), "passages", &encoder);
        let vectors = vectors.of(texts, &|_, total| n.store(total as usize, Ordering::Relaxed)).unwrap();
        (vectors, n.into_inner())
    };
    let (first, n) = encoded(&["a", "b", "a"]);
    assert_eq!((n, &first[0]), (2, &first[2]));
    assert_eq!(encoded(&["b", "c"]), (vec![first[1].clone(), encoder.embed("c").unwrap()], 1));
    assert_eq!(encoded(&["a", "c"]).1, 1);
    let file = folder.path().join("passages.vectors");
    let mut bytes = std::fs::read(&file).unwrap();
    // Another model of the same size, and a file cut short.
    bytes[13] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(encoded(&["a", "c"]).1, 2);
    std::fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
    assert_eq!(encoded(&["a", "c"]).1, 2);
}

#[test]
fn without_its_files_the_linear_tier_stands_in_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { tier: Tier::Dense, models: folder.path().to_owned(), ..Config::default() };
    let opened = Opened::new(&config);
    assert!(matches!(&opened, Opened::Fallback(Error::Absent(_))));
    let said = opened.describe();
    assert!(said.starts_with("linear, because ") && said.contains("make models"), "{said}");
    assert_eq!(Opened::new(&Config::default()).describe(), "linear");
}

/// A server of the embeddings protocol with vectors of three values: length, vowels, one.
async fn embeddings(axum::Json(body): axum::Json<serde_json::Value>) -> axum::Json<serde_json::Value> {
    let vector = |text: &str| {
        let vowels = text.chars().filter(|c| "aeiou".contains(*c)).count();
        serde_json::json!([text.len() as f64, vowels as f64, 1.0])
    };
    let texts = body["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap());
    let mut data: Vec<_> = texts
        .enumerate()
        .map(|(index, text)| serde_json::json!({ "index": index, "embedding": vector(text) }))
        .collect();
    data.reverse();
    axum::Json(serde_json::json!({ "data": data, "model": body["model"] }))
}

#[test]
fn a_server_of_the_embeddings_protocol_fits_the_same_seam() {
    kit::run::install_tls();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let routes = axum::Router::new().route("/v1/embeddings", axum::routing::post(embeddings));
    runtime.spawn(async move { axum::serve(listener, routes).await });
    let config = Config { tier: Tier::Dense, base_url, model: "tiny".to_owned(), ..Config::default() };
    let encoder = Encoder::open(&config).unwrap();
    assert_eq!((encoder.dimension(), encoder.id()), (3, format!("tiny@{}", config.base_url).as_str()));
    let texts: Vec<String> = (0..150).map(|n| "ab".repeat(n)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let all = encoder.embed_all(&texts, &|_| {}).unwrap();
    assert_eq!(all[7], encoder.embed("ababababababab").unwrap());
    assert!((cosine(&all[7], &all[7]) - 1.0).abs() < 1e-4);
    drop(runtime);
    let error = encoder.embed("gone").unwrap_err();
    let Error::Shared(error) = error else { panic!("{error}") };
    assert!(matches!(&*error, Error::Remote { url, .. } if url.ends_with("/v1/embeddings")), "{error}");
}
