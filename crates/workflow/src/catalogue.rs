//! The workflows of the bundle, compiled: which intent proposes which, what each needs and sends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::compensate::Compensation;
use crate::condition;
use crate::converse::Progress;
use crate::date;
use crate::precondition::Precondition;
use crate::request::Request;
use crate::response;
use crate::slot::{Kind, Slot};
use crate::template::{Values, answered, check_names, render};
use crate::words::{Word, clean, words};

/// Name of the receiver's reference in `done`.
pub(crate) const REFERENCE: &str = "reference";

/// Why the workflows of a bundle cannot be used. Names the workflow and the key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A pattern that is no regular expression.
    #[error("workflow {workflow}: slot.{slot}: the pattern is no regular expression")]
    Pattern {
        /// Name of the workflow.
        workflow: String,
        /// Name of the slot.
        slot: String,
        /// What is wrong with it.
        #[source]
        source: regex::Error,
    },
    /// A template that does not compile or does not render.
    #[error("workflow {workflow}: {key}: the template is wrong")]
    Template {
        /// Name of the workflow.
        workflow: String,
        /// Key of the template.
        key: String,
        /// What is wrong with it.
        #[source]
        source: minijinja::Error,
    },
    /// A template that uses a name that is no slot.
    #[error("workflow {workflow}: {key}: {name} is no slot, allowed [{allowed}]")]
    UnknownName {
        /// Name of the workflow.
        workflow: String,
        /// Key of the template.
        key: String,
        /// The unknown name.
        name: String,
        /// The names there are.
        allowed: String,
    },
    /// An expression that cannot be used.
    #[error("workflow {workflow}: {key}: the expression is wrong")]
    Condition {
        /// Name of the workflow.
        workflow: String,
        /// Key of the expression.
        key: String,
        /// What is wrong with it.
        #[source]
        source: condition::Error,
    },
    /// A value outside its range.
    #[error("workflow {workflow}: {key} {message}")]
    Value {
        /// Name of the workflow.
        workflow: String,
        /// Key of the value.
        key: String,
        /// What it is and what is allowed.
        message: String,
    },
    /// An intent that two workflows claim.
    #[error("intent {intent}: proposed by {first} and by {second}, allowed one workflow an intent")]
    TwoWorkflows {
        /// Name of the intent.
        intent: String,
        /// The one workflow.
        first: String,
        /// The other.
        second: String,
    },
}

impl Error {
    /// The workflow and the path of keys in its file that this is about.
    pub(crate) fn place(&self) -> (&str, Vec<&str>) {
        let (workflow, key): (_, &str) = match self {
            Self::Pattern { workflow, slot, .. } => return (workflow, vec!["slot", slot, "pattern"]),
            Self::TwoWorkflows { intent, second, .. } => return (second, vec!["intents", intent]),
            Self::Template { workflow, key, .. }
            | Self::UnknownName { workflow, key, .. }
            | Self::Condition { workflow, key, .. } => (workflow, key),
            Self::Value { workflow, key, .. } => (workflow, key),
        };
        (workflow, key.split('.').collect())
    }

    /// With the cause, without its position inside the value: the key's line is named already.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Template { source, .. } => {
                format!("{self}: {}", source.detail().unwrap_or("it does not render"))
            }
            Self::Condition { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}

/// The compiled workflows. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Catalogue {
    workflows: Arc<BTreeMap<String, Arc<Workflow>>>,
    by_intent: Arc<BTreeMap<String, String>>,
}

/// One compiled workflow.
#[derive(Debug)]
pub(crate) struct Workflow {
    pub(crate) name: String,
    pub(crate) title: Vec<Word>,
    pub(crate) intents: BTreeSet<String>,
    pub(crate) risk: bundle::Risk,
    pub(crate) urgent: bool,
    pub(crate) effect: bundle::Effect,
    /// Confidence of the intent needed, 0..=1.
    pub(crate) threshold: f64,
    pub(crate) slots: Vec<Slot>,
    pub(crate) caps: bundle::Caps,
    pub(crate) preconditions: Vec<Precondition>,
    pub(crate) request: Request,
    pub(crate) retry: bundle::Retry,
    pub(crate) response: bundle::Response,
    pub(crate) compensation: Option<Compensation>,
    confirmation: String,
    done: String,
}

