//! Signed requests to configured targets, requests with a token to theirs, what their answers prove, and signatures of
//! requests that come in.

mod answer;
mod call;
mod event;
mod guard;
mod rpc;
mod secret;
mod send;
mod sign;
mod target;
mod verify;

pub use answer::{Answer, Reply};
pub use call::{Call, Caller};
pub use event::{Event, Format};
pub use reqwest::header::{HeaderMap, HeaderName};
pub use reqwest::{Method, header};
pub use rpc::{REFUSALS, Rpc};
pub use secret::Secrets;
pub use send::{Error, Request, Sender};
pub use target::Target;
pub use verify::{Refusal, Verifier};
