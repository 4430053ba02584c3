//! The templates of a workflow: minijinja over slot values.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::value::Value as Context;
use minijinja::{Environment, UndefinedBehavior};

use crate::catalogue::Error;

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // An optional slot left out is empty where it is printed and false where it is tested.
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment
}

pub(crate) fn context(slots: &BTreeMap<String, String>) -> Context {
    Context::from_pairs(slots.iter().map(|(name, value)| (name.clone(), value.clone())))
}

/// Renders the template under a key of a workflow.
///
/// # Errors
/// It does not compile or does not render.
pub(crate) fn render(workflow: &str, key: &str, template: &str, values: &Context) -> Result<String, Error> {
    environment().render_str(template, values.clone()).map_err(|source| wrong(workflow, key, source))
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
    let mut names: Vec<String> = template.undeclared_variables(false).into_iter().collect();
    names.retain(|name| !known.contains(name) && !globals.contains(name.as_str()));
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
