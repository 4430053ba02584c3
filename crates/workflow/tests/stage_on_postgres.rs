//! The same tests with the stores on a real PostgreSQL: see `scratch::chosen`.

#[path = "stage/main.rs"]
mod stage;
