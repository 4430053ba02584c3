//! What the answer of a receiver proves, and what of it is told.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cel::Value as Cel;
use serde_json::Value;
use webhook::{REFUSALS, Reply};

use crate::catalogue::{Error, Workflow};
use crate::condition::{Condition, Facts};
use crate::deliver::Answer;
use crate::template::{RESPONSE, Values, check_names, render};

/// Longest value of an answer that is shown.
const MAX_VALUE_CHARS: usize = 128;
/// Why a request failed that the receiver answered with success and a body that says otherwise.
const FAILED: &str = "RESPONSE_FAILED";

/// What a receiver says of an effect it had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// Its reference.
    pub(crate) reference: Option<String>,
    /// Values by name.
    pub(crate) values: BTreeMap<String, String>,
}

/// An answer that is too long, broken or no JSON is a delivery without values, unless they decide.
pub(crate) fn judge(reply: &Reply, response: &bundle::Response) -> Answer {
    let body = reply.body.as_deref();
    let body: Value = body.and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
    if let Some(source) = &response.success {
        let facts = facts(i64::from(reply.status), cel(&body));
        let holds = Condition::compile(source, &facts).and_then(|condition| condition.holds(&facts));
        match holds {
            Ok(true) => (),
            Ok(false) => return Answer::Refused(FAILED.to_owned()),
            Err(error) => {
                tracing::warn!(%error, "response.success cannot be evaluated: nobody knows whether it happened");
                return Answer::Unclear("RESPONSE_UNCLEAR".to_owned());
            }
        }
    }
    let values = response.values.iter();
    let values = values.filter_map(|(name, place)| Some((name.clone(), shown(body.pointer(place)?)?)));
    let reference = body.pointer(&response.reference).and_then(shown);
    Answer::Done(Receipt { reference, values: values.collect() })
}

/// A string or a number that can be shown.
fn shown(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let fits = (1..=MAX_VALUE_CHARS).contains(&text.chars().count());
    (fits && !text.chars().any(char::is_control)).then_some(text)
}

fn facts(status: i64, body: Cel) -> Facts {
    let values = HashMap::from([("status", Cel::Int(status)), ("body", body)]);
    Facts { records: HashMap::new(), values, any: &["body"] }
}

fn cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::Number(number) => {
            number.as_i64().map_or_else(|| number.as_f64().map_or(Cel::Null, Cel::Float), Cel::Int)
        }
        Value::String(text) => Cel::from(text.as_str()),
        Value::Array(items) => Cel::from(items.iter().map(cel).collect::<Vec<_>>()),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, field)| (name.clone(), cel(field)));
            Cel::from(fields.collect::<HashMap<_, _>>())
        }
    }
}

/// Names of the values of a response, as templates use them.
pub(crate) fn names(response: &bundle::Response) -> impl Iterator<Item = String> {
    response.values.keys().map(|name| format!("{RESPONSE}{name}"))
}

/// Checks what an answer is read with.
///
/// # Errors
/// An expression or a message that cannot be used, or a message for what a request does not answer.
pub(crate) fn check(
    workflow: &str,
    key: &str,
    response: &bundle::Response,
    call: bool,
    known: &BTreeSet<String>,
) -> Result<(), Error> {
    if let Some(source) = &response.success {
        Condition::compile(source, &facts(200, Cel::Null)).map_err(|source| Error::Condition {
            workflow: workflow.to_owned(),
            key: format!("{key}.success"),
            source,
        })?;
    }
    response.messages.iter().try_for_each(|(code, message)| {
        let key = format!("{key}.messages.{code}");
        let number = code.starts_with(|c: char| c.is_ascii_digit());
        let fits = if call { REFUSALS.contains(&code.as_str()) } else { number };
        if !fits && code != "failed" {
            let allowed = if call { REFUSALS.join(", ") } else { "400 to 499".to_owned() };
            let (workflow, message) = (workflow.to_owned(), format!("is never told, allowed {allowed}"));
            return Err(Error::Value { workflow, key, message });
        }
        check_names(workflow, &key, message, known)
    })
}

impl Workflow {
    /// What the customer reads of a request that had no effect, by its error.
    pub(crate) fn complaint(&self, error: &str, slots: &Values) -> Option<String> {
        let code = if error == FAILED {
            "failed"
        } else {
            error.strip_prefix("HTTP_").or_else(|| error.strip_prefix("GRPC_"))?
        };
        let message = self.response.messages.get(code)?;
        render(&self.name, &format!("response.messages.{code}"), message, &self.shown(slots)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: &str, table: &str) -> Answer {
        let reply = Reply { status, body: Some(body.as_bytes().to_vec()) };
        judge(&reply, &toml::from_str(table).unwrap())
    }

    #[test]
    fn an_answer_proves_what_its_workflow_says_it_does() {
        let ok = "success = \"body.ok == true || status == 202\"";
        let refused = Answer::Refused(FAILED.to_owned());
        assert_eq!(judged(200, r#"{"ok": false}"#, ok), refused);
        assert!(matches!(judged(200, r#"{"ok": true}"#, ok), Answer::Done(_)));
        assert!(matches!(judged(202, "", ok), Answer::Done(_)));
        for body in ["", "no json", "{}", "[]", r#"{"okay": true}"#, "null"] {
            assert!(matches!(judged(200, body, ok), Answer::Unclear(_)), "{body}");
        }
        assert_eq!(judged(200, r#"{"ok": "true"}"#, ok), refused, "a word is no truth");
        let too_long = Reply { status: 200, body: None };
        let unclear = Answer::Unclear("RESPONSE_UNCLEAR".to_owned());
        assert_eq!(judge(&too_long, &toml::from_str(ok).unwrap()), unclear);
        assert!(matches!(judge(&too_long, &bundle::Response::default()), Answer::Done(_)));
    }

    #[test]
    fn only_short_words_and_numbers_of_an_answer_are_told() {
        let table = "reference = \"/data/id\"\nvalues = { a = \"/a/0\", b = \"/b~1c\", c = \"/c\" }";
        let long = "x".repeat(MAX_VALUE_CHARS + 1);
        for (body, reference, values) in [
            (r#"{"data": {"id": 17}, "a": ["x"], "b/c": 1.5}"#.to_owned(), Some("17"), "x 1.5"),
            (r#"{"data": {"id": "R 1"}, "a": [{}], "c": "{{ x }}"}"#.to_owned(), Some("R 1"), "{{ x }}"),
            (r#"{"data": {"id": ""}, "a": ["\u0007"], "c": true}"#.to_owned(), None, ""),
            (format!(r#"{{"data": {{"id": "{long}"}}, "reference": "R"}}"#), None, ""),
        ] {
            let Answer::Done(receipt) = judged(201, &body, table) else { panic!("{body}") };
            assert_eq!(receipt.reference.as_deref(), reference, "{body}");
            assert_eq!(receipt.values.into_values().collect::<Vec<_>>().join(" "), values, "{body}");
        }
    }
}
