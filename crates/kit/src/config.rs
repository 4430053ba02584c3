//! Layered configuration: defaults in code, then `firstline.toml`, then `FIRSTLINE__<TABLE>__<KEY>`.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Serialize};
use toml::de::{DeTable, DeValue, ValueDeserializer};

pub use crate::access::Role;
pub use crate::callers::{Jwt, Tls, Token};
pub use crate::tables::{Addresses, Balance, Database, Encoder, Endpoints, Optional, Server, Tier};

/// The stages, in the order of a turn; each names a table of the configuration.
pub const STAGES: [&str; 7] =
    ["classifier", "safety", "retriever", "generator", "workflow", "telemetry", "orchestrator"];
const SERVER: &str = "server";
const PREFIX: &str = "FIRSTLINE__";

/// A table of the configuration.
pub trait Config: DeserializeOwned + Serialize + Default {
    /// Lists the values outside their range.
    fn validate(&self) -> Vec<Violation>;
}

/// A value outside its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Key inside the table, dotted for nested tables.
    pub key: String,
    /// What is wrong and what is allowed, for example "is 1.5, allowed 0..=1".
    pub message: String,
}

/// Adds a violation when `value` lies outside `range`.
pub fn within<T: PartialOrd + Display>(
    key: &str,
    value: T,
    range: RangeInclusive<T>,
    violations: &mut Vec<Violation>,
) {
    if !range.contains(&value) {
        let message = format!("is {value}, allowed {}..={}", range.start(), range.end());
        violations.push(Violation { key: key.to_owned(), message });
    }
}

/// Why the configuration was refused: where, what, and what is allowed.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {message}")]
pub struct Error {
    place: String,
    message: String,
}

/// The configuration before it is cut into tables.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    file: PathBuf,
    text: String,
    environment: Vec<(String, String)>,
}

