//! `firstline workflow import`: an operation of an OpenAPI document as the draft of a workflow.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::openapi::{Document, Node, Operation};
use crate::schema::{self, Kind, Made, Notes, Part};
use crate::show;

/// Headers that the client sets itself.
const OWN: [&str; 3] = ["content-type", "accept", "user-agent"];

/// A slot of the draft.
struct Slot {
    name: String,
    kind: Kind,
    prompt: String,
}

/// What the draft is made of.
#[derive(Default)]
struct Draft {
    slots: Vec<Slot>,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: toml::Table,
    idempotent: bool,
    reference: Option<String>,
    notes: Notes,
}

/// Writes the draft of a workflow into a folder, or to standard output; what does not fit goes to standard error too.
///
/// # Errors
/// The document or the operation cannot be used, naming file and place, or the draft is there already.
pub(crate) fn import(file: &Path, operation: &str, out: Option<&Path>) -> anyhow::Result<bool> {
    let document = Document::read(file)?;
    let (name, text, notes) = draft(&document, operation)?;
    notes.0.iter().for_each(|note| eprintln!("{}: {note}", file.display()));
    let Some(out) = out else {
        show::line(text.trim_end());
        return Ok(true);
    };
    let path: PathBuf = out.join(format!("{name}.toml"));
    ensure!(!path.exists(), "{}: exists already; choose another folder or delete it", path.display());
    std::fs::create_dir_all(out).with_context(|| format!("{}: cannot be written", out.display()))?;
    std::fs::write(&path, text).with_context(|| format!("{}: cannot be written", path.display()))?;
    eprintln!("{}: a draft; give it intents and read its words", path.display());
    Ok(true)
}

/// Name and text of the draft, and what did not fit.
fn draft(document: &Document, id: &str) -> anyhow::Result<(String, String, Notes)> {
    let operation = document.operation(id)?;
    let node = &operation.node;
    let mut draft = Draft {
        path: operation.path.clone(),
        idempotent: ["put", "delete"].contains(&operation.method),
        ..Draft::default()
    };
    for parameter in operation.parameters()? {
        draft.parameter(&parameter)?;
    }
    draft.request_body(&operation)?;
    draft.answer(&operation)?;
    if !operation.security().is_empty() {
        let demands = operation.security().join(", ");
        draft.notes.add(
            node,
            &format!("demands {demands}; a workflow is signed instead, with the secret of its target"),
        );
    }
    if node.says("deprecated") {
        draft.notes.add(node, "is deprecated");
    }
    let name = snake(node.text("operationId").unwrap_or(id));
    let text = draft.written(&name, &operation);
    let parsed = toml::from_str::<bundle::Workflow>(&text);
    parsed.map_err(|error| node.wrong(&format!("makes no workflow: {}", error.message())))?;
    Ok((name, text, draft.notes))
}

impl Draft {
    fn parameter(&mut self, parameter: &Node<'_>) -> anyhow::Result<()> {
        let name = parameter.text("name").unwrap_or_default();
        let place = parameter.text("in").unwrap_or_default();
        let required = parameter.says("required") || place == "path";
        let lower = name.to_ascii_lowercase();
        if place == "header" && lower == "idempotency-key" {
            self.idempotent = true;
            return Ok(());
        }
        if place == "header" && OWN.contains(&lower.as_str()) {
            return Ok(());
        }
        if place == "cookie" || !required {
            let why = if place == "cookie" { "a cookie is not mapped" } else { "optional, left out" };
            self.notes.add(parameter, &format!("{place} {name}: {why}"));
            return Ok(());
        }
        let Some(schema) = parameter.field("schema") else {
            self.notes
                .add(parameter, &format!("{place} {name}: is required and has no schema; add it by hand"));
            return Ok(());
        };
        let description = parameter.text("description").unwrap_or_default();
        match (place, schema::read(&schema, place == "path", 0, &mut self.notes)?) {
            ("path", Some(Made::Slot(kind))) => {
                let slot = self.slot(name, kind, description);
                self.path = self.path.replace(&format!("{{{name}}}"), &format!("{{{slot}}}"));
            }
            ("path", Some(Made::Fixed(value))) => {
                self.path = self.path.replace(&format!("{{{name}}}"), &plain(&value));
            }
            ("query", Some(Made::Slot(kind))) => {
                let suffix = kind.suffix;
                let slot = self.slot(name, kind, description);
                self.query.push((name.to_owned(), format!("{{{{ {slot} }}}}{suffix}")));
            }
            ("query", Some(Made::Fixed(value))) => self.query.push((name.to_owned(), plain(&value))),
            ("header", Some(Made::Fixed(value))) => self.headers.push((name.to_owned(), plain(&value))),
            _ => self
                .notes
                .add(parameter, &format!("{place} {name}: is required and not mapped; add it by hand")),
        }
        Ok(())
    }

