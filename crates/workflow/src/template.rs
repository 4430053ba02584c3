//! The templates of a workflow: minijinja over slot values.

use std::collections::BTreeMap;

use minijinja::value::Value as Context;
use minijinja::{Environment, UndefinedBehavior};

pub(crate) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // An optional slot left out is empty where it is printed and false where it is tested.
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment
}

pub(crate) fn context(slots: &BTreeMap<String, String>) -> Context {
    Context::from_pairs(slots.iter().map(|(name, value)| (name.clone(), value.clone())))
}
