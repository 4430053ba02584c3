//! The assistant bundle: what a company writes, read, validated and hashed.

mod check;
mod knowledge;
mod problem;
mod read;
mod scaffold;
mod types;

pub use check::check;
pub use knowledge::{MAX_DOCUMENT_BYTES, import};
pub use read::{Problem, Problems, Reader};
pub use scaffold::scaffold;
pub use types::*;
