//! An OpenAPI document, 3.0 or 3.1: its operations, with references inside it resolved.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Map, Value};

/// Largest document that is read.
const MAX_BYTES: u64 = 8 * 1024 * 1024;
/// Longest chain of references, and deepest nesting of schemas.
pub(crate) const MAX_DEPTH: usize = 16;
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// A document with the file it comes from.
pub(crate) struct Document {
    file: PathBuf,
    root: Value,
}

/// A place in a document.
#[derive(Clone)]
pub(crate) struct Node<'d> {
    document: &'d Document,
    pub(crate) value: &'d Value,
    /// JSON pointer as a fragment, such as "#/paths/~1cards/post".
    pub(crate) place: String,
    /// Places of the references that led here, the outermost first.
    through: Vec<String>,
}

/// An operation with the path item around it.
pub(crate) struct Operation<'d> {
    /// "put", "post", "patch" or "delete".
    pub(crate) method: &'static str,
    /// Path with `{parameters}`.
    pub(crate) path: String,
    pub(crate) node: Node<'d>,
    pub(crate) item: Node<'d>,
}

impl Document {
    /// Reads a document, JSON or YAML.
    ///
    /// # Errors
    /// It cannot be read, does not parse, or is not of version 3.0 or 3.1; names the file and the place.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let shown = file.display();
        let size = std::fs::metadata(file).with_context(|| format!("{shown}: cannot be read"))?.len();
        ensure!(size <= MAX_BYTES, "{shown}: has {size} bytes, allowed up to {MAX_BYTES}");
        let text = std::fs::read_to_string(file).with_context(|| format!("{shown}: cannot be read"))?;
        Self::parse(file, &text)
    }

    pub(crate) fn parse(file: &Path, text: &str) -> anyhow::Result<Self> {
        let shown = file.display();
        let root: Value = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).with_context(|| format!("{shown}: is no JSON"))?
        } else {
            serde_saphyr::from_str_with_options(text, serde_saphyr::options! { strict_booleans: true })
                .with_context(|| format!("{shown}: is no YAML"))?
        };
        let document = Self { file: file.to_owned(), root };
        let version = document.root().field("openapi");
        let version = version.as_ref().and_then(|node| node.value.as_str()).unwrap_or_default();
        if !["3.0.", "3.1."].iter().any(|known| version.starts_with(known)) {
            bail!("{shown}: #/openapi: is {version:?}, allowed 3.0 and 3.1");
        }
        Ok(document)
    }

    pub(crate) fn root(&self) -> Node<'_> {
        Node { document: self, value: &self.root, place: "#".to_owned(), through: Vec::new() }
    }

    /// The operation with this operationId, or of this "METHOD /path".
    ///
    /// # Errors
    /// There is none, or it only reads; names those there are.
    pub(crate) fn operation(&self, id: &str) -> anyhow::Result<Operation<'_>> {
        let mut known = Vec::new();
        let paths = self.root().field("paths");
        for (path, item) in paths.iter().flat_map(Node::fields) {
            let item = item.resolved()?;
            for method in METHODS {
                let Some(node) = item.field(method) else { continue };
                let name = node.text("operationId").unwrap_or_default().to_owned();
                let spelled = format!("{} {path}", method.to_uppercase());
                if name != id && !spelled.eq_ignore_ascii_case(id) {
                    known.push(if name.is_empty() { spelled } else { name });
                    continue;
                }
                if !["put", "post", "patch", "delete"].contains(&method) {
                    return Err(
                        node.wrong("only reads; a workflow has an effect, allowed PUT, POST, PATCH, DELETE")
                    );
                }
                return Ok(Operation { method, path: path.to_owned(), node, item });
            }
        }
        known.truncate(20);
        let known = known.join(", ");
        bail!("{}: #/paths: no operation {id:?}, such as [{known}]", self.file.display())
    }
}

