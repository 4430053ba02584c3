//! Bundles as artefacts: built once, kept under the hash of all their bytes, unpacked whole or not at all.

use std::fs::File;
use std::io::{self, BufReader, Seek as _, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures::TryStreamExt as _;
use kit::config::Settings;
use object_store::buffered::BufWriter;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::io::AsyncWriteExt as _;

use crate::show;

/// Hexadecimal digits of a hash (BLAKE3).
const DIGITS: usize = 64;
/// What the folder of the bundle in use is called.
const CURRENT: &str = "current";

#[derive(Subcommand)]
pub(crate) enum ArtefactCommand {
    /// Build a bundle and put it into an object store, under the hash that is printed
    Push {
        /// Folder of the bundle
        dir: PathBuf,
        /// Store: s3://BUCKET/PATH, gs://, az:// or file:///FOLDER; keys come from the usual variables, AWS_... and so on
        #[arg(long, value_name = "URL")]
        to: String,
    },
    /// Get a bundle from an object store and make it the current one: INTO/current; what was it before stays beside it
    Pull {
        /// Its hash, as push printed it
        hash: String,
        /// Store, as for push
        #[arg(long, value_name = "URL")]
        from: String,
        /// Folder of unpacked bundles
        #[arg(long, value_name = "DIR")]
        into: PathBuf,
    },
}

/// Runs it.
pub(crate) async fn run(
    settings: &Settings,
    command: ArtefactCommand,
    as_json: bool,
) -> anyhow::Result<bool> {
    match command {
        ArtefactCommand::Push { dir, to } => {
            crate::bundles::build(&dir, &settings.server()?.encoder).await?;
            let (hash, bundle) = (push(&dir, &to).await?, bundle::Reader::open(&dir)?.hash().to_owned());
            if as_json {
                show::line(&serde_json::json!({ "hash": hash, "bundle": bundle }).to_string());
            } else {
                // Beside what a script reads.
                eprintln!("turns of this bundle say {bundle}");
                show::line(&hash);
            }
        }
        ArtefactCommand::Pull { hash, from, into } => {
            let current = pull(&hash, &from, &into).await?;
            if as_json {
                show::line(&serde_json::json!({ "hash": hash, "dir": current }).to_string());
            } else {
                show::line(&format!("{} is {hash}", current.display()));
            }
        }
    }
    Ok(true)
}

/// A store and the key of an artefact in it.
fn place(url: &str, hash: &str) -> anyhow::Result<(Box<dyn ObjectStore>, Key)> {
    let parsed = url.parse().with_context(|| format!("{url} is no URL"))?;
    let (store, path) = object_store::parse_url_opts(&parsed, std::env::vars())
        .with_context(|| format!("{url}: allowed s3://, gs://, az:// and file:///"))?;
    Ok((store, path.join(format!("{hash}.tar.gz"))))
}

async fn push(dir: &Path, to: &str) -> anyhow::Result<String> {
    let from = dir.to_owned();
    let (mut packed, hash) = tokio::task::spawn_blocking(move || pack(&from)).await??;
    let (store, key) = place(to, &hash)?;
    packed.rewind()?;
    let mut packed = tokio::fs::File::from_std(packed);
    let mut writer = BufWriter::new(store.into(), key);
    tokio::io::copy(&mut packed, &mut writer).await.with_context(|| format!("cannot write to {to}"))?;
    writer.shutdown().await.with_context(|| format!("cannot write to {to}"))?;
    Ok(hash)
}

/// A bundle with what was built of it as one file without a name, and its hash. The same files give the same bytes.
fn pack(dir: &Path) -> anyhow::Result<(File, String)> {
    let mut files = Vec::new();
    list(dir, &mut files).with_context(|| format!("cannot read {}", dir.display()))?;
    files.sort();
    let hashed = Hashed { to: tempfile::tempfile()?, hasher: blake3::Hasher::new() };
    let mut archive = tar::Builder::new(GzEncoder::new(hashed, Compression::default()));
    archive.mode(tar::HeaderMode::Deterministic);
    for path in files {
        let name = path.strip_prefix(dir)?;
        archive
            .append_path_with_name(&path, name)
            .with_context(|| format!("cannot pack {}", path.display()))?;
    }
    let Hashed { to, hasher } = archive.into_inner()?.finish()?;
    Ok((to, hasher.finalize().to_hex().to_string()))
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { list(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

/// What is written, and the hash of it.
struct Hashed {
    to: File,
    hasher: blake3::Hasher,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

async fn pull(hash: &str, from: &str, into: &Path) -> anyhow::Result<PathBuf> {
    let is_hash = hash.len() == DIGITS && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    anyhow::ensure!(is_hash, "{hash:?} is no hash, {DIGITS} hexadecimal digits are needed");
    std::fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
    let unpacked = into.join(hash);
    if !unpacked.exists() {
        let fetched = fetch(hash, from, into).await?;
        let (dir, unpacked) = (into.to_owned(), unpacked.clone());
        tokio::task::spawn_blocking(move || unpack(fetched, &dir, &unpacked)).await??;
    }
    point(into, hash)
}

/// Downloads an artefact into a file without a name; only if it is what its hash says.
async fn fetch(hash: &str, from: &str, into: &Path) -> anyhow::Result<File> {
    let (store, key) = place(from, hash)?;
    let found = store.get(&key).await.with_context(|| format!("{from} has no bundle {hash}"))?;
    let mut hashed = Hashed { to: tempfile::tempfile_in(into)?, hasher: blake3::Hasher::new() };
    let mut chunks = found.into_stream();
    while let Some(chunk) = chunks.try_next().await.with_context(|| format!("cannot read from {from}"))? {
        hashed.write_all(&chunk)?;
    }
    let is = hashed.hasher.finalize().to_hex();
    anyhow::ensure!(is.as_str() == hash, "{from}: what is kept as {hash} is {is}; it is not used");
    hashed.to.rewind()?;
    Ok(hashed.to)
}

/// Unpacks beside its place and moves it there: no process sees half of a bundle.
fn unpack(packed: File, into: &Path, unpacked: &Path) -> anyhow::Result<()> {
    let beside = tempfile::Builder::new().prefix(".incoming-").tempdir_in(into)?;
    tar::Archive::new(GzDecoder::new(BufReader::new(packed))).unpack(beside.path())?;
    let moved = std::fs::rename(beside.path(), unpacked);
    // Somebody else who pulled the same was first.
    if !unpacked.exists() {
        moved.with_context(|| format!("cannot create {}", unpacked.display()))?;
    }
    Ok(())
}

/// Makes one of the unpacked bundles the current one, in one step.
fn point(into: &Path, hash: &str) -> anyhow::Result<PathBuf> {
    let current = into.join(CURRENT);
    let beside = tempfile::Builder::new().prefix(".current-").tempdir_in(into)?;
    let link = beside.path().join(CURRENT);
    std::os::unix::fs::symlink(hash, &link)?;
    std::fs::rename(&link, &current).with_context(|| format!("cannot replace {}", current.display()))?;
    Ok(current)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(dir: &Path, words: &str) {
        std::fs::create_dir_all(dir.join(".build")).unwrap();
        std::fs::write(dir.join("assistant.toml"), words).unwrap();
        std::fs::write(dir.join(".build/model"), "built").unwrap();
    }

    #[tokio::test]
    async fn a_bundle_comes_back_whole_the_one_before_stays_and_what_was_changed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (source, into, store) = (at("acme"), at("into"), at("store"));
        std::fs::create_dir(&store).unwrap();
        let url = format!("file://{}", store.display());
        bundle(&source, "first");
        let first = push(&source, &url).await.unwrap();
        assert_eq!(push(&source, &url).await.unwrap(), first, "the same files are the same artefact");
        bundle(&source, "second");
        let second = push(&source, &url).await.unwrap();
        assert_ne!(first, second);
        for (hash, words) in [(&first, "first"), (&second, "second"), (&first, "first")] {
            let current = pull(hash, &url, &into).await.unwrap();
            assert_eq!(std::fs::read_to_string(current.join("assistant.toml")).unwrap(), words);
            assert_eq!(std::fs::read_to_string(current.join(".build/model")).unwrap(), "built");
        }
        let kept = std::fs::read_dir(&into).unwrap().count();
        assert_eq!(kept, 3, "two bundles and which of them is current, nothing half done");
        let other = at("other");
        let file = store.join(format!("{second}.tar.gz"));
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[40] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let refused = pull(&second, &url, &other).await.unwrap_err().to_string();
        assert!(refused.contains("is not used"), "{refused}");
        assert!(!other.join(CURRENT).exists() && !other.join(&second).exists());
        let missing = format!("{:#}", pull(&"0".repeat(64), &url, &other).await.unwrap_err());
        assert!(missing.contains("has no bundle 0000"), "{missing}");
        let (wrong, nowhere) = (pull("abc", &url, &other).await, pull(&first, "ftp://x/y", &other).await);
        assert!(wrong.unwrap_err().to_string().contains("64 hexadecimal digits"));
        assert!(nowhere.unwrap_err().to_string().contains("allowed s3://"));
    }
}