impl Catalogue {
    /// Compiles the workflows and tries every template once.
    ///
    /// # Errors
    /// The first workflow that cannot work, with its key.
    pub(crate) fn compile(workflows: Vec<bundle::Workflow>) -> Result<Self, Error> {
        let mut compiled = BTreeMap::new();
        let mut by_intent: BTreeMap<String, String> = BTreeMap::new();
        for workflow in workflows {
            let workflow = Workflow::compile(workflow)?;
            for intent in &workflow.intents {
                if let Some(first) = by_intent.insert(intent.clone(), workflow.name.clone()) {
                    let (intent, second) = (intent.clone(), workflow.name);
                    return Err(Error::TwoWorkflows { intent, first, second });
                }
            }
            compiled.insert(workflow.name.clone(), Arc::new(workflow));
        }
        Ok(Self { workflows: Arc::new(compiled), by_intent: Arc::new(by_intent) })
    }

    /// The workflow of that name.
    pub(crate) fn workflow(&self, name: &str) -> Option<&Arc<Workflow>> {
        self.workflows.get(name)
    }

    /// The workflow an intent proposes.
    pub(crate) fn for_intent(&self, intent: &str) -> Option<&Arc<Workflow>> {
        self.workflow(self.by_intent.get(intent)?)
    }

    /// All workflows.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Workflow> {
        self.workflows.values().map(AsRef::as_ref)
    }

    /// Names of the workflows with the targets they send to.
    pub(crate) fn targets(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all().map(|workflow| (workflow.name.as_str(), workflow.request.template.target.as_str()))
    }
}

impl Workflow {
    fn compile(workflow: bundle::Workflow) -> Result<Self, Error> {
        let name = workflow.name;
        let value =
            |key: &str, message| Error::Value { workflow: name.clone(), key: key.to_owned(), message };
        if !(0.0..=1.0).contains(&workflow.threshold) {
            return Err(value("threshold", format!("is {}, allowed 0..=1", workflow.threshold)));
        }
        let slots = workflow.slots.into_iter().map(|slot| {
            let kind = Kind::from_bundle(&slot.kind).map_err(|source| Error::Pattern {
                workflow: name.clone(),
                slot: slot.name.clone(),
                source,
            })?;
            Ok(Slot {
                name: slot.name,
                kind,
                prompt: slot.prompt,
                invalid: slot.invalid,
                optional: slot.optional,
            })
        });
        let slots = slots.collect::<Result<Vec<_>, Error>>()?;
        let all: Vec<&Slot> = slots.iter().collect();
        let answered: BTreeSet<String> =
            response::names(&workflow.response).chain([REFERENCE.to_owned()]).collect();
        let undo = workflow.compensation.map(|undo| Compensation::compile(&name, undo, &all, &answered));
        let compiled = Self {
            preconditions: Precondition::compile(&name, workflow.preconditions, &slots)?,
            request: Request::compile(&name, "request", workflow.request, &all, &BTreeSet::new())?,
            retry: workflow.retry.unwrap_or_default(),
            compensation: undo.transpose()?,
            response: workflow.response,
            title: words(&clean(&workflow.title)),
            intents: workflow.intents.into_iter().collect(),
            risk: workflow.risk,
            urgent: workflow.urgent,
            effect: workflow.effect,
            threshold: workflow.threshold,
            caps: workflow.caps,
            confirmation: workflow.confirmation,
            done: workflow.done,
            slots,
            name,
        };
        compiled.check_templates(answered)?;
        Ok(compiled)
    }

