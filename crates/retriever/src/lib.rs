//! The retriever stage: passages of the knowledge base for a question, filtered by audience.

mod build;
mod chunk;
mod config;
mod evaluate;
mod gate;
mod guess;
mod index;
mod meaning;
mod query;
mod rerank;
mod search;
mod server;
mod store;
mod synonyms;

pub use build::{Built, build, is_built};
pub use chunk::{Chunk, chunks};
pub use config::Config;
pub use evaluate::{Report, evaluate};
pub use index::{Error, Passage};
pub use rerank::Rerank;
pub use search::{Found, Query};
pub use server::{NAME, service};
pub use store::{Changed, Retriever, State};
