//! Schemas of an OpenAPI document as slots of a workflow.

use serde_json::Value;

use crate::openapi::{MAX_DEPTH, Node};

/// What a schema becomes.
pub(crate) enum Made {
    /// A value that is always the same.
    Fixed(Value),
    /// A slot.
    Slot(Kind),
    /// Parts by name, the required ones.
    Object(Vec<Part>),
}

/// A required property of an object.
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) made: Made,
    /// From the document, or empty.
    pub(crate) description: String,
}

/// What a slot takes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kind {
    /// "text", "pattern", "choice", "date", "amount" or "email".
    pub(crate) slot: &'static str,
    /// Keys of the slot besides, in TOML.
    pub(crate) keys: Vec<(&'static str, toml::Value)>,
    /// Whether it is sent without quotes.
    pub(crate) unquoted: bool,
    /// After the value where it is sent.
    pub(crate) suffix: &'static str,
    /// Expressions over the slot, as `{}`, that its values have to fulfil, with words for them.
    pub(crate) limits: Vec<(String, String)>,
}

const UUID: &str = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}";
const INTEGER: &str = "0|[1-9][0-9]{0,14}";
/// For a string in a path, of which the document does not say what it looks like.
const SEGMENT: &str = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}";

/// What of a schema does not fit a workflow, each with its place.
#[derive(Default)]
pub(crate) struct Notes(pub(crate) Vec<String>);

impl Notes {
    pub(crate) fn add(&mut self, node: &Node<'_>, what: &str) {
        // A comment is one line.
        let line: String = what.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.0.push(format!("{}: {line}", node.place));
    }
}

/// Reads a schema; `None`, with a note, when it does not fit.
///
/// # Errors
/// A reference that does not resolve, or a schema that holds itself.
pub(crate) fn read(
    schema: &Node<'_>,
    in_path: bool,
    depth: usize,
    notes: &mut Notes,
) -> anyhow::Result<Option<Made>> {
    let schema = &schema.resolved()?;
    if depth > MAX_DEPTH {
        return Err(schema.wrong(&format!("is nested deeper than {MAX_DEPTH}")));
    }
    if let Some(fixed) = fixed(schema) {
        return Ok(Some(Made::Fixed(fixed)));
    }
    for key in ["oneOf", "anyOf", "not", "if"] {
        if schema.field(key).is_some() {
            notes.add(schema, &format!("{key} is not mapped"));
            return Ok(None);
        }
    }
    let kind = match kind_of(schema) {
        Some("object") => return object(schema, depth, notes),
        Some("string") => string(schema, in_path, notes),
        Some("integer") => Some(integer(schema)),
        Some("number") => Some(number(schema)),
        Some("boolean") => Some(boolean()),
        other => {
            notes.add(schema, &format!("{} is not mapped", other.unwrap_or("a schema without a type")));
            None
        }
    };
    Ok(kind.map(Made::Slot))
}

/// The type of a schema, without null.
fn kind_of<'d>(schema: &Node<'d>) -> Option<&'d str> {
    let kind = schema.value.get("type");
    let listed = kind.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let mut listed = listed.filter(|kind| *kind != "null");
    let alone = listed.next().filter(|_| listed.next().is_none());
    let object = || ["properties", "allOf"].iter().any(|key| schema.field(key).is_some()).then_some("object");
    kind.and_then(Value::as_str).or(alone).or_else(|| if kind.is_none() { object() } else { None })
}

fn fixed(schema: &Node<'_>) -> Option<Value> {
    let value = schema.value;
    let only = value.get("enum").and_then(Value::as_array).filter(|values| values.len() == 1);
    value.get("const").or_else(|| only?.first()).cloned()
}

