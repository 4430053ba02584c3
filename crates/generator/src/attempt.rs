//! One answer of a model: asked for, read, checked sentence by sentence, and paid.

use std::collections::VecDeque;

use tokio::sync::mpsc::Sender;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::answer::{Answer, Call, Usage};
use crate::chat::{self, Reply};
use crate::ground::{Checked, Grounder};
use crate::leak::Watch;
use crate::pack::Packed;
use crate::prompt;
use crate::served::Served;
use crate::transport::Failure;
use crate::write::{Error, Event, Writer, close, span, usage};

/// One answer of a model on its way.
pub(crate) struct Attempt<'a> {
    writer: &'a Writer,
    model: &'a Served,
    /// How many others can be asked after it.
    others: usize,
    pub(crate) answer: Answer,
    /// Sentences that are checked, each with how much the watch had taken: the words after them may still
    /// show that they began to give the prompt away.
    held: VecDeque<(usize, Checked)>,
    events: &'a Sender<Event>,
}

/// What a model is asked, in words.
struct Asked<'p> {
    packed: &'p Packed,
    text: String,
    canary: String,
    mark: Option<char>,
    max_tokens: u32,
    end: Instant,
}

impl<'a> Attempt<'a> {
    pub(crate) fn new(
        writer: &'a Writer,
        model: &'a Served,
        others: usize,
        events: &'a Sender<Event>,
    ) -> Self {
        Self { writer, model, others, answer: Answer::default(), held: VecDeque::new(), events }
    }

    /// Runs in a span of the GenAI semantic conventions.
    pub(crate) async fn traced(&mut self, packed: &Packed, end: Option<Instant>) -> Result<(), Error> {
        let (asked, start) = (self.model.chat.name(), Instant::now());
        let max_tokens = self.max_tokens(packed);
        let span = span(asked, max_tokens.into());
        let outcome = self.run(packed, max_tokens, self.until(start, end)).instrument(span.clone()).await;
        let failed = outcome.as_ref().err().map(Error::reason);
        close(&span, (asked, start), &self.answer.model, self.answer.usage(), failed);
        outcome
    }

    /// As long as it may take, and where others can be asked half of what is left until `end`.
    fn until(&self, now: Instant, end: Option<Instant>) -> Instant {
        let own = now + self.model.chat.timeout();
        let Some(end) = end else { return own };
        let left = end.saturating_duration_since(now);
        own.min(now + if self.others > 0 { left / 2 } else { left })
    }

    /// Most tokens of an answer in the request's category.
    fn max_tokens(&self, packed: &Packed) -> u32 {
        let category = self.writer.config.categories.get(&packed.shown.category);
        let most = self.model.chat.max_tokens();
        category.and_then(|category| category.max_tokens).map_or(most, |own| own.min(most))
    }

    async fn run(&mut self, packed: &Packed, max_tokens: u32, end: Instant) -> Result<(), Error> {
        let Writer { config, canaries, prompt, .. } = self.writer;
        let canary = canaries.fresh();
        let mark = if config.datamark { prompt::free_mark(&packed.shown.passages) } else { None };
        let text = prompt.render(&packed.shown, mark, &canary)?;
        self.model.admit(&text, max_tokens).map_err(|closed| Failure::from(chat::Error::Closed(closed)))?;
        let outcome = self.hear(&Asked { packed, text, canary, mark, max_tokens, end }).await;
        match &outcome {
            Ok(()) | Err(Error::Leak | Error::Prompt(_) | Error::Spared) => self.model.succeeded(),
            Err(Error::Chat(failure)) => self.model.failed(failure),
        }
        outcome
    }

    async fn hear(&mut self, asked: &Asked<'_>) -> Result<(), Error> {
        let Asked { packed, text, canary, mark, max_tokens, end } = asked;
        let (Writer { config, prompt, judge, .. }, Served { chat, tokenizer, .. }) =
            (self.writer, self.model);
        let most = u64::from(*max_tokens);
        let mut watch = Watch::new(canary, prompt.instructions(), packed.shown.texts().collect());
        let opened = chat.open(text, *max_tokens, self.others == 0, *end).await;
        if let Err(Failure { error: chat::Error::Timeout | chat::Error::Broken(_), .. }) = &opened {
            // A server that took the prompt and then fell silent may have read it.
            self.spend(usage(None, (text, ""), most, tokenizer));
        }
        let mut reply = opened?;
        let mut grounder = Grounder::new(judge, &packed.whole, config.sentence_threshold);
        let read = self.read(&mut reply, *mark, &mut grounder, &mut watch).await;
        // Tokens are spent whether the answer is used or not.
        self.spend(usage(reply.usage, (text, grounder.text()), most, tokenizer));
        self.answer.unsupported = grounder.unsupported();
        self.answer.judge = config.judge();
        self.answer.model = reply.model.take().unwrap_or_else(|| chat.name().to_owned());
        self.answer.prompt_version = prompt.version().to_owned();
        for citation in &mut self.answer.citations {
            citation.passage = packed.origin.get(citation.passage).copied().unwrap_or(citation.passage);
        }
        if read.is_ok() {
            self.tell(reply.id.as_deref());
        }
        read
    }

    /// Tells how the answer's sentences were judged, where it has any.
    fn tell(&self, response_id: Option<&str>) {
        let Answer { statements, unsupported, judge, .. } = &self.answer;
        let claims = u32::try_from(statements.len()).unwrap_or(u32::MAX).saturating_add(*unsupported);
        if claims > 0 {
            let score = Some((claims, *unsupported));
            kit::Evaluation { judge, score, failed: None, response_id }.tell();
        }
    }

    fn spend(&mut self, usage: Usage) {
        let (cost_usd, prices) = self.model.bill(usage);
        let model = self.model.chat.name().to_owned();
        self.answer.calls.push(Call { model, usage, cost_usd, prices });
    }

    async fn read(
        &mut self,
        reply: &mut Reply,
        mark: Option<char>,
        grounder: &mut Grounder<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<(), Error> {
        while let Some(words) = reply.next().await.map_err(Failure::from)? {
            // A model that quotes a passage may quote its marks.
            let words = if let Some(mark) = mark { words.replace(mark, " ") } else { words };
            if watch.push(&words) {
                return Err(Error::Leak);
            }
            self.held.extend(grounder.push(&words).into_iter().map(|checked| (watch.taken(), checked)));
            while let Some((_, checked)) = self.held.pop_front_if(|(taken, _)| watch.is_past(*taken)) {
                self.take(checked).await;
            }
        }
        let last = grounder.finish(reply.is_whole());
        for checked in std::mem::take(&mut self.held).into_iter().map(|(_, checked)| checked).chain(last) {
            self.take(checked).await;
        }
        Ok(())
    }

    async fn take(&mut self, Checked { gap, mut statement, citation }: Checked) {
        if self.answer.statements.iter().any(|before| before.text == statement.text) {
            return;
        }
        let text = format!("{gap}{}", statement.text);
        self.answer.text.push_str(&text);
        let known = self.answer.citations.iter().position(|other| *other == citation);
        statement.citation = known.unwrap_or(self.answer.citations.len());
        if known.is_none() {
            self.answer.citations.push(citation);
        }
        self.answer.statements.push(statement);
        self.writer.send(self.events, text, false).await;
    }
}
