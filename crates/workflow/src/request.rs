//! What a workflow sends, filled in with its values.

use std::collections::BTreeSet;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use webhook::Method;
use webhook::header::{HeaderName, HeaderValue};

use crate::catalogue::{Error, Workflow};
use crate::deliver::Delivery;
use crate::engine::now;
use crate::grpc::CALL;
use crate::slot::{Kind, Slot};
use crate::template::{Values, check_names, render};

/// RFC 3986, 2.3: what needs no encoding.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Headers that authenticate, frame or sign: the configuration and the client set them.
const FORBIDDEN: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const FORBIDDEN_PREFIXES: &[&str] = &["webhook-", "proxy-", "grpc-"];

/// A request of a workflow, checked.
#[derive(Debug)]
pub(crate) struct Request {
    /// Name of the workflow.
    workflow: String,
    /// Key of the table: "request" or "compensation.request".
    key: &'static str,
    /// As the bundle has it.
    pub(crate) template: bundle::RequestTemplate,
}

/// How a request is sent and read.
#[derive(Debug)]
pub(crate) struct Terms<'w> {
    pub(crate) idempotent: bool,
    pub(crate) retry: bundle::Retry,
    pub(crate) response: &'w bundle::Response,
}

impl Request {
    /// Checks a request whose templates may use the slots and the names of other values.
    ///
    /// # Errors
    /// The first key with a value that is not allowed.
    pub(crate) fn compile(
        workflow: &str,
        key: &'static str,
        template: bundle::RequestTemplate,
        slots: &[&Slot],
        others: &BTreeSet<String>,
    ) -> Result<Self, Error> {
        let request = Self { workflow: workflow.to_owned(), key, template };
        let known: BTreeSet<String> =
            slots.iter().map(|slot| slot.name.clone()).chain(others.iter().cloned()).collect();
        if !request.is_call() {
            request.check_path(slots, others)?;
        }
        request.check_headers()?;
        request.check_unquoted(slots)?;
        for (name, template) in &request.template.query {
            check_names(workflow, &format!("{key}.query.{name}"), template, &known)?;
        }
        request.check_body(&format!("{key}.body"), &request.whole_body(), &known)?;
        Ok(request)
    }

    /// The request with its values, ready to be sent.
    ///
    /// # Errors
    /// A template that does not render, or a value that cannot stand where it has to.
    pub(crate) fn delivery(&self, values: &Values, terms: Terms<'_>) -> Result<Delivery, Error> {
        let template = &self.template;
        let method = match template.method {
            Some(bundle::Method::Post) => Method::POST.as_str(),
            Some(bundle::Method::Put) => Method::PUT.as_str(),
            Some(bundle::Method::Patch) => Method::PATCH.as_str(),
            Some(bundle::Method::Delete) => Method::DELETE.as_str(),
            None => CALL,
        };
        let undo = if self.key == "request" { "" } else { ".undo" };
        Ok(Delivery {
            workflow: format!("{}{undo}", self.workflow),
            approved_at: now(),
            target: template.target.clone(),
            method: method.to_owned(),
            path: self.address(values)?,
            headers: template.headers.clone(),
            body: self.body(values)?,
            timeout_ms: template.timeout_ms,
            max_attempts: if terms.idempotent { terms.retry.max_attempts } else { 1 },
            idempotent: terms.idempotent,
            retry: terms.retry,
            // What the customer reads is not for the receiver's answer to wait for.
            response: bundle::Response { messages: Values::new(), ..terms.response.clone() },
        })
    }

    /// The path with its query.
    ///
    /// # Errors
    /// A template that does not render, or a value that cannot stand where it has to.
    pub(crate) fn address(&self, values: &Values) -> Result<String, Error> {
        match &self.template.grpc {
            Some(name) => Ok(format!("/{name}")),
            None => Ok(self.path(values)? + &self.query(values)?),
        }
    }

    /// Whether it calls a method of gRPC.
    pub(crate) fn is_call(&self) -> bool {
        self.template.grpc.is_some()
    }

