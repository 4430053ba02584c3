//! The templates of a workflow: minijinja over its values.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::value::Value as Context;
use minijinja::{Environment, UndefinedBehavior};

use crate::catalogue::{Error, REFERENCE};
use crate::converse::Progress;

/// Values by name; one of the response is "response.NAME".
pub(crate) type Values = BTreeMap<String, String>;

/// Before the names of values of the response.
pub(crate) const RESPONSE: &str = "response.";

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // An optional slot left out is empty where it is printed and false where it is tested.
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment
}

/// Slots with what the receiver said.
pub(crate) fn answered(slots: Values, progress: &Progress, reference: &str) -> Values {
    let response = progress.response.iter().map(|(name, value)| (format!("{RESPONSE}{name}"), value.clone()));
    slots.into_iter().chain(response).chain([(REFERENCE.to_owned(), reference.to_owned())]).collect()
}

/// Renders the template under a key of a workflow.
///
/// # Errors
/// It does not compile or does not render.
pub(crate) fn render(workflow: &str, key: &str, template: &str, values: &Values) -> Result<String, Error> {
    let plain = values.iter().filter(|(name, _)| !name.starts_with(RESPONSE));
    let plain = plain.map(|(name, value)| (name.clone(), Context::from(value.as_str())));
    let response = values.iter().filter_map(|(name, value)| Some((name.strip_prefix(RESPONSE)?, value)));
    let response = Context::from_pairs(response.map(|(name, value)| (name.to_owned(), value.clone())));
    let beside = (RESPONSE.trim_end_matches('.').to_owned(), response);
    let context = Context::from_pairs(plain.chain([beside]));
    environment().render_str(template, context).map_err(|source| wrong(workflow, key, source))
}

/// Checks that the template under a key of a workflow uses known names only.
///
/// # Errors
/// It does not compile, or uses another name.
pub(crate) fn check_names(
    workflow: &str,
    key: &str,
    template: &str,
    known: &BTreeSet<String>,
) -> Result<(), Error> {
    let environment = environment();
    let template = environment.template_from_str(template).map_err(|source| wrong(workflow, key, source))?;
    let globals: BTreeSet<&str> = environment.globals().map(|(name, _)| name).collect();
    let fits = |name: &str| known.contains(name) || globals.contains(name);
    let mut names: Vec<String> = template.undeclared_variables(true).into_iter().collect();
    names.retain(|name| !fits(name) && !name.split_once('.').is_some_and(|(first, _)| fits(first)));
    names.sort();
    names.into_iter().next().map_or(Ok(()), |name| {
        let (workflow, key) = (workflow.to_owned(), key.to_owned());
        let allowed = known.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        Err(Error::UnknownName { workflow, key, name, allowed })
    })
}

fn wrong(workflow: &str, key: &str, source: minijinja::Error) -> Error {
    Error::Template { workflow: workflow.to_owned(), key: key.to_owned(), source }
}