    fn request_body(&mut self, operation: &Operation<'_>) -> anyhow::Result<()> {
        let Some(body) = operation.node.field("requestBody") else { return Ok(()) };
        let body = body.resolved()?;
        let Some(schema) = json_schema(&body) else {
            let kinds: Vec<&str> =
                body.field("content").iter().flat_map(Node::fields).map(|(kind, _)| kind).collect();
            self.notes.add(&body, &format!("a body of [{}] is not mapped, only JSON", kinds.join(", ")));
            return Ok(());
        };
        match schema::read(&schema, false, 0, &mut self.notes)? {
            Some(Made::Object(parts)) => self.body = self.table(parts, ""),
            Some(_) => self.notes.add(&schema, "a body that is no object is not mapped"),
            None => (),
        }
        Ok(())
    }

    fn table(&mut self, parts: Vec<Part>, outer: &str) -> toml::Table {
        let mut table = toml::Table::new();
        for Part { name, made, description } in parts {
            let full = if outer.is_empty() { name.clone() } else { format!("{outer}_{name}") };
            let value = match made {
                Made::Fixed(value) => schema::toml_of(&value),
                Made::Object(parts) => Some(self.table(parts, &full).into()),
                Made::Slot(kind) => {
                    let suffix = kind.suffix;
                    Some(format!("{{{{ {} }}}}{suffix}", self.slot(&full, kind, &description)).into())
                }
            };
            if let Some(value) = value {
                table.insert(name, value);
            }
        }
        table
    }

    fn answer(&mut self, operation: &Operation<'_>) -> anyhow::Result<()> {
        for (status, answer) in operation.node.field("responses").iter().flat_map(Node::fields) {
            let answer = answer.resolved()?;
            if status.starts_with('2') && self.reference.is_none() {
                let schema = json_schema(&answer);
                self.reference = schema.map(|schema| schema::reference(&schema)).transpose()?.flatten();
            }
            if status.starts_with('4') {
                let words = answer.text("description").unwrap_or_default();
                self.notes.add(
                    &answer,
                    &format!("{status} {words}: its words to the customer go to [response.messages]"),
                );
            }
        }
        Ok(())
    }

    /// Adds a slot and returns its name.
    fn slot(&mut self, name: &str, kind: Kind, description: &str) -> String {
        let base = snake(name);
        let taken: BTreeSet<String> = self.slots.iter().map(|slot| slot.name.clone()).collect();
        let names = std::iter::once(base.clone()).chain((2..).map(|n| format!("{base}_{n}")));
        let name = names.into_iter().find(|name| !taken.contains(name)).unwrap_or(base);
        let prompt = prompt(&name, description);
        self.slots.push(Slot { name: name.clone(), kind, prompt });
        name
    }

    fn written(&self, name: &str, operation: &Operation<'_>) -> String {
        let node = &operation.node;
        let title = node.text("summary").unwrap_or_default().replace(['{', '}'], "");
        let title = Some(one_line(&title))
            .filter(|title| !title.is_empty())
            .unwrap_or_else(|| name.replace('_', " "));
        let title = title.trim_end_matches('.');
        let values: Vec<String> =
            self.slots.iter().map(|slot| format!("{}: {{{{ {} }}}}", words(&slot.name), slot.name)).collect();
        let values = if values.is_empty() { String::new() } else { format!(" {}.", values.join(", ")) };
        let (target, base) = target(&operation.server());
        let mut text = String::new();
        let _ = writeln!(
            text,
            "# A draft from {} of an OpenAPI document: read its words before customers do.",
            node.place
        );
        self.notes.0.iter().for_each(|note| {
            let _ = writeln!(text, "# {}", one_line(note));
        });
        let risk = if operation.method == "delete" { "high" } else { "medium" };
        let effect = if self.idempotent { "idempotent" } else { "non_idempotent" };
        for (key, value) in [
            ("name", name),
            ("title", title),
            ("risk", risk),
            ("effect", effect),
            ("confirmation", &format!("Shall I do this: {title}?{values}")),
            ("done", &format!("Done: {title}. Your reference is {{{{ reference }}}}.")),
        ] {
            let _ = writeln!(text, "{key} = {}", quoted(value));
        }
        let _ = writeln!(text, "intents = [{}]\nthreshold = 0.6\n", quoted(name));
        for slot in &self.slots {
            for (number, (limit, words)) in slot.kind.limits.iter().enumerate() {
                let reason = format!("{}_LIMIT_{}", slot.name.to_uppercase(), number + 1);
                let when = limit.replace("{}", &format!("slots.{}", slot.name));
                let message =
                    format!("The {} has to be {words}. I have not done anything.", self::words(&slot.name));
                let _ = writeln!(
                    text,
                    "[[precondition]]\nwhen = {}\nreason = {}\nmessage = {}\n",
                    quoted(&when),
                    quoted(&reason[reason.len().saturating_sub(63)..]),
                    quoted(&message)
                );
            }
        }
        if !base.is_empty() {
            let _ =
                writeln!(text, "# [workflow.targets.{target}] of the configuration: url = {}", quoted(&base));
        }
        let request = self.request(operation.method, &target);
        let _ = writeln!(text, "{}", section("request", &request));
        if let Some(pointer) = self.reference.as_deref().filter(|pointer| *pointer != "/reference") {
            let _ = writeln!(text, "[response]\nreference = {}\n", quoted(pointer));
        }
        for slot in &self.slots {
            let _ =
                writeln!(text, "[[slot]]\nname = {}\ntype = {}", quoted(&slot.name), quoted(slot.kind.slot));
            for (key, value) in &slot.kind.keys {
                let _ = writeln!(text, "{key} = {value}");
            }
            let _ = writeln!(text, "prompt = {}\n", quoted(&slot.prompt));
        }
        text.trim_end().to_owned() + "\n"
    }

