//! The files of an export: examples in two parts by customer, and what they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

/// Names the split: another one would split customers otherwise.
const SPLIT: &str = "firstline export 2026-11-28 customers by part";
const PARTS: [&str; 2] = ["train", "valid"];

/// Whether a customer's examples are for validation: always the same for the same customer.
fn is_valid(customer: &str, share: f64) -> bool {
    let hash = blake3::keyed_hash(&blake3::derive_key(SPLIT, b""), customer.as_bytes());
    let place = hash.as_bytes().iter().take(4).fold(0_u32, |place, byte| place << 8 | u32::from(*byte));
    f64::from(place) < share * 2_f64.powi(32)
}

/// One of the two files while it is written, under a name that nobody takes for complete.
struct Part {
    path: PathBuf,
    file: BufWriter<File>,
    content: blake3::Hasher,
    lineage: blake3::Hasher,
    examples: u64,
    customers: BTreeSet<u64>,
}

impl Part {
    fn create(path: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(partial(&path)).with_context(|| format!("--out: {}", path.display()))?;
        let (content, lineage) = (blake3::Hasher::new(), blake3::Hasher::new());
        Ok(Self {
            path,
            file: BufWriter::new(file),
            content,
            lineage,
            examples: 0,
            customers: BTreeSet::new(),
        })
    }

    fn add(&mut self, customer: &str, turn_id: &str, example: &Value) -> anyhow::Result<()> {
        let line = format!("{example}\n");
        self.file.write_all(line.as_bytes()).with_context(|| format!("--out: {}", self.path.display()))?;
        self.content.update(line.as_bytes());
        self.lineage.update(turn_id.as_bytes()).update(b"\n");
        self.examples += 1;
        self.customers.insert(super::short(customer));
        Ok(())
    }

    /// Gives the file its name; returns what it is.
    fn finish(mut self) -> anyhow::Result<Value> {
        self.file.flush().with_context(|| format!("--out: {}", self.path.display()))?;
        self.file.get_ref().sync_all()?;
        std::fs::rename(partial(&self.path), &self.path)?;
        Ok(json!({
            "file": self.path.file_name().map(|name| name.to_string_lossy()),
            "examples": self.examples,
            "customers": self.customers.len(),
            "blake3": self.content.finalize().to_hex().as_str(),
            "lineage": self.lineage.finalize().to_hex().as_str(),
        }))
    }
}

fn partial(path: &Path) -> PathBuf {
    path.with_added_extension("partial")
}

/// The files of an export.
pub(super) struct Files {
    out: PathBuf,
    valid_share: f64,
    /// In the order of [`PARTS`].
    parts: [Part; 2],
    /// Examples by the bundle that decided their turn.
    bundles: BTreeMap<String, u64>,
}

impl Files {
    /// Begins the files `out`.train.jsonl and `out`.valid.jsonl; the second gets about a share of the customers.
    ///
    /// # Errors
    /// They cannot be written there.
    pub(super) fn create(out: &Path, valid_share: f64) -> anyhow::Result<Self> {
        let [train, valid] =
            PARTS.map(|part| Part::create(out.with_added_extension(format!("{part}.jsonl"))));
        Ok(Self { out: out.to_owned(), valid_share, parts: [train?, valid?], bundles: BTreeMap::new() })
    }

    /// Adds the example of a turn to the part of its customer.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn add(
        &mut self,
        customer: &str,
        (turn_id, bundle): (&str, &str),
        example: &Value,
    ) -> anyhow::Result<()> {
        *self.bundles.entry(bundle.to_owned()).or_default() += 1;
        let valid = is_valid(customer, self.valid_share);
        self.parts[usize::from(valid)].add(customer, turn_id, example)
    }

    /// Ends the files and writes `out`.manifest.json, which says what they are; returns it.
    ///
    /// # Errors
    /// They cannot be written.
    pub(super) fn finish(self, mut manifest: Value) -> anyhow::Result<Value> {
        let [train, valid] = self.parts.map(Part::finish);
        manifest["files"] = json!([train?, valid?]);
        manifest["valid_share"] = json!(self.valid_share);
        manifest["bundles"] = json!(self.bundles);
        let path = self.out.with_added_extension("manifest.json");
        let text = format!("{manifest:#}\n");
        std::fs::write(&path, text).with_context(|| format!("--out: {}", path.display()))?;
        Ok(manifest)
    }
}
