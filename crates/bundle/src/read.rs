//! Reading the files of a bundle, each error with file and line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;

use crate::place::line_of;
pub(crate) use crate::problem::Lines;
pub use crate::problem::{Place, Problem, Problems};
use crate::types::*;
use crate::{intents, knowledge, layout, synonyms, told, workflows};

/// An opened bundle: its list of files and its hash; the parts are read when asked for.
#[derive(Debug, Clone)]
pub struct Reader {
    root: PathBuf,
    files: BTreeMap<PathBuf, blake3::Hash>,
    hash: String,
}

impl Reader {
    /// Lists and hashes the files of a bundle. Hidden files and folders are no part of it, nor are `eval/` and
    /// `rollout.toml`.
    ///
    /// # Errors
    /// No folder, no `assistant.toml` in it, or a file that cannot be read.
    pub fn open(root: &Path) -> Result<Self, Problems> {
        if !root.is_dir() {
            return Err(Problem::new(root, 0, "no such folder; `firstline bundle new` makes one").into());
        }
        let mut files = BTreeMap::new();
        list(root, Path::new(""), &mut files)?;
        if !files.contains_key(Path::new("assistant.toml")) {
            return Err(Problem::new(root, 0, "no bundle: it has no assistant.toml").into());
        }
        let mut hasher = blake3::Hasher::new();
        for (name, hash) in &files {
            let name = name.to_string_lossy();
            hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(hash.as_bytes());
        }
        let hash = hasher.finalize().to_hex()[..16].to_owned();
        Ok(Self { root: root.to_owned(), files, hash })
    }

    /// Hash over names and contents of all files that make the assistant, 16 hexadecimal digits.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The folder of the bundle.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where artefacts built from the bundle live; content-addressed, never a part of the hash.
    pub fn build_dir(&self) -> PathBuf {
        self.root.join(".build")
    }

    /// `assistant.toml`.
    ///
    /// # Errors
    /// The file does not parse or holds a value out of range.
    pub fn assistant(&self) -> Result<Assistant, Problems> {
        let file = Path::new("assistant.toml");
        let text = self.text(file)?;
        let assistant: Assistant = parse(file, &text)?;
        let mut problems = Vec::new();
        let mut refuse = |key: &str, message: String| {
            problems.push(Problem::new(file, find_key(&text, key), message));
        };
        if assistant.schema != 1 {
            refuse("schema", format!("schema is {}, allowed 1", assistant.schema));
        }
        if assistant.locales.is_empty() {
            refuse("locales", "locales is empty, at least one language such as \"en\" is needed".to_owned());
        }
        let empty = assistant.handoff.messages.iter().find(|(_, text)| text.trim().is_empty());
        if assistant.handoff.message.trim().is_empty() || empty.is_some() {
            let key = empty.map_or("message", |(reason, _)| reason);
            refuse(
                key,
                format!("handoff text {key:?} is empty; every handoff says something to the customer"),
            );
        }
        if assistant.categories.is_empty() {
            refuse("categories", "no category, at least one [categories.NAME] is needed".to_owned());
        }
        for (name, category) in &assistant.categories {
            if !is_name(name) {
                refuse(name, format!("category name {name:?}, allowed [a-z][a-z0-9_]*"));
            }
            let limits = [
                ("accept_threshold", category.accept_threshold),
                ("ambiguity_margin", category.ambiguity_margin),
            ];
            for (key, value) in limits {
                if value.is_some_and(|value| !(0.0..=1.0).contains(&value)) {
                    refuse(key, format!("categories.{name}.{key} is out of range, allowed 0..=1"));
                }
            }
        }
        let hours = told::check(&assistant).into_iter();
        problems.extend(hours.map(|(path, message)| Problem::new(file, line_of(&text, &path), message)));
        finish(assistant, problems)
    }

    /// The intents of all files under `intents/`, in the order of the file names.
    ///
    /// # Errors
    /// A file that does not parse, a duplicate, an unknown category, an intent without examples.
    pub fn intents(&self) -> Result<Vec<Intent>, Problems> {
        Ok(intents::read(self, &self.assistant()?)?.intents)
    }

    /// Utterances that belong to no intent, as the files under `intents/` list them; often none.
    ///
    /// # Errors
    /// As [`Reader::intents`].
    pub fn out_of_scope(&self) -> Result<Vec<(Place, String)>, Problems> {
        Ok(intents::read(self, &self.assistant()?)?.out_of_scope)
    }

