//! What a workflow sends, filled in with its slots.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::value::Value as Context;
use serde_json::Value;

use crate::catalogue::Error;
use crate::template::{check_names, context, render};

/// The request of a workflow, checked.
#[derive(Debug)]
pub(crate) struct Request {
    /// Name of the workflow.
    workflow: String,
    /// As the bundle has it.
    pub(crate) template: bundle::RequestTemplate,
}

impl Request {
    /// Checks a request whose templates may use the known names.
    ///
    /// # Errors
    /// A path that could leave its host, a template that does not compile or uses another name.
    pub(crate) fn compile(
        workflow: &str,
        template: bundle::RequestTemplate,
        known: &BTreeSet<String>,
    ) -> Result<Self, Error> {
        let request = Self { workflow: workflow.to_owned(), template };
        request.check_path()?;
        request.check_body("request.body", &request.whole_body(), known)?;
        Ok(request)
    }

    /// The JSON body. Slot values become strings and nothing else.
    ///
    /// # Errors
    /// A template that does not render.
    pub(crate) fn body(&self, slots: &BTreeMap<String, String>) -> Result<String, Error> {
        Ok(self.fill("request.body", &self.whole_body(), &context(slots))?.to_string())
    }

    fn whole_body(&self) -> Value {
        Value::Object(self.template.body.clone())
    }

    /// The host comes from the configuration alone, so nothing of the path may reach it or come from a slot.
    fn check_path(&self) -> Result<(), Error> {
        let path = &self.template.path;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '~');
        if path.starts_with('/') && !path.contains("//") && !path.contains("..") && path.chars().all(plain) {
            return Ok(());
        }
        let message = format!("is {path:?}, allowed a path such as \"/cards/block\", without templates");
        Err(Error::Value { workflow: self.workflow.clone(), key: "request.path", message })
    }

    fn fill(&self, key: &str, value: &Value, slots: &Context) -> Result<Value, Error> {
        Ok(match value {
            Value::String(template) => Value::String(render(&self.workflow, key, template, slots)?),
            Value::Array(items) => {
                let items = items.iter().map(|item| self.fill(key, item, slots));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => {
                let fields = fields.iter().map(|(name, field)| {
                    Ok((name.clone(), self.fill(&format!("{key}.{name}"), field, slots)?))
                });
                Value::Object(fields.collect::<Result<_, Error>>()?)
            }
            other => other.clone(),
        })
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
}
