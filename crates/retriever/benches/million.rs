//! A bundle of a million passages: time to build its index, size, time of a search, memory.
//! `cargo bench -p retriever --bench million [-- PASSAGES]`.
#![expect(clippy::print_stdout, reason = "the figures are its output")]

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Context as _;
use bundle::{Audience, Document, Reader};
use retriever::{Config, Query, Retriever};

const PASSAGES: usize = 1_000_000;
const WORDS_A_PASSAGE: usize = 60;
const WORDS_A_TITLE: usize = 4;
const VOCABULARY: usize = 200_000;
/// The n-th word is drawn with weight 1 / (n + this): a text without its stop words, whose commonest word is in
/// every eighth passage.
const FLATTENED: f64 = 50.0;
const QUERIES: usize = 2_000;
const WORDS_A_QUERY: usize = 6;
const CATEGORIES: usize = 10;
/// Ranks of words that stand for one another, the first in one passage of 25.
const SYNONYMS: [usize; 3] = [100, 1_000, 10_000];
const SYLLABLES: [&str; 20] = [
    "ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "qui", "ro", "su", "ta", "ve",
    "wi", "xo", "zu",
];

/// Splitmix64 (Steele, Lea and Flood, 2014): the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// The rank of a word: the distribution of Zipf and Mandelbrot, inverted.
    fn word(&mut self) -> usize {
        let share = self.next() as f64 / u64::MAX as f64;
        let rank = FLATTENED * ((VOCABULARY as f64 + FLATTENED) / FLATTENED).powf(share) - FLATTENED;
        (rank as usize).min(VOCABULARY - 1)
    }

    fn words(&mut self, count: usize) -> String {
        (0..count).map(|_| spell(self.word())).collect::<Vec<_>>().join(" ")
    }
}

/// Three syllables or more, another for every rank.
fn spell(rank: usize) -> String {
    let (mut rest, mut word) = (rank + SYLLABLES.len().pow(2), String::new());
    while rest > 0 {
        word.push_str(SYLLABLES[rest % SYLLABLES.len()]);
        rest /= SYLLABLES.len();
    }
    word + "k"
}

/// One passage each; every hundredth is internal.
fn document(index: usize) -> Document {
    let mut random = Random(index as u64);
    Document {
        id: format!("d{index}"),
        title: random.words(WORDS_A_TITLE),
        content: random.words(WORDS_A_PASSAGE),
        audience: if index.is_multiple_of(100) { Audience::Internal } else { Audience::Public },
        tags: vec![format!("c{}", index % CATEGORIES)],
    }
}

fn write(root: &Path, passages: usize) -> anyhow::Result<()> {
    std::fs::create_dir_all(root.join("knowledge"))?;
    std::fs::write(root.join("assistant.toml"), "schema = 1\n")?;
    let words = SYNONYMS.map(|rank| format!("{:?}", spell(rank))).join(", ");
    std::fs::write(root.join("knowledge/synonyms.toml"), format!("[[synonym]]\nwords = [{words}]\n"))?;
    let mut file = BufWriter::new(File::create(root.join("knowledge/all.jsonl"))?);
    for index in 0..passages {
        serde_json::to_writer(&mut file, &document(index))?;
        file.write_all(b"\n")?;
    }
    Ok(file.flush()?)
}

/// Some of the words of a passage, as a customer asks with the words of an article; with `misspelt` letters of
/// the first exchanged for one that no word has.
fn question(random: &mut Random, passages: usize, misspelt: usize) -> String {
    let content = document(random.below(passages)).content;
    let words: Vec<&str> = content.split(' ').collect();
    let mut chosen: Vec<String> =
        (0..WORDS_A_QUERY).map(|_| words[random.below(words.len())].to_owned()).collect();
    for at in 0..misspelt {
        chosen[0].replace_range(1 + 2 * at..2 + 2 * at, "y");
    }
    chosen.join(" ")
}

/// Memory of the process by a name in its status file; Linux only.
fn mib(name: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or_else(|| "unknown".to_owned(), |kib| format!("{} MiB", kib >> 10))
}

/// The searches, in a process that has built nothing.
fn search(root: &Path, passages: usize) -> anyhow::Result<()> {
    let retriever = Retriever::open(&Reader::open(root)?, None, &Config::default())?;
    anyhow::ensure!(retriever.state().passages == passages as u64, "passages are missing");
    println!(
        "| {QUERIES} searches of {WORDS_A_QUERY} words | p50 ms | p95 ms | p99 ms | found |\n|---|---|---|---|---|"
    );
    for (name, audience, category, misspelt) in [
        ("all passages", Audience::Internal, "", 0),
        ("public", Audience::Public, "", 0),
        ("public, a category", Audience::Public, "c3", 0),
        ("public, a letter wrong", Audience::Public, "", 1),
        ("public, two letters wrong", Audience::Public, "", 2),
        ("public, and a word with synonyms", Audience::Public, "", 0),
    ] {
        let mut random = Random(PASSAGES as u64);
        let (mut times, mut found) = (Vec::with_capacity(QUERIES), 0);
        for _ in 0..QUERIES {
            let mut text = question(&mut random, passages, misspelt);
            if name.ends_with("synonyms") {
                text = format!("{text} {}", spell(SYNONYMS[0]));
            }
            let begin = Instant::now();
            found += retriever
                .search(&Query { text: &text, vector: None, audience, category, k: 10 })?
                .passages
                .len();
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        let at = |share| stats::percentile(&times, share).unwrap_or(f64::NAN);
        println!("| {name} | {:.1} | {:.1} | {:.1} | {found} |", at(0.5), at(0.95), at(0.99));
    }
    println!("resident after them: {}, of which not the mapped index: {}", mib("VmRSS"), mib("RssAnon"));
    Ok(())
}

fn bytes(folder: &Path) -> anyhow::Result<u64> {
    std::fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [mode, root, passages] = arguments.as_slice()
        && mode == "search"
    {
        return search(Path::new(root), passages.parse()?);
    }
    let passages = arguments.first().map_or(Ok(PASSAGES), |count| count.parse())?;
    let root = tempfile::tempdir()?;
    write(root.path(), passages)?;
    let reader = Reader::open(root.path())?;
    let begin = Instant::now();
    let built = retriever::build(&reader, None, &|_, _| {})?;
    let (seconds, mib) = (begin.elapsed().as_secs_f64(), bytes(&built.path)? >> 20);
    println!("| passages | build s | index MiB |\n|---|---|---|\n| {passages} | {seconds:.0} | {mib} |\n");
    let mut child = Command::new(std::env::current_exe()?);
    let status = child.arg("search").arg(root.path()).arg(passages.to_string()).status();
    anyhow::ensure!(status.context("the searches did not start")?.success(), "the searches failed");
    Ok(())
}