/// The required properties; those of `allOf` are joined.
fn object(schema: &Node<'_>, depth: usize, notes: &mut Notes) -> anyhow::Result<Option<Made>> {
    let mut parts = Vec::new();
    for inner in schema.field("allOf").iter().flat_map(Node::items) {
        match read(&inner, false, depth + 1, notes)? {
            Some(Made::Object(inner)) => parts.extend(inner),
            Some(_) => notes.add(&inner, "a part of allOf that is no object is not mapped"),
            None => (),
        }
    }
    let required = schema.value.get("required").and_then(Value::as_array);
    let required: Vec<&str> = required.into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema.field("properties");
    for name in
        required.iter().filter(|name| properties.as_ref().is_none_or(|known| known.field(name).is_none()))
    {
        notes.add(schema, &format!("{name} is required and not described: not mapped"));
    }
    for (name, property) in properties.iter().flat_map(Node::fields) {
        if !required.contains(&name) {
            notes.add(&property, "optional, left out");
            continue;
        }
        let whole = property.resolved()?;
        if whole.says("readOnly") {
            notes.add(&property, "read only, left out");
            continue;
        }
        let description = property.text("description").or(whole.text("description"));
        let description = description.or(whole.text("title")).unwrap_or_default().to_owned();
        match read(&property, false, depth + 1, notes)? {
            Some(made) => parts.push(Part { name: name.to_owned(), made, description }),
            None => notes.add(&property, "is required: add it by hand"),
        }
    }
    if schema.value.get("additionalProperties").is_some_and(Value::is_object) {
        notes.add(schema, "additionalProperties are not mapped");
    }
    Ok(Some(Made::Object(parts)))
}

fn plain(slot: &'static str) -> Kind {
    Kind { slot, keys: Vec::new(), unquoted: false, suffix: "", limits: Vec::new() }
}

fn pattern(expression: &str) -> Kind {
    Kind { keys: vec![("pattern", expression.into())], ..plain("pattern") }
}

fn string(schema: &Node<'_>, in_path: bool, notes: &mut Notes) -> Option<Kind> {
    if let Some(values) = schema.value.get("enum").and_then(Value::as_array) {
        let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        return Some(choice(
            values.into_iter().map(|value| (value, value.replace(['_', '-'], " ").to_lowercase())),
        ));
    }
    match schema.text("format") {
        Some("binary" | "byte") => {
            notes.add(schema, "binary content is not mapped");
            return None;
        }
        Some("date") => return Some(plain("date")),
        Some("date-time") => {
            notes.add(schema, "a date-time is asked for as a date and sent as its midnight in UTC");
            if !in_path {
                return Some(Kind { suffix: "T00:00:00Z", ..plain("date") });
            }
            return None;
        }
        Some("email") if !in_path => return Some(plain("email")),
        Some("uuid") => return Some(pattern(UUID)),
        _ => (),
    }
    if let Some(expression) = schema.text("pattern") {
        let bare = expression.strip_prefix('^').unwrap_or(expression);
        let bare = bare.strip_suffix('$').unwrap_or(bare);
        // The workflow stage finds it as a whole word: what begins or ends with a sign may need a hand.
        if regex::Regex::new(bare).is_ok() {
            return Some(pattern(bare));
        }
        notes.add(schema, &format!("pattern {expression:?} is not understood, any words are taken"));
    }
    if in_path {
        notes.add(schema, "a string in the path without a pattern: letters and digits are taken, correct it");
        return Some(pattern(SEGMENT));
    }
    let bound = |key: &str, sign: &str, word: &str| {
        let limit = schema.value.get(key)?.as_u64().filter(|limit| *limit > 1)?;
        Some((format!("size({{}}) {sign} {limit}"), format!("{word} {limit} characters")))
    };
    let limits = [bound("minLength", ">=", "at least"), bound("maxLength", "<=", "at most")];
    Some(Kind { limits: limits.into_iter().flatten().collect(), ..plain("text") })
}

fn choice(values: impl Iterator<Item = (impl Into<String>, String)>) -> Kind {
    let table = |(value, word): (_, String)| {
        let value: String = Into::<String>::into(value);
        let words = if word == value { Vec::new() } else { vec![toml::Value::from(word)] };
        toml::Value::Table(
            [("value".to_owned(), value.into()), ("words".to_owned(), words.into())].into_iter().collect(),
        )
    };
    let choices: Vec<toml::Value> = values.map(table).collect();
    Kind { keys: vec![("choices", choices.into())], ..plain("choice") }
}