impl Settings {
    /// Reads the file, when there is one, and the variables that begin with `FIRSTLINE__`.
    ///
    /// # Errors
    /// An unreadable file, TOML that does not parse, a table or variable that names no stage.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let mut settings = Self::default();
        if let Some(file) = file {
            let fail =
                |error: &dyn Display| Error { place: file.display().to_string(), message: error.to_string() };
            settings.text = std::fs::read_to_string(file).map_err(|error| fail(&error))?;
            settings.file = file.to_owned();
        }
        let environment = environment.filter(|(name, _)| name.starts_with(PREFIX));
        settings.environment = environment.map(resolve_file).collect::<Result<_, _>>()?;
        settings.environment.sort();
        settings.check_tables()?;
        Ok(settings)
    }

    /// The file named, or `FIRSTLINE_CONFIG`, or `firstline.toml` in the working directory when it exists.
    ///
    /// # Errors
    /// Those of [`Settings::load`].
    pub fn discover(file: Option<&Path>) -> Result<Self, Error> {
        let named =
            file.map(Path::to_owned).or_else(|| std::env::var_os("FIRSTLINE_CONFIG").map(PathBuf::from));
        let found = named.or_else(|| Some(PathBuf::from("firstline.toml")).filter(|path| path.exists()));
        Self::load(found.as_deref(), std::env::vars())
    }

    /// Adds or replaces one value, above the file and the environment: what a flag does.
    pub fn set(&mut self, table: &str, key: &str, value: &str) {
        let name = format!("{PREFIX}{}__{}", table.to_uppercase(), key.replace('.', "__").to_uppercase());
        self.environment.retain(|(other, _)| *other != name);
        self.environment.push((name, value.to_owned()));
    }

    /// The shared table.
    ///
    /// # Errors
    /// An unknown key or a value out of range, with its place.
    pub fn server(&self) -> Result<Server, Error> {
        self.table(SERVER)
    }

    /// The table of a stage.
    ///
    /// # Errors
    /// An unknown key or a value out of range, with its place.
    pub fn table<C: Config>(&self, name: &str) -> Result<C, Error> {
        let root = self.parse()?;
        let mut config = match root.get(name) {
            Some(value) => C::deserialize(ValueDeserializer::from(value.clone()))
                .map_err(|error| self.at(error.span().unwrap_or(value.span()), error.message(), name))?,
            None => C::default(),
        };
        let mut merged = match root.get(name) {
            Some(value) => toml::Value::deserialize(ValueDeserializer::from(value.clone()))
                .map_err(|error| self.at(value.span(), error.message(), name))?,
            None => toml::Value::Table(toml::Table::new()),
        };
        // Of variables that make a whole together, such as the two prices of a model, the first alone cannot be read.
        let mut failed = None;
        for (variable, path, value) in self.variables(name) {
            let fail = |message: String| Error { place: variable.to_owned(), message };
            insert(&mut merged, &path, value).map_err(fail)?;
            match merged.clone().try_into() {
                Ok(whole) => (config, failed) = (whole, None),
                Err(error) => {
                    failed = failed.or_else(|| Some(fail(toml::de::Error::message(&error).to_owned())))
                }
            }
        }
        failed.map_or(Ok(()), Err)?;
        match config.validate().into_iter().next() {
            Some(violation) => Err(self.refuse(name, &root, violation)),
            None => Ok(config),
        }
    }

    fn parse(&self) -> Result<DeTable<'_>, Error> {
        match DeTable::parse(&self.text) {
            Ok(table) => Ok(table.into_inner()),
            Err(error) => Err(self.at(error.span().unwrap_or(0..0), error.message(), "")),
        }
    }

    fn check_tables(&self) -> Result<(), Error> {
        let known = |name: &str| name == SERVER || STAGES.contains(&name);
        let allowed = format!("allowed {SERVER}, {}", STAGES.join(", "));
        for (key, _) in &self.parse()? {
            let name = key.get_ref();
            if !known(name) {
                return Err(self.at(key.span(), &format!("unknown table `{name}`, {allowed}"), ""));
            }
        }
        for (variable, _) in &self.environment {
            let table = variable[PREFIX.len()..].split("__").next().unwrap_or_default().to_lowercase();
            if !known(&table) {
                return Err(Error {
                    place: variable.clone(),
                    message: format!("unknown table `{table}`, {allowed}"),
                });
            }
        }
        Ok(())
    }

    /// Variables of a table: name, path of keys, value.
    fn variables(&self, table: &str) -> impl Iterator<Item = (&str, Vec<String>, toml::Value)> {
        let prefix = format!("{PREFIX}{}__", table.to_uppercase());
        self.environment.iter().filter_map(move |(name, value)| {
            let path = name.strip_prefix(&prefix)?.split("__").map(str::to_lowercase).collect();
            Some((name.as_str(), path, parse_value(value)))
        })
    }

    fn refuse(&self, table: &str, root: &DeTable<'_>, violation: Violation) -> Error {
        let path: Vec<&str> = violation.key.split('.').collect();
        let message = format!("{table}.{} {}", violation.key, violation.message);
        if let Some((variable, ..)) = self.variables(table).find(|(_, set, _)| *set == path) {
            return Error { place: variable.to_owned(), message };
        }
        if self.file.as_os_str().is_empty() {
            let variable = format!(
                "{PREFIX}{}__{}",
                table.to_uppercase(),
                violation.key.replace('.', "__").to_uppercase()
            );
            return Error { place: format!("configuration (set {variable})"), message };
        }
        let mut span = root.get(table).map(|value| value.span());
        let mut value = root.get(table).map(|value| value.get_ref());
        for key in path {
            let next = value.and_then(DeValue::as_table).and_then(|table| table.get(key));
            span = next.map(|next| next.span()).or(span);
            value = next.map(|next| next.get_ref());
        }
        self.at(span.unwrap_or(0..0), &message, "")
    }

    fn at(&self, span: std::ops::Range<usize>, message: &str, table: &str) -> Error {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        let message = if table.is_empty() { message.to_owned() } else { format!("[{table}] {message}") };
        Error { place: format!("{}:{line}", self.file.display()), message: message.replace('\n', " ") }
    }
}

/// The permission of everyone to read a file.
const EVERYONE: u32 = 0o004;

/// Refuses a file that everyone may read: what it holds is no secret.
///
/// # Errors
/// It is one, or there is no such file.
pub(crate) fn check_secret(path: &Path) -> std::io::Result<()> {
    use std::io::{Error, ErrorKind};
    let (place, metadata) = (path.display(), std::fs::metadata(path));
    let mode = metadata
        .map_err(|error| Error::new(error.kind(), format!("cannot read {place}: {error}")))?
        .permissions()
        .mode();
    if mode & EVERYONE == 0 {
        return Ok(());
    }
    let what = format!(
        "{place} can be read by everyone (mode {:o}): chmod 640 it, on Kubernetes mount it with defaultMode 0440",
        mode & 0o777
    );
    Err(Error::new(ErrorKind::PermissionDenied, what))
}

/// `NAME_FILE` means: the value of `NAME` is the content of that file, as secrets are mounted. What everyone on the
/// machine may read is no secret.
fn resolve_file((name, value): (String, String)) -> Result<(String, String), Error> {
    let Some(stem) = name.strip_suffix("_FILE") else { return Ok((name, value)) };
    let refuse = |message: String| Error { place: name.clone(), message };
    let cannot = |error: std::io::Error| refuse(format!("cannot read {value}: {error}"));
    check_secret(Path::new(&value)).map_err(|error| refuse(error.to_string()))?;
    let content = std::fs::read_to_string(&value).map_err(cannot)?;
    Ok((stem.to_owned(), content.trim_end().to_owned()))
}

