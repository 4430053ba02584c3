//! The stage as its callers see it: over a bundle on disk, and over gRPC.

#![expect(clippy::unwrap_used, reason = "these are tests, also outside of #[test] functions")]

mod meaning;
mod rerank;
mod service;
mod store;

use std::path::Path;

use bundle::{Audience, Document, Reader};
use retriever::{Config, Found, Query, Retriever};

fn document(id: &str, title: &str, content: &str, audience: Audience) -> Document {
    Document {
        id: id.into(),
        title: title.into(),
        content: content.into(),
        audience,
        tags: vec!["cards".into()],
    }
}

/// A bundle of these documents under `root`, with its index built.
fn bundle(root: &Path, documents: &[Document]) -> Reader {
    std::fs::create_dir_all(root.join("knowledge")).unwrap();
    std::fs::write(root.join("assistant.toml"), "schema = 1\n").unwrap();
    let lines: Vec<String> =
        documents.iter().map(|document| serde_json::to_string(document).unwrap()).collect();
    std::fs::write(root.join("knowledge/all.jsonl"), lines.join("\n")).unwrap();
    let reader = Reader::open(root).unwrap();
    retriever::build(&reader, None, &|_, _| {}).unwrap();
    reader
}

fn live(reader: &Reader, data: &Path) -> Retriever {
    Retriever::open_live(reader, None, data, &Config::default()).unwrap()
}

fn search(retriever: &Retriever, text: &str, audience: Audience) -> Found {
    retriever.search(&Query { text, vector: None, audience, category: "cards", k: 100 }).unwrap()
}

/// The ids of the documents found, best first.
fn found(retriever: &Retriever, text: &str, audience: Audience) -> Vec<String> {
    search(retriever, text, audience).passages.into_iter().map(|(_, passage)| passage.document).collect()
}