fn boolean() -> Kind {
    let values = [("true", "yes"), ("false", "no")].map(|(value, word)| (value, word.to_owned()));
    Kind { unquoted: true, ..choice(values.into_iter()) }
}

fn integer(schema: &Node<'_>) -> Kind {
    let bound = |key: &str, sign: &str, word: &str| {
        let limit = schema.value.get(key)?.as_i64()?;
        Some((format!("int({{}}) {sign} {limit}"), format!("{word} {limit}")))
    };
    let limits = [
        bound("minimum", ">=", "at least"),
        bound("maximum", "<=", "at most"),
        bound("exclusiveMinimum", ">", "more than"),
        bound("exclusiveMaximum", "<", "less than"),
    ];
    let values = schema.value.get("enum").and_then(Value::as_array);
    let kind = match values {
        Some(values) => {
            let values: Vec<String> =
                values.iter().filter_map(Value::as_i64).map(|value| value.to_string()).collect();
            choice(values.into_iter().map(|value| (value.clone(), value)))
        }
        None => pattern(INTEGER),
    };
    let limits = if values.is_some() { Vec::new() } else { limits.into_iter().flatten().collect() };
    Kind { unquoted: true, limits, ..kind }
}

fn number(schema: &Node<'_>) -> Kind {
    let bound = |key: &str| schema.value.get(key).and_then(Value::as_f64);
    let keys = [("min", bound("minimum")), ("max", bound("maximum"))];
    let keys = keys.into_iter().filter_map(|(key, limit)| Some((key, toml::Value::from(limit?))));
    let strict = [("exclusiveMinimum", ">", "more than"), ("exclusiveMaximum", "<", "less than")];
    let limits = strict.into_iter().filter_map(|(key, sign, word)| {
        let limit = bound(key)?;
        Some((format!("{{}} {sign} {limit:?}"), format!("{word} {limit}")))
    });
    Kind { keys: keys.collect(), unquoted: true, limits: limits.collect(), ..plain("amount") }
}

/// Where the receiver's reference most likely stands in its answer, as a JSON pointer.
pub(crate) fn reference(schema: &Node<'_>) -> anyhow::Result<Option<String>> {
    let mut found: Vec<(usize, String)> = Vec::new();
    search(schema, "", 0, &mut found)?;
    found.sort();
    Ok(found.into_iter().next().map(|(_, pointer)| pointer))
}

fn search(schema: &Node<'_>, at: &str, depth: usize, found: &mut Vec<(usize, String)>) -> anyhow::Result<()> {
    let schema = schema.resolved()?;
    for inner in schema.field("allOf").iter().flat_map(Node::items) {
        search(&inner, at, depth, found)?;
    }
    for (name, property) in schema.field("properties").iter().flat_map(Node::fields) {
        // An answer may well hold itself: what is deep is no reference of it.
        let Ok(property) = property.resolved() else { continue };
        let here = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        let lower = name.to_lowercase();
        let rank = match lower.as_str() {
            "reference" => Some(0),
            "id" => Some(2),
            _ if lower.ends_with("reference") || lower.ends_with("confirmationnumber") => Some(1),
            _ if name.ends_with("Id") || lower.ends_with("_id") || lower.ends_with("number") => Some(3),
            _ => None,
        };
        match kind_of(&property) {
            Some("string" | "integer") => found.extend(rank.map(|rank| (rank + 4 * depth, here))),
            Some("object") if depth < 2 => search(&property, &here, depth + 1, found)?,
            _ => (),
        }
    }
    Ok(())
}

/// A value in TOML as JSON has it; `None` for null, which TOML does not have.
pub(crate) fn toml_of(value: &Value) -> Option<toml::Value> {
    match value {
        Value::Null => None,
        other => toml::Value::try_from(other).ok(),
    }
}
