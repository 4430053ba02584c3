//! One answer of a model: asked for, read, checked sentence by sentence, and paid.

use std::collections::VecDeque;

use tokio::sync::mpsc::Sender;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::answer::{Answer, Request, Usage};
use crate::chat::{self, Reply};
use crate::ground::{Checked, Grounder};
use crate::leak::Watch;
use crate::prompt;
use crate::served::Served;
use crate::transport::Failure;
use crate::write::{Error, Event, TOKEN_BYTES, Writer, close, span, usage};

/// One answer of a model on its way.
pub(crate) struct Attempt<'a> {
    writer: &'a Writer,
    model: &'a Served,
    /// How many others can be asked after it.
    others: usize,
    /// With what those before it cost.
    pub(crate) answer: Answer,
    /// What it has spent itself.
    usage: Usage,
    /// Sentences that are checked, each with how much the watch had taken: the words after them may still
    /// show that they began to give the prompt away.
    held: VecDeque<(usize, Checked)>,
    events: &'a Sender<Event>,
}

impl<'a> Attempt<'a> {
    pub(crate) fn new(
        writer: &'a Writer,
        model: &'a Served,
        others: usize,
        answer: Answer,
        events: &'a Sender<Event>,
    ) -> Self {
        Self { writer, model, others, answer, usage: Usage::default(), held: VecDeque::new(), events }
    }

    /// Runs in a span of the GenAI semantic conventions.
    pub(crate) async fn traced(&mut self, request: &Request, end: Option<Instant>) -> Result<(), Error> {
        let (asked, start) = (self.model.chat.name(), Instant::now());
        let span = span(asked, self.model.chat.max_tokens());
        let outcome = self.run(request, self.until(start, end)).instrument(span.clone()).await;
        let failed = outcome.as_ref().err().map(Error::reason);
        close(&span, (asked, start), &self.answer.model, self.usage, failed);
        outcome
    }

    /// As long as it may take, and where others can be asked half of what is left until `end`.
    fn until(&self, now: Instant, end: Option<Instant>) -> Instant {
        let own = now + self.model.chat.timeout();
        let Some(end) = end else { return own };
        let left = end.saturating_duration_since(now);
        own.min(now + if self.others > 0 { left / 2 } else { left })
    }

    async fn run(&mut self, request: &Request, end: Instant) -> Result<(), Error> {
        let (Writer { config, canaries, prompt, .. }, chat) = (self.writer, &self.model.chat);
        let canary = canaries.fresh();
        let mark = if config.datamark { prompt::free_mark(&request.passages) } else { None };
        let text = prompt.render(request, mark, &canary)?;
        let tokens = text.len() as u64 / TOKEN_BYTES + chat.max_tokens();
        self.model.admit(tokens).map_err(|closed| Failure::from(chat::Error::Closed(closed)))?;
        let outcome = self.hear(request, &text, &canary, mark, end).await;
        match &outcome {
            Ok(()) | Err(Error::Leak | Error::Prompt(_)) => self.model.succeeded(),
            Err(Error::Chat(failure)) => self.model.failed(failure),
        }
        outcome
    }

    async fn hear(
        &mut self,
        request: &Request,
        text: &str,
        canary: &str,
        mark: Option<char>,
        end: Instant,
    ) -> Result<(), Error> {
        let (Writer { config, prompt, judge, .. }, chat) = (self.writer, &self.model.chat);
        let mut watch = Watch::new(canary, prompt.instructions(), request.texts().collect());
        let opened = chat.open(text, self.others == 0, end).await;
        if let Err(Failure { error: chat::Error::Timeout | chat::Error::Broken(_), .. }) = &opened {
            // A server that took the prompt and then fell silent may have read it.
            self.spend(usage(None, text, "", chat.max_tokens()));
        }
        let mut reply = opened?;
        let mut grounder = Grounder::new(judge, request, config.sentence_threshold);
        let read = self.read(&mut reply, mark, &mut grounder, &mut watch).await;
        // Tokens are spent whether the answer is used or not.
        self.spend(usage(reply.usage, text, grounder.text(), chat.max_tokens()));
        self.answer.unsupported = grounder.unsupported();
        self.answer.judge = config.judge();
        self.answer.model = reply.model.take().unwrap_or_else(|| chat.name().to_owned());
        self.answer.prompt_version = prompt.version().to_owned();
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
        self.usage = usage;
        self.answer.usage.add(usage);
        let (cost_usd, prices) = self.model.bill(usage);
        self.answer.cost_usd += cost_usd;
        match self.answer.prices.as_str() {
            "" => self.answer.prices = prices,
            before if prices.is_empty() || before.contains(&prices) => {}
            before => self.answer.prices = format!("{before}, {prices}"),
        }
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
