//! Which articles answer something and which questions none answers, asked as a turn asks: with the title of
//! the intent in the query, public articles only, and answers of the articles' own sentences.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bundle::{Audience, Intent, Place, Question, Reader};
use encoder::Encoder;
use generator::answer::{Answer, Passage, Request};
use generator::config::Provider;
use generator::prompt::Prompt;
use generator::write::{Event, Writer};
use jiff::civil::Date;
use kit::config::Settings;
use orchestrator::Curated;
use retriever::{Query, Retriever};

/// A public article and how often it served.
pub(crate) struct Article {
    pub(crate) id: String,
    pub(crate) place: Place,
    /// Questions that have it among the first passages.
    pub(crate) found: usize,
    /// Questions answered with it.
    pub(crate) cited: usize,
}

/// An intent whose examples the articles should answer.
pub(crate) struct Asked {
    pub(crate) intent: String,
    pub(crate) place: Place,
    /// Examples asked.
    pub(crate) examples: usize,
    /// Those that no article answers.
    pub(crate) unanswered: Vec<String>,
}

/// A golden question that must be answered, and is not.
pub(crate) struct Lost {
    pub(crate) question: Question,
    /// Those of its documents that are among the first passages.
    pub(crate) found: Vec<String>,
}

/// How articles and questions fit together.
pub(crate) struct Coverage {
    pub(crate) articles: Vec<Article>,
    pub(crate) intents: Vec<Asked>,
    pub(crate) questions: Vec<Lost>,
    /// Internal articles, which no customer reads.
    pub(crate) internal: usize,
}

/// What becomes of a question: documents among the first passages, and those an answer cites.
struct Reply {
    found: BTreeSet<String>,
    cited: BTreeSet<String>,
}

/// The stages that answer from articles.
struct Stages {
    retriever: Retriever,
    encoder: Option<Arc<Encoder>>,
    writer: Writer,
    passages: usize,
}

impl Stages {
    fn open(reader: &Reader, encoder: Option<&Arc<Encoder>>, settings: &Settings) -> anyhow::Result<Self> {
        let encoder = encoder.cloned();
        let retriever = Retriever::open(reader, encoder.clone(), &settings.table("retriever")?)?;
        // The same answers every time, and without a model's price.
        let config = generator::Config { provider: Provider::Extractive, ..settings.table("generator")? };
        let writer = Writer::new(config, Prompt::new(&reader.assistant()?.title, None)?)?;
        let passages = settings.table::<orchestrator::Config>("orchestrator")?.passages as usize;
        Ok(Self { retriever, encoder, writer, passages })
    }

    async fn ask(&self, text: &str, intent: Option<&Intent>) -> anyhow::Result<Reply> {
        let (title, category) =
            intent.map_or(("", ""), |intent| (intent.title.as_str(), intent.category.as_str()));
        let query = format!("{text} {title}");
        let meaning = self.encoder.as_ref().map(|encoder| encoder.embed(text)).transpose()?;
        let vector = self.encoder.as_ref().zip(meaning.as_ref());
        let query = Query {
            text: query.trim_end(),
            vector: vector.map(|(encoder, vector)| (encoder.id(), vector.as_slice())),
            audience: Audience::Public,
            category,
            k: self.passages,
        };
        let passages = self.retriever.search(&query)?.passages.into_iter().map(|(score, passage)| Passage {
            document_id: passage.document,
            document_version: passage.version,
            title: passage.title,
            heading: passage.heading,
            text: passage.text,
            score: f64::from(score),
        });
        let request =
            Request { question: text.to_owned(), passages: passages.collect(), ..Request::default() };
        let answer = self.answer(&request).await;
        let id = |passage: &Passage| passage.document_id.clone();
        let cited = answer.citations.iter().filter_map(|citation| request.passages.get(citation.passage));
        Ok(Reply { found: request.passages.iter().map(id).collect(), cited: cited.map(id).collect() })
    }

