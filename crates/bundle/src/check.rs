//! What is checked across the parts of a bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::intents::Utterances;
use crate::place::{line_of, nearest};
use crate::read::{Problem, Problems, Reader, finish};
use crate::types::*;
use crate::{intents, layout, menu, questions, rollout, workflows};

/// Reads every part of a bundle and checks what refers to what. Returns a count by part, in words.
///
/// # Errors
/// All problems of all parts.
pub fn check(reader: &Reader) -> Result<Vec<(&'static str, usize)>, Problems> {
    let mut problems = layout::strangers(reader.root());
    fn keep<T: Default>(part: Result<T, Problems>, problems: &mut Vec<Problem>) -> T {
        part.unwrap_or_else(|found| {
            problems.extend(found.0);
            T::default()
        })
    }
    let assistant = reader.assistant();
    let Utterances { intents, out_of_scope } = match &assistant {
        Ok(assistant) => keep(intents::read(reader, assistant), &mut problems),
        Err(found) => {
            problems.extend(found.0.clone());
            Utterances::default()
        }
    };
    let (menu, rollout) = match &assistant {
        Ok(assistant) => {
            let menu = menu::read(reader, assistant).map(Option::unwrap_or_default);
            let rollout = rollout::read(reader, assistant, menu.as_ref().ok());
            (keep(menu, &mut problems), keep(rollout, &mut problems))
        }
        Err(_) => Default::default(),
    };
    let documents = keep(reader.knowledge(), &mut problems);
    let synonyms = keep(reader.synonyms(), &mut problems);
    let curated = keep(reader.curated(), &mut problems);
    let workflows = keep(workflows::workflows(reader), &mut problems);
    let prompts = keep(reader.prompts(), &mut problems);
    keep(reader.policy(), &mut problems);
    let lexicons = keep(reader.lexicons(), &mut problems);
    let guarded = keep(reader.safety_examples(), &mut problems);
    let asked = keep(questions::shipped(reader), &mut problems);
    if problems.is_empty() {
        problems.extend(questions::references(Path::new(layout::QUESTIONS), &asked, &intents, &documents));
        problems.extend(references(reader, &intents, &documents, &curated, &workflows));
    }
    let counts = vec![
        ("intents", intents.len()),
        ("examples", intents.iter().map(|intent| intent.examples.len()).sum()),
        ("out of scope examples", out_of_scope.len()),
        ("documents", documents.len()),
        ("synonyms", synonyms.len()),
        ("curated answers", curated.len()),
        ("workflows", workflows.len()),
        ("prompts", prompts.len()),
        ("lexicons", lexicons.len()),
        ("safety examples", guarded.len()),
        ("questions", asked.len()),
        ("menu entries", menu.entries.len()),
        ("rollout stages", rollout.map_or(0, |plan| plan.stages.len())),
    ];
    finish(counts, problems)
}

fn references(
    reader: &Reader,
    intents: &[Intent],
    documents: &[Document],
    curated: &[Curated],
    workflows: &[(PathBuf, Workflow)],
) -> Vec<Problem> {
    let names: BTreeMap<_, _> = intents.iter().map(|intent| (intent.name.as_str(), intent.handoff)).collect();
    let mut problems = curated_references(reader, &names, documents, curated);
    let mut proposed = BTreeMap::new();
    for (file, workflow) in workflows {
        let mut refuse = |intent: &str, message: String| {
            let line = reader.text(file).map_or(0, |text| line_of(&text, &["intents", intent]));
            problems.push(Problem::new(file, line, message));
        };
        for intent in &workflow.intents {
            if let Some(problem) = unserved(intent, &names) {
                refuse(intent, problem);
            }
            if let Some(other) = proposed.insert(intent, &workflow.name) {
                let message =
                    format!("intent {intent:?} already proposes {other:?}, allowed one workflow an intent");
                refuse(intent, message);
            }
        }
    }
    problems
}

fn curated_references(
    reader: &Reader,
    names: &BTreeMap<&str, bool>,
    documents: &[Document],
    curated: &[Curated],
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let audiences: BTreeMap<_, _> =
        documents.iter().map(|document| (document.id.as_str(), document.audience)).collect();
    let text = reader.text(Path::new("curated.toml")).unwrap_or_default();
    let mut refuse = |path: [&str; 3], what: String| {
        let line = line_of(&text, &["answer", path[0], path[1], path[2]]);
        problems.push(Problem::new("curated.toml", line, format!("answer {:?}: {what}", path[0])));
    };
    for answer in curated {
        for id in &answer.documents {
            let message = match audiences.get(id.as_str()) {
                Some(Audience::Public) => continue,
                Some(Audience::Internal) => format!("document {id:?} is internal, allowed public ones"),
                None => no_name("document", id, audiences.keys().copied(), "the id of one in knowledge/"),
            };
            refuse([&answer.id, "documents", id], message);
        }
        for intent in &answer.intents {
            if let Some(problem) = unserved(intent, names) {
                refuse([&answer.id, "intents", intent], problem);
            }
        }
    }
    problems
}

/// Why an answer or a workflow would never serve an intent; `names` says of each whether a person takes it.
fn unserved(written: &str, names: &BTreeMap<&str, bool>) -> Option<String> {
    match names.get(written) {
        Some(false) => None,
        Some(true) => {
            Some(format!("intent {written:?} has handoff = true, allowed one that a person does not take"))
        }
        None => Some(no_name("intent", written, names.keys().copied(), "the name of one in intents/")),
    }
}

pub(crate) fn no_name<'n>(
    what: &str,
    written: &str,
    known: impl Iterator<Item = &'n str>,
    allowed: &str,
) -> String {
    let such_as = nearest(written, known).map(|name| format!(", such as {name:?}")).unwrap_or_default();
    format!("{what} {written:?} does not exist, allowed {allowed}{such_as}")
}