    /// The documents of all files under `knowledge/`.
    ///
    /// # Errors
    /// A file without front matter, a duplicate id, a document over the size limit, invalid UTF-8.
    pub fn knowledge(&self) -> Result<Vec<Document>, Problems> {
        Ok(self.placed_knowledge()?.into_iter().map(|(_, document)| document).collect())
    }

    /// The documents as in [`Reader::knowledge`], each with where it begins.
    ///
    /// # Errors
    /// As [`Reader::knowledge`].
    pub fn placed_knowledge(&self) -> Result<Vec<(Place, Document)>, Problems> {
        let mut documents = Vec::new();
        let mut problems = Vec::new();
        let mut seen: BTreeMap<String, Place> = BTreeMap::new();
        for file in self.under("knowledge").filter(|file| *file != Path::new(synonyms::FILE)) {
            let found = match file.extension().and_then(|extension| extension.to_str()) {
                Some("md") => knowledge::markdown(self, file).map(|document| vec![(1, document)]),
                _ => knowledge::jsonl(self, file),
            };
            match found {
                Ok(found) => {
                    for (line, document) in found {
                        if let Some(first) = seen.get(&document.id) {
                            let first = first.to_string();
                            problems.push(knowledge::twice(file, line, &document.id, &first));
                            continue;
                        }
                        let place = Place { file: file.clone(), line };
                        seen.insert(document.id.clone(), place.clone());
                        documents.push((place, document));
                    }
                }
                Err(found) => problems.extend(found.0),
            }
        }
        finish(documents, problems)
    }

    /// The groups of `knowledge/synonyms.toml`; none without the file.
    ///
    /// # Errors
    /// The file does not parse, a group is too small or too large, a word stands twice or has no letters.
    pub fn synonyms(&self) -> Result<Vec<Synonym>, Problems> {
        let file = Path::new(synonyms::FILE);
        if self.files.contains_key(file) {
            synonyms::parse_file(file, &self.text(file)?)
        } else {
            Ok(Vec::new())
        }
    }

    /// The answers of `curated.toml`; none without the file.
    ///
    /// # Errors
    /// The file does not parse, an id or a question stands twice, an answer has no question.
    pub fn curated(&self) -> Result<Vec<Curated>, Problems> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            #[serde(default)]
            answer: Vec<Spanned<Curated>>,
        }
        let file = Path::new("curated.toml");
        if !self.files.contains_key(file) {
            return Ok(Vec::new());
        }
        let text = self.text(file)?;
        let mut problems = Vec::new();
        let mut ids = BTreeMap::new();
        let mut questions = BTreeMap::new();
        let mut answers = Vec::new();
        let lines = Lines::of(&text);
        for answer in parse::<File>(file, &text)?.answer {
            let line = lines.at(answer.span().start);
            let answer = answer.into_inner();
            let mut refuse = |message: String| problems.push(Problem::new(file, line, message));
            if answer.questions.is_empty() && answer.intents.is_empty() {
                refuse(format!(
                    "answer {:?} has no questions and no intents, at least one is needed",
                    answer.id
                ));
            }
            if ids.insert(answer.id.clone(), ()).is_some() {
                refuse(format!("duplicate id {:?}", answer.id));
            }
            for question in &answer.questions {
                if let Some(other) = questions.insert(text::normalise(question), answer.id.clone()) {
                    refuse(format!("question {question:?} is already answered by {other:?}"));
                }
            }
            answers.push(answer);
        }
        finish(answers, problems)
    }

    /// The workflows of all files under `workflows/`.
    ///
    /// # Errors
    /// A file that does not parse, a value out of range, a broken template or pattern, a duplicate name.
    pub fn workflows(&self) -> Result<Vec<Workflow>, Problems> {
        let workflows = workflows::workflows(self)?;
        Ok(workflows.into_iter().map(|(_, workflow)| workflow).collect())
    }

    /// The sets of file descriptors of targets that speak gRPC, `workflows/descriptors/TARGET.binpb`, by target.
    ///
    /// # Errors
    /// A file that cannot be read, or of another kind.
    pub fn descriptors(&self) -> Result<BTreeMap<String, Vec<u8>>, Problems> {
        Ok(workflows::descriptors(self)?)
    }

    /// `file:line` of a key of the workflow of that name: the path leads to it, through tables by key and
    /// through arrays by name.
    pub fn workflow_place(&self, name: &str, path: &[&str]) -> String {
        workflows::place(self, name, path)
    }

    /// The prompts of all files under `prompts/`.
    ///
    /// # Errors
    /// A file without front matter or with a broken template.
    pub fn prompts(&self) -> Result<Vec<Prompt>, Problems> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Front {
            version: serde_json::Value,
            #[serde(default)]
            inputs: Vec<String>,
        }
        let mut prompts = Vec::new();
        for file in self.under("prompts") {
            let text = self.text(file)?;
            let keys = "version and, if wanted, inputs";
            let (front, body) = knowledge::front_matter::<Front>(file, &text, keys)?;
            let line = Lines::of(&text).at(text.len() - body.len());
            check_template(file, body, line)?;
            let version = front.version.as_str().map_or_else(|| front.version.to_string(), str::to_owned);
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            prompts.push(Prompt { name, version, inputs: front.inputs, line, body: body.to_owned() });
        }
        Ok(prompts)
    }

    /// Whether there is such a file.
    pub(crate) fn holds(&self, file: &Path) -> bool {
        self.files.contains_key(file)
    }

    /// Names of the files under a folder, sorted.
    pub(crate) fn under(&self, folder: &str) -> impl Iterator<Item = &PathBuf> {
        self.files.keys().filter(move |file| file.starts_with(folder) && *file != Path::new(folder))
    }

    /// Hash over the files under the given folders or with the given names, 16 hexadecimal digits:
    /// the content address of what is built from them.
    pub fn hash_of(&self, parts: &[&str]) -> String {
        let mut hasher = blake3::Hasher::new();
        for (file, hash) in &self.files {
            if parts.iter().any(|part| file.starts_with(part)) {
                hasher.update(file.to_string_lossy().as_bytes()).update(&[0]).update(hash.as_bytes());
            }
        }
        hasher.finalize().to_hex()[..16].to_owned()
    }

    /// The first line of a file that names a key, from 1; 0 when none does.
    pub fn line(&self, file: &str, key: &str) -> usize {
        self.text(Path::new(file)).map_or(0, |text| find_key(&text, key))
    }

    pub(crate) fn bytes(&self, file: &Path) -> Result<Vec<u8>, Problem> {
        layout::check_kind(file)?;
        let bytes = std::fs::read(self.root.join(file));
        bytes.map_err(|error| Problem::new(file, 0, format!("cannot be read: {error}")))
    }

    pub(crate) fn text(&self, file: &Path) -> Result<String, Problem> {
        let text = String::from_utf8(self.bytes(file)?).map_err(|error| Problem::not_utf8(file, &error))?;
        Ok(text.strip_prefix(knowledge::BOM).map(str::to_owned).unwrap_or(text))
    }
}

