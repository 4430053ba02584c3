//! The same tests with the stores on a real PostgreSQL: see `scratch::chosen`.

#[path = "costs.rs"]
mod costs;