/// A TOML value where the text is one, else the text itself.
fn parse_value(text: &str) -> toml::Value {
    let parsed = toml::from_str::<toml::Table>(&format!("value = {text}")).ok();
    let value = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn insert(root: &mut toml::Value, path: &[String], value: toml::Value) -> Result<(), String> {
    let Some((last, parents)) = path.split_last() else { return Err("names no key".to_owned()) };
    let mut place = root;
    for key in parents {
        let table = place.as_table_mut().ok_or_else(|| format!("`{key}` is not in a table"))?;
        place = table.entry(key.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    }
    let table = place.as_table_mut().ok_or_else(|| format!("`{last}` is not in a table"))?;
    table.insert(last.clone(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Server, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let settings = Settings::load(Some(file.path()), environment).map_err(|error| error.to_string())?;
        let place = file.path().display().to_string();
        settings.server().map_err(|error| error.to_string().replace(&place, "FILE"))
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_allowed_names() {
        let error = load("[server]\ndrain_ms = 5\nbalanse = \"dns\"\n", &[]).unwrap_err();
        assert!(error.starts_with("FILE:3: [server] unknown field `balanse`"), "{error}");
        assert!(error.contains("`balance`"), "{error}");
    }

    #[test]
    fn a_value_out_of_range_names_its_place_and_the_range() {
        let error = load("[server]\n\ndrain_ms = 600001\n", &[]).unwrap_err();
        assert_eq!(error, "FILE:3: server.drain_ms is 600001, allowed 0..=600000");
        let error = load("", &[("FIRSTLINE__SERVER__MAX_MESSAGE_BYTES", "1")]).unwrap_err();
        assert!(
            error.starts_with("FIRSTLINE__SERVER__MAX_MESSAGE_BYTES: server.max_message_bytes is 1"),
            "{error}"
        );
    }

    #[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Priced {
        price: Option<Price>,
    }

    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Price {
        input: f64,
        output: f64,
    }

    impl Config for Priced {
        fn validate(&self) -> Vec<Violation> {
            Vec::new()
        }
    }

    #[test]
    fn variables_may_make_a_whole_together_and_one_that_does_not_fit_is_named() {
        let mut settings = Settings::default();
        settings.set("generator", "price.input", "1.5");
        let alone = settings.table::<Priced>("generator").unwrap_err().to_string();
        assert!(alone.starts_with("FIRSTLINE__GENERATOR__PRICE__INPUT: missing field `output`"), "{alone}");
        settings.set("generator", "price.output", "2.5");
        let price = settings.table::<Priced>("generator").unwrap().price.unwrap();
        assert_eq!((price.input, price.output), (1.5, 2.5));
        settings.set("generator", "prise", "1");
        let wrong = settings.table::<Priced>("generator").unwrap_err().to_string();
        assert!(wrong.starts_with("FIRSTLINE__GENERATOR__PRISE: unknown field `prise`"), "{wrong}");
    }

    #[test]
    fn the_environment_wins_over_the_file_and_reaches_nested_tables() {
        let variables = [
            ("FIRSTLINE__SERVER__LISTEN__SAFETY", "127.0.0.1:9"),
            ("FIRSTLINE__SERVER__BUNDLE", "/b"),
            ("FIRSTLINE__SERVER__DRAIN_MS", "7"),
        ];
        let server =
            load("[server]\ndrain_ms = 5\n[server.listen]\nclassifier = \"127.0.0.1:8\"\n", &variables)
                .unwrap();
        assert_eq!((server.drain_ms, server.bundle), (7, PathBuf::from("/b")));
        assert_eq!((server.listen.safety.port(), server.listen.classifier.port()), (9, 8));
    }

    #[test]
    fn a_secret_that_everyone_may_read_stops_the_start() {
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "/b\n").unwrap();
        let place = secret.path().display().to_string();
        let variables = [("FIRSTLINE__SERVER__BUNDLE_FILE", place.as_str())];
        let allow = |mode| std::fs::set_permissions(secret.path(), PermissionsExt::from_mode(mode)).unwrap();
        allow(0o640);
        assert_eq!(load("", &variables).unwrap().bundle, PathBuf::from("/b"));
        allow(0o644);
        let error = load("", &variables).unwrap_err();
        assert!(error.contains("BUNDLE_FILE") && error.contains("(mode 644): chmod 640"), "{error}");
    }

    #[test]
    fn a_table_that_is_no_stage_stops_the_start() {
        let error =
            Settings::load(None, [("FIRSTLINE__CLASIFIER__X".to_owned(), "1".to_owned())].into_iter());
        assert!(
            error.unwrap_err().to_string().contains("unknown table `clasifier`, allowed server, classifier")
        );
    }
}