fn list(root: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, blake3::Hash>) -> Result<(), Problem> {
    let fail = |error: std::io::Error| Problem::new(folder, 0, format!("cannot be read: {error}"));
    for entry in std::fs::read_dir(root.join(folder)).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let name = folder.join(entry.file_name());
        if layout::is_beside(&name) {
            continue;
        }
        if entry.path().is_dir() && !entry.path().is_symlink() {
            list(root, &name, files)?;
        } else {
            let mut hasher = blake3::Hasher::new();
            let read =
                std::fs::File::open(entry.path()).and_then(|file| hasher.update_reader(file).map(|_| ()));
            read.map_err(|error| Problem::new(&name, 0, format!("cannot be read: {error}")))?;
            files.insert(name, hasher.finalize());
        }
    }
    Ok(())
}

pub(crate) fn parse<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, Problem> {
    toml::from_str(text).map_err(|error| not_toml(file, text, &error))
}

pub(crate) fn not_toml(file: &Path, text: &str, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(0..0);
    Problem::at(file, text, span, error.message().replace('\n', " "))
}

pub(crate) fn finish<T>(value: T, problems: Vec<Problem>) -> Result<T, Problems> {
    if problems.is_empty() { Ok(value) } else { Err(Problems(problems)) }
}

/// The first line that names the key; for values whose type keeps no place.
pub(crate) fn find_key(text: &str, key: &str) -> usize {
    text.lines().position(|line| line.contains(key)).map_or(0, |line| line + 1)
}

/// Names of intents, categories, workflows and slots.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Whether a template compiles; it begins at the given line of its file.
pub(crate) fn check_template(file: &Path, body: &str, first: usize) -> Result<(), Problem> {
    let environment = minijinja::Environment::new();
    let checked = environment.template_from_str(body);
    checked.map(|_| ()).map_err(|error| {
        let line = error.line().map_or(0, |line| first + line - 1);
        Problem::new(file, line, format!("broken template: {}", error.detail().unwrap_or("syntax")))
    })
}