    async fn answer(&self, request: &Request) -> Answer {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let last = async {
            loop {
                match receiver.recv().await {
                    Some(Event::Final(answer)) => return *answer,
                    Some(Event::Delta { .. }) => {}
                    None => return Answer::default(),
                }
            }
        };
        tokio::join!(self.writer.write(request, None, &sender), last).1
    }
}

/// Asks all examples and golden questions of a bundle whose index is built. Approved answers that have
/// expired on `today` count for nothing. `progress` is told how many of how many are asked.
pub(crate) async fn survey(
    reader: &Reader,
    encoder: Option<&Arc<Encoder>>,
    settings: &Settings,
    today: Date,
    progress: &dyn Fn(u64, u64),
) -> anyhow::Result<Coverage> {
    let stages = Stages::open(reader, encoder, settings)?;
    let intents = reader.intents()?;
    let has_questions = reader.root().join(bundle::QUESTIONS).exists();
    let questions = if has_questions { reader.questions(None)? } else { Vec::new() };
    let mut curated = reader.curated()?;
    curated.retain(|answer| today <= answer.expires);
    let approved = Curated::read(reader)?;
    let is_approved = |text: &str, intent: Option<&Intent>| {
        approved.find(text, intent.map(|intent| intent.name.as_str()), today).is_some()
    };
    let acting: BTreeSet<_> = reader.workflows()?.into_iter().flat_map(|workflow| workflow.intents).collect();
    let mut served = Served::default();
    served.cited(curated.iter().flat_map(|answer| &answer.documents));

    let total = intents.iter().map(|intent| intent.examples.len()).sum::<usize>() + questions.len();
    let mut done = 0;
    let mut step = || {
        progress(done, total as u64);
        done += 1;
    };
    let mut asked = Vec::new();
    for intent in &intents {
        let (mut examples, mut unanswered) = (0, Vec::new());
        for text in &intent.examples {
            step();
            let reply = stages.ask(text, Some(intent)).await?;
            if !acting.contains(&intent.name) && !intent.handoff && !is_approved(text, Some(intent)) {
                examples += 1;
                unanswered.extend(reply.cited.is_empty().then(|| text.clone()));
            }
            served.add(&reply);
        }
        asked.push(Asked { intent: intent.name.clone(), place: intent.place.clone(), examples, unanswered });
    }
    let mut lost = Vec::new();
    for question in questions {
        step();
        let intent = question.intents.first().and_then(|name| intents.iter().find(|one| one.name == *name));
        let reply = stages.ask(&question.text, intent).await?;
        let is_answerable = question.outcomes == ["ANSWERED"] && !is_approved(&question.text, intent);
        if is_answerable && reply.cited.is_empty() {
            let found = question.documents.iter().filter(|id| reply.found.contains(*id)).cloned().collect();
            lost.push(Lost { question, found });
        }
        served.add(&reply);
    }
    let (articles, internal) = served.articles(reader)?;
    Ok(Coverage { articles, intents: asked, questions: lost, internal })
}

/// How often each document was found and cited.
#[derive(Default)]
struct Served(BTreeMap<String, (usize, usize)>);

impl Served {
    fn add(&mut self, reply: &Reply) {
        reply.found.iter().for_each(|id| self.0.entry(id.clone()).or_default().0 += 1);
        self.cited(&reply.cited);
    }

    fn cited<'a>(&mut self, ids: impl IntoIterator<Item = &'a String>) {
        ids.into_iter().for_each(|id| self.0.entry(id.clone()).or_default().1 += 1);
    }

    /// The public articles, and how many are internal.
    fn articles(&self, reader: &Reader) -> anyhow::Result<(Vec<Article>, usize)> {
        let documents = reader.placed_knowledge()?;
        let all = documents.len();
        let public = documents.into_iter().filter(|(_, document)| document.audience == Audience::Public);
        let articles: Vec<_> = public
            .map(|(place, document)| {
                let (found, cited) = self.0.get(&document.id).copied().unwrap_or_default();
                Article { id: document.id, place, found, cited }
            })
            .collect();
        let internal = all - articles.len();
        Ok((articles, internal))
    }
}