    pub(crate) fn slot(&self, name: &str) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.name == name)
    }

    /// Required slots without a value, in order.
    pub(crate) fn missing(&self, slots: &BTreeMap<String, String>) -> Vec<String> {
        let missing = self.slots.iter().filter(|slot| !slot.optional && !slots.contains_key(&slot.name));
        missing.map(|slot| slot.name.clone()).collect()
    }

    /// Whether a mistaken yes does no harm.
    pub(crate) fn is_harmless(&self) -> bool {
        self.effect == bundle::Effect::Idempotent && self.risk == bundle::Risk::Low
    }

    /// The question whether to do it.
    pub(crate) fn confirmation(&self, slots: &BTreeMap<String, String>) -> Result<String, Error> {
        render(&self.name, "confirmation", &self.confirmation, &self.shown(slots))
    }

    /// The message that it is done.
    pub(crate) fn done(&self, progress: &Progress, reference: &str) -> Result<String, Error> {
        let values = answered(self.shown(&progress.slots), progress, reference);
        render(&self.name, "done", &self.done, &values)
    }

    /// The values as the customer reads them; the request takes them as they are stored.
    pub(crate) fn shown(&self, slots: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let show = |(name, value): (&String, &String)| {
            let dated = self.slot(name).is_some_and(|slot| matches!(slot.kind, Kind::Date));
            let date = if dated { date::parse(value) } else { None };
            (name.clone(), date.map_or_else(|| value.clone(), date::show))
        };
        slots.iter().map(show).collect()
    }

    /// Every template uses known names only, and renders with and without what may be absent.
    fn check_templates(&self, answered: BTreeSet<String>) -> Result<(), Error> {
        let mut known: BTreeSet<String> = self.slots.iter().map(|slot| slot.name.clone()).collect();
        check_names(&self.name, "confirmation", &self.confirmation, &known)?;
        let told: Vec<(String, &str)> = self.preconditions.iter().map(Precondition::message).collect();
        told.iter().try_for_each(|(key, message)| check_names(&self.name, key, message, &known))?;
        response::check(&self.name, "response", &self.response, self.request.is_call(), &known)?;
        known.extend(answered);
        check_names(&self.name, "done", &self.done, &known)?;
        for all in [true, false] {
            let slots = self.slots.iter().filter(|slot| all || !slot.optional);
            let slots: Values = slots.map(|slot| (slot.name.clone(), slot.name.clone())).collect();
            let values = self.response.values.keys().filter(|_| all);
            let response = values.map(|name| (name.clone(), name.clone())).collect();
            let progress = Progress { slots, response, ..Progress::default() };
            self.confirmation(&progress.slots)?;
            self.done(&progress, REFERENCE)?;
            self.request.check_renders(&progress.slots)?;
            if let (Some(undo), Some(made)) = (&self.compensation, self.undo(&progress, REFERENCE)) {
                undo.request.check_renders(&made?.1)?;
            }
            let messages = self.response.messages.iter();
            let messages = messages.map(|(code, told)| (format!("response.messages.{code}"), told.as_str()));
            let mut told = told.iter().cloned().chain(messages);
            told.try_for_each(|(key, told)| render(&self.name, &key, told, &progress.slots).map(|_| ()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const GOOD: &str = r#"
        name = "block"
        title = "Block"
        intents = ["lost"]
        threshold = 0.5
        confirmation = "Block {{ card }}{% if why %} ({{ why }}){% endif %}?"
        done = "{{ reference }}"
        request = { method = "POST", target = "bank", path = "/a/b", body = { n = 1, l = [{ card = "{{ card }}" }] } }
        slot = [
            { name = "card", type = "pattern", pattern = "[0-9]{4}", prompt = "?" },
            { name = "why", type = "text", prompt = "?", optional = true },
        ]"#;

    fn compile(text: &str) -> Result<Catalogue, String> {
        let workflows = text.split("---").map(|text| toml::from_str(text).unwrap()).collect();
        Catalogue::compile(workflows).map_err(|error| error.to_string())
    }

    #[test]
    fn slot_values_reach_the_body_as_strings_and_nothing_else() {
        let catalogue = compile(GOOD).unwrap();
        let workflow = catalogue.for_intent("lost").unwrap();
        let slots = BTreeMap::from([("card".to_owned(), "\"},{{ why }}<a&b>\n".to_owned())]);
        let body: Value = serde_json::from_str(&workflow.request.body(&slots).unwrap()).unwrap();
        assert_eq!(body, serde_json::json!({ "n": 1, "l": [{ "card": "\"},{{ why }}<a&b>\n" }] }));
        assert_eq!(workflow.confirmation(&slots).unwrap(), "Block \"},{{ why }}<a&b>\n?");
    }

    #[test]
    fn a_date_is_read_as_people_write_it_and_sent_as_machines_do() {
        let dated = GOOD.replace("type = \"pattern\", pattern = \"[0-9]{4}\"", "type = \"date\"");
        let catalogue = compile(&dated).unwrap();
        let workflow = catalogue.for_intent("lost").unwrap();
        let slots = BTreeMap::from(["card", "why"].map(|name| (name.to_owned(), "2026-03-04".to_owned())));
        assert_eq!(workflow.confirmation(&slots).unwrap(), "Block 4 March 2026 (2026-03-04)?");
        assert!(workflow.request.body(&slots).unwrap().contains("\"card\":\"2026-03-04\""));
    }

    #[test]
    fn a_workflow_that_cannot_work_is_refused_by_name_and_key() {
        for (from, to, error) in [
            ("[0-9]{4}", "[0-9", "workflow block: slot.card: the pattern is no regular expression"),
            ("0.5", "nan", "workflow block: threshold is NaN, allowed 0..=1"),
            ("/a/b", "//evil.example", "workflow block: request.path is"),
            ("/a/b", "/a/../b", "workflow block: request.path is"),
            ("/a/b", "/a/{{ card }}", "workflow block: request.path is"),
            ("/a/b", "/a?b", "workflow block: request.path is"),
            ("/a/b", "/a/{why}", "workflow block: request.path has {why}, allowed a required slot of type"),
            ("/a/b", "/a/{reference}", "workflow block: request.path has {reference}, allowed"),
            ("/a/b", "/a/x{card}", "workflow block: request.path is"),
            (
                "/a/b\"",
                "/a/b\", headers = { Webhook-Id = \"x\" }",
                "workflow block: request.headers.Webhook-Id is set by the client",
            ),
            (
                "/a/b\"",
                "/a/b\", unquoted = [\"why\"]",
                "workflow block: request.unquoted has \"why\", allowed",
            ),
            (
                "/a/b\"",
                "/a/b\", query = { q = \"{{ pin }}\" }",
                "workflow block: request.query.q: pin is no slot",
            ),
            (
                "{{ reference }}",
                "{{ response.eta }}",
                "workflow block: done: response.eta is no slot, allowed [card, reference",
            ),
            (
                "{{ reference }}",
                "{{ ref }}",
                "workflow block: done: ref is no slot, allowed [card, reference",
            ),
            ("{{ card }}{%", "{{ reference }}{%", "workflow block: confirmation: reference is no slot"),
            ("\"{{ card }}\"", "\"{{ pin }}\"", "workflow block: request.body.l.card: pin is no slot"),
            ("Block {{ card }}", "Block {{ card", "workflow block: confirmation: the template is wrong"),
            ("Block {{ card }}", "{{ card | evil }}", "workflow block: confirmation: the template is wrong"),
        ] {
            let refused = compile(&GOOD.replace(from, to)).unwrap_err();
            assert!(refused.starts_with(error), "{refused}");
        }
        let twice = compile(&format!("{GOOD}\n---{}", GOOD.replace("\"block\"", "\"other\""))).unwrap_err();
        assert_eq!(twice, "intent lost: proposed by block and by other, allowed one workflow an intent");
    }
}