    /// A slot whose value cannot stand where the request has it.
    pub(crate) fn unfit<'r>(&'r self, values: &Values) -> Option<&'r str> {
        let in_path = self.template.path.split('/').filter_map(named_slot);
        let in_path = in_path.filter(|name| segment(values, name).is_none());
        let unquoted = self.template.unquoted.iter().map(String::as_str);
        let unquoted = unquoted.filter(|name| values.get(*name).is_some_and(|text| literal(text).is_none()));
        in_path.chain(unquoted).next()
    }

    /// The JSON body. Values become strings and nothing else, unless they are to be unquoted.
    ///
    /// # Errors
    /// A template that does not render, an unquoted value that is no number, true or false.
    pub(crate) fn body(&self, values: &Values) -> Result<String, Error> {
        Ok(self.fill(&format!("{}.body", self.key), &self.whole_body(), values)?.to_string())
    }

    /// Renders every template with values such as these.
    ///
    /// # Errors
    /// One does not render.
    pub(crate) fn check_renders(&self, values: &Values) -> Result<(), Error> {
        let unquoted = self.template.unquoted.iter().filter(|name| values.contains_key(*name));
        let unquoted = unquoted.map(|name| (name.clone(), "1".to_owned()));
        let values: Values = values.clone().into_iter().chain(unquoted).collect();
        self.address(&values).and_then(|_| self.body(&values)).map(|_| ())
    }

    fn path(&self, values: &Values) -> Result<String, Error> {
        let segment = |part| match named_slot(part) {
            Some(name) => segment(values, name).ok_or_else(|| self.wrong("path", format!("has no {name}"))),
            None => Ok(part.to_owned()),
        };
        Ok(self.template.path.split('/').map(segment).collect::<Result<Vec<_>, _>>()?.join("/"))
    }

    fn query(&self, values: &Values) -> Result<String, Error> {
        let mut query = String::new();
        for (name, template) in &self.template.query {
            let value = render(&self.workflow, &format!("{}.query.{name}", self.key), template, values)?;
            if !value.is_empty() {
                query.push(if query.is_empty() { '?' } else { '&' });
                query.extend([&encoded(name), "=", &encoded(&value)]);
            }
        }
        Ok(query)
    }

    fn whole_body(&self) -> Value {
        Value::Object(self.template.body.clone())
    }

    fn fill(&self, key: &str, value: &Value, values: &Values) -> Result<Value, Error> {
        Ok(match value {
            Value::String(template) => match self.unquoted(template) {
                Some(name) => match values.get(name) {
                    Some(text) => {
                        literal(text).ok_or_else(|| self.wrong("unquoted", format!("{name} is none")))?
                    }
                    None => Value::Null,
                },
                None => Value::String(render(&self.workflow, key, template, values)?),
            },
            Value::Array(items) => {
                let items = items.iter().map(|item| self.fill(key, item, values));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => {
                let fields = fields.iter().map(|(name, field)| {
                    Ok((name.clone(), self.fill(&format!("{key}.{name}"), field, values)?))
                });
                Value::Object(fields.collect::<Result<_, Error>>()?)
            }
            other => other.clone(),
        })
    }

    /// The slot that a template is and nothing else, when it is to be unquoted.
    fn unquoted<'t>(&self, template: &'t str) -> Option<&'t str> {
        let name = template.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
        self.template.unquoted.iter().any(|unquoted| unquoted == name).then_some(name)
    }

    /// The host comes from the configuration alone, so nothing of the path may reach it.
    fn check_path(&self, slots: &[&Slot], others: &BTreeSet<String>) -> Result<(), Error> {
        let path = &self.template.path;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '~');
        let fixed: Vec<&str> = path.split('/').map(|part| named_slot(part).map_or(part, |_| "x")).collect();
        let fixed = fixed.join("/");
        if !fixed.starts_with('/')
            || fixed.contains("//")
            || fixed.contains("..")
            || !fixed.chars().all(plain)
        {
            let allowed = "allowed a path such as \"/cards/{slot}/block\", without templates";
            return Err(self.wrong("path", format!("is {path:?}, {allowed}")));
        }
        path.split('/').filter_map(named_slot).filter(|name| !others.contains(*name)).try_for_each(|name| {
            let slot = slots.iter().find(|slot| slot.name == name);
            let fits =
                slot.is_some_and(|slot| !slot.optional && !matches!(slot.kind, Kind::Text | Kind::Email));
            let allowed = "allowed a required slot of type pattern, order_id, choice, date or amount";
            if fits { Ok(()) } else { Err(self.wrong("path", format!("has {{{name}}}, {allowed}"))) }
        })
    }

    fn check_headers(&self) -> Result<(), Error> {
        self.template.headers.iter().try_for_each(|(name, value)| {
            let lower = name.to_ascii_lowercase();
            let ours = FORBIDDEN.contains(&lower.as_str())
                || FORBIDDEN_PREFIXES.iter().any(|prefix| lower.starts_with(prefix));
            let message = if ours {
                "is set by the client or the configuration"
            } else if HeaderName::from_bytes(name.as_bytes()).is_err() {
                "is no name of a header"
            } else if HeaderValue::from_str(value).is_err() {
                "is no value of a header, allowed visible ASCII"
            } else {
                return Ok(());
            };
            Err(self.wrong(&format!("headers.{name}"), message.to_owned()))
        })
    }

    fn check_unquoted(&self, slots: &[&Slot]) -> Result<(), Error> {
        let body = self.whole_body();
        self.template.unquoted.iter().try_for_each(|name| {
            let slot = slots.iter().find(|slot| slot.name == *name);
            let fits = slot.is_some_and(|slot| match &slot.kind {
                Kind::Amount(_) | Kind::Pattern(_) => true,
                Kind::Choice(choices) => choices.iter().all(|choice| literal(&choice.value).is_some()),
                _ => false,
            });
            if !fits {
                let allowed = "allowed slots of type amount, pattern, or choice of numbers, true and false";
                return Err(self.wrong("unquoted", format!("has {name:?}, {allowed}")));
            }
            if !self.stands_alone(&body, name) {
                let message = format!("has {name:?}, which no string of the body is alone");
                return Err(self.wrong("unquoted", message));
            }
            Ok(())
        })
    }

    fn stands_alone(&self, value: &Value, name: &str) -> bool {
        match value {
            Value::String(template) => self.unquoted(template) == Some(name),
            Value::Array(items) => items.iter().any(|item| self.stands_alone(item, name)),
            Value::Object(fields) => fields.values().any(|field| self.stands_alone(field, name)),
            _ => false,
        }
    }

    fn check_body(&self, key: &str, value: &Value, known: &BTreeSet<String>) -> Result<(), Error> {
        match value {
            Value::String(template) => check_names(&self.workflow, key, template, known),
            Value::Array(items) => items.iter().try_for_each(|item| self.check_body(key, item, known)),
            Value::Object(fields) => fields
                .iter()
                .try_for_each(|(name, field)| self.check_body(&format!("{key}.{name}"), field, known)),
            _ => Ok(()),
        }
    }

    pub(crate) fn wrong(&self, key: &str, message: String) -> Error {
        Error::Value { workflow: self.workflow.clone(), key: format!("{}.{key}", self.key), message }
    }
}

impl Workflow {
    /// Its request with these slots, ready to be sent.
    ///
    /// # Errors
    /// A template that does not render, or a value that cannot stand where it has to.
    pub(crate) fn delivery(&self, slots: &Values) -> Result<Delivery, Error> {
        let terms = Terms {
            idempotent: self.effect == bundle::Effect::Idempotent,
            retry: self.retry.clone(),
            response: &self.response,
        };
        self.request.delivery(slots, terms)
    }
}

/// The name in a segment `{name}`.
fn named_slot(segment: &str) -> Option<&str> {
    let name = segment.strip_prefix('{')?.strip_suffix('}')?;
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
    name.chars().all(fits).then_some(name)
}

/// A value as one segment of a path; none when it would be no segment of its own.
fn segment(values: &Values, name: &str) -> Option<String> {
    let value = values.get(name).filter(|value| !matches!(value.as_str(), "" | "." | ".."))?;
    Some(encoded(value))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// The JSON number, true or false that a text is.
fn literal(text: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(text).ok()?;
    (value.is_number() || value.is_boolean()).then_some(value)
}