    fn request(&self, method: &str, target: &str) -> toml::Table {
        let mut request = toml::Table::new();
        request.insert("method".to_owned(), method.to_uppercase().into());
        request.insert("target".to_owned(), target.into());
        request.insert("path".to_owned(), self.path.clone().into());
        let pairs = |pairs: &[(String, String)]| {
            let pairs = pairs.iter().map(|(name, value)| (name.clone(), toml::Value::from(value.clone())));
            toml::Value::Table(pairs.collect())
        };
        for (key, found) in [("headers", &self.headers), ("query", &self.query)] {
            if !found.is_empty() {
                request.insert(key.to_owned(), pairs(found));
            }
        }
        let body = toml::Value::Table(self.body.clone()).to_string();
        let unquoted = self.slots.iter().filter(|slot| slot.kind.unquoted);
        let unquoted = unquoted.filter(|slot| body.contains(&format!("\"{{{{ {} }}}}\"", slot.name)));
        let unquoted: Vec<toml::Value> = unquoted.map(|slot| slot.name.clone().into()).collect();
        if !unquoted.is_empty() {
            request.insert("unquoted".to_owned(), unquoted.into());
        }
        if !self.body.is_empty() {
            request.insert("body".to_owned(), self.body.clone().into());
        }
        request
    }
}

/// The schema of a body of JSON.
fn json_schema<'d>(body: &Node<'d>) -> Option<Node<'d>> {
    let content = body.field("content")?;
    let is_json = |kind: &str| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind == "application/json" || kind.ends_with("+json")
    };
    content.fields().find(|(kind, _)| is_json(kind)).and_then(|(_, media)| media.field("schema"))
}

/// Name of the target and its URL.
fn target(server: &str) -> (String, String) {
    let rest = server.split_once("://").map(|(_, rest)| rest);
    let host = rest.and_then(|rest| rest.split(['/', ':', '?']).next()).filter(|host| !host.is_empty());
    host.map_or(("api".to_owned(), String::new()), |host| (snake(host), server.to_owned()))
}

fn section(name: &str, table: &toml::Table) -> String {
    let (tables, values): (Vec<_>, Vec<_>) = table.iter().partition(|(_, value)| value.is_table());
    let mut text = format!("[{name}]\n");
    for (key, value) in values {
        let _ = writeln!(text, "{key} = {value}");
    }
    for (key, value) in tables {
        let _ = writeln!(text, "\n[{name}.{key}]");
        for (key, value) in value.as_table().into_iter().flatten() {
            let _ = writeln!(text, "{} = {value}", quoted(key));
        }
    }
    text
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// The first sentence of a description as a question.
fn prompt(name: &str, description: &str) -> String {
    let first = one_line(description);
    let first = first.split(". ").next().unwrap_or_default().trim_end_matches('.').to_owned();
    match first.as_str() {
        "" => format!("What is the {}?", words(name)),
        first if first.ends_with('?') => first.to_owned(),
        first => format!("What is the {}? ({first})", words(name)),
    }
}

/// A name as the bundle has it: `[a-z][a-z0-9_]*`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        let next = if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        let hump =
            c.is_ascii_uppercase() && snake.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if (hump || next == '_') && !snake.is_empty() && !snake.ends_with('_') {
            snake.push('_');
        }
        if next != '_' {
            snake.push(next);
        }
    }
    let snake = snake.trim_end_matches('_').to_owned();
    if snake.starts_with(|c: char| c.is_ascii_lowercase()) { snake } else { format!("x_{snake}") }
}

#[cfg(test)]
mod tests;