impl<'d> Node<'d> {
    /// A field of an object.
    pub(crate) fn field(&self, name: &str) -> Option<Node<'d>> {
        let value = self.value.get(name)?;
        Some(self.inner(name, value))
    }

    /// A string field.
    pub(crate) fn text(&self, name: &str) -> Option<&'d str> {
        self.value.get(name)?.as_str()
    }

    /// A boolean field; absent means false.
    pub(crate) fn says(&self, name: &str) -> bool {
        self.value.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    /// The fields of an object; none of anything else.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'d str, Node<'d>)> + use<'d> {
        let node = self.clone();
        let fields = self.value.as_object().into_iter().flat_map(Map::iter);
        fields.map(move |(name, value)| (name.as_str(), node.inner(name, value)))
    }

    /// The items of a list; none of anything else.
    pub(crate) fn items(&self) -> impl Iterator<Item = Node<'d>> + use<'d> {
        let node = self.clone();
        let items = self.value.as_array().into_iter().flatten().enumerate();
        items.map(move |(index, value)| node.inner(&index.to_string(), value))
    }

    /// What this is or refers to.
    ///
    /// # Errors
    /// A reference out of the document, to nothing, to itself, or through too many others.
    pub(crate) fn resolved(&self) -> anyhow::Result<Node<'d>> {
        let mut node = self.clone();
        while let Some(to) = node.text("$ref") {
            let Some(pointer) = to.strip_prefix('#') else {
                return Err(node.wrong(&format!("refers to {to:?}, allowed references inside the document")));
            };
            if node.through.iter().any(|place| place == to) {
                return Err(node.wrong(&format!("refers to {to:?}, of which it is a part itself")));
            }
            let Some(value) = node.document.root.pointer(pointer) else {
                return Err(node.wrong(&format!("refers to {to:?}, which does not exist")));
            };
            let through = [node.through.as_slice(), &[to.to_owned()]].concat();
            if through.len() > MAX_DEPTH {
                return Err(node.wrong(&format!("refers through more than {MAX_DEPTH} others")));
            }
            node = Node { document: node.document, value, place: to.to_owned(), through };
        }
        Ok(node)
    }

    /// An error about this place.
    pub(crate) fn wrong(&self, message: &str) -> anyhow::Error {
        anyhow::anyhow!("{}: {}: {message}", self.document.file.display(), self.place)
    }

    fn inner(&self, name: &str, value: &'d Value) -> Node<'d> {
        let step = name.replace('~', "~0").replace('/', "~1");
        let place = format!("{}/{step}", self.place);
        Node { document: self.document, value, place, through: self.through.clone() }
    }
}

impl<'d> Operation<'d> {
    /// The first of its servers, with its variables at their defaults; empty when the document names none.
    pub(crate) fn server(&self) -> String {
        let root = self.node.document.root();
        let servers = [&self.node, &self.item, &root].into_iter().find_map(|node| node.field("servers"));
        let Some(server) = servers.and_then(|servers| servers.items().next()) else { return String::new() };
        let mut url = server.text("url").unwrap_or_default().to_owned();
        for (name, variable) in server.field("variables").iter().flat_map(Node::fields) {
            url = url.replace(&format!("{{{name}}}"), variable.text("default").unwrap_or_default());
        }
        url
    }

    /// Its parameters and those of its path, each resolved; its own win.
    ///
    /// # Errors
    /// As for [`Node::resolved`].
    pub(crate) fn parameters(&self) -> anyhow::Result<Vec<Node<'d>>> {
        let mut parameters: Vec<Node<'d>> = Vec::new();
        for level in [&self.node, &self.item] {
            for parameter in level.field("parameters").iter().flat_map(Node::items) {
                let parameter = parameter.resolved()?;
                let key = |node: &Node<'_>| {
                    (node.text("in").map(str::to_owned), node.text("name").map(str::to_owned))
                };
                if !parameters.iter().any(|known| key(known) == key(&parameter)) {
                    parameters.push(parameter);
                }
            }
        }
        Ok(parameters)
    }

    /// What it demands of the caller's identity.
    pub(crate) fn security(&self) -> Vec<&'d str> {
        let root = self.node.document.root();
        let demands = self.node.field("security").or_else(|| root.field("security"));
        let mut names: Vec<&str> =
            demands.iter().flat_map(Node::items).flat_map(|one| one.fields()).map(|(name, _)| name).collect();
        names.dedup();
        names
    }
}
