//! The assistant bundle: what a company writes, read, validated and hashed.

mod check;
mod hours;
mod intents;
mod keys;
mod knowledge;
mod layout;
mod menu;
mod place;
mod policy;
mod problem;
mod questions;
mod read;
mod request;
pub mod rollout;
mod scaffold;
mod synonyms;
mod told;
mod types;
mod workflows;

pub use check::check;
pub use hours::{BusinessHours, Hours};
pub use knowledge::{BOM, MAX_DOCUMENT_BYTES, check_document, json_document, markdown_document, slug, twice};
pub use layout::QUESTIONS;
pub use menu::{Entry, Menu};
pub use policy::*;
pub use problem::plain_json;
pub use questions::{OUTCOMES, Question};
pub use read::{Place, Problem, Problems, Reader};
pub use request::*;
pub use scaffold::scaffold;
pub use types::*;
