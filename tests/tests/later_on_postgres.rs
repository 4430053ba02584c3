//! The same tests with the stores on a real PostgreSQL: see `scratch::chosen`.

#[path = "later.rs"]
mod later;
