//! Bodies as CloudEvents 1.0, in structured mode.
//!
//! Seven fields by serde and not by cloudevents-sdk: that would bring in chrono, snafu and the name of this machine, and
//! read the body into a tree and write it anew, in an order of its own.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::send::Request;

const JSON: &str = "application/json";
const CLOUDEVENTS: &str = "application/cloudevents+json";

/// How a target wants the body of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// As it is.
    #[default]
    Json,
    /// As the data of a CloudEvent.
    Cloudevents,
}

/// What a request tells of, for targets that want a CloudEvent.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// Where it happened, a URI reference; with the request's id unique.
    pub source: &'a str,
    /// What happened: a reversed domain and a name, for example "dev.firstline.workflow.block_card".
    pub kind: &'a str,
    /// When it happened; the same at every attempt.
    pub at: Timestamp,
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    time: Timestamp,
    datacontenttype: &'static str,
    data: &'a RawValue,
}

impl Format {
    /// Content type and bytes of a request, the same ones at every attempt; `None` when its body is no JSON.
    pub(crate) fn body<'a>(self, request: &Request<'a>) -> Option<(&'static str, Cow<'a, str>)> {
        if self == Self::Json {
            return Some((JSON, request.body.into()));
        }
        let Event { source, kind, at } = request.event;
        let event = CloudEvent {
            specversion: "1.0",
            id: request.id,
            source,
            kind,
            time: at,
            datacontenttype: JSON,
            data: serde_json::from_str(request.body).ok()?,
        };
        Some((CLOUDEVENTS, serde_json::to_string(&event).ok()?.into()))
    }
}
