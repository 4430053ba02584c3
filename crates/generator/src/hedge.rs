//! A second model is asked when the first one has shown nothing for a while; whoever shows something first goes on, and the
//! other one is not waited for (hedged requests: Dean and Barroso, "The tail at scale", 2013).

use std::pin::pin;

use tokio::sync::mpsc::{self, Sender};
use tokio::time::{Instant, sleep};

use crate::answer::{Answer, Call, Usage};
use crate::attempt::Attempt;
use crate::pack::Packed;
use crate::served::Served;
use crate::write::{Error, Event, Writer};

/// Events written ahead of the reader.
const AHEAD: usize = 16;

/// What came of asking: the answer with its calls, and why it is none.
pub(crate) type Came = (Answer, Result<(), Error>);

impl Writer {
    /// Asks the first of two models, and the second one too when that has shown nothing for so long; returns who it was
    /// whose answer, or failure, counts. A prompt of so many `tokens` is paid of whoever is not waited for.
    pub(crate) async fn hedged(
        &self,
        [first, second]: [&Served; 2],
        others: usize,
        (packed, tokens, end): (&Packed, u64, Option<Instant>),
        events: &Sender<Event>,
    ) -> (usize, Came) {
        let ((shows, mut shown), (shows_too, mut shown_too)) = (mpsc::channel(AHEAD), mpsc::channel(AHEAD));
        let mut one = pin!(self.attempt(first, others, packed, end, &shows));
        let patience = sleep(std::time::Duration::from_millis(self.config.hedge_after_ms));
        tokio::select! {
            biased;
            came = &mut one => return (0, pass_on(came, &mut shown, events).await),
            Some(event) = shown.recv() => return (0, follow(one, event, &mut shown, events).await),
            () = patience => {}
        }
        let mut other = pin!(self.attempt(second, others.saturating_sub(1), packed, end, &shows_too));
        let (place, (mut answer, outcome), unheard) = tokio::select! {
            biased;
            Some(event) = shown.recv() => (0, follow(one, event, &mut shown, events).await, second),
            Some(event) = shown_too.recv() => (1, follow(other, event, &mut shown_too, events).await, first),
            // Who fails first leaves it to the other.
            came = &mut one => match came {
                (_, Ok(())) => (0, pass_on(came, &mut shown, events).await, second),
                (failed, _) => (1, after(failed, other.await, &mut shown_too, events).await, first),
            },
            came = &mut other => match came {
                (_, Ok(())) => (1, pass_on(came, &mut shown_too, events).await, first),
                (failed, _) => (0, after(failed, one.await, &mut shown, events).await, second),
            },
        };
        if answer.calls.iter().all(|call| call.model != unheard.chat.name()) {
            let usage = Usage { input: tokens, ..Usage::default() };
            let (cost_usd, prices) = unheard.bill(usage);
            answer.calls.insert(0, Call { model: unheard.chat.name().to_owned(), usage, cost_usd, prices });
        }
        (place, (answer, outcome))
    }

    /// One model's answer.
    pub(crate) async fn attempt(
        &self,
        model: &Served,
        others: usize,
        packed: &Packed,
        end: Option<Instant>,
        events: &Sender<Event>,
    ) -> Came {
        let mut attempt = Attempt::new(self, model, others, events);
        let outcome = attempt.traced(packed, end).await;
        (attempt.answer, outcome)
    }
}

/// Goes on with who has shown something.
async fn follow(
    going: impl Future<Output = Came>,
    first: Event,
    shown: &mut mpsc::Receiver<Event>,
    events: &Sender<Event>,
) -> Came {
    let mut going = pin!(going);
    let _ = events.send(first).await;
    loop {
        tokio::select! {
            biased;
            Some(event) = shown.recv() => drop(events.send(event).await),
            came = &mut going => return pass_on(came, shown, events).await,
        }
    }
}

/// Shows what is left of who has ended.
async fn pass_on(came: Came, shown: &mut mpsc::Receiver<Event>, events: &Sender<Event>) -> Came {
    while let Ok(event) = shown.try_recv() {
        let _ = events.send(event).await;
    }
    came
}

/// What the other one had after one failed, which is paid too.
async fn after(
    failed: Answer,
    (mut answer, outcome): Came,
    shown: &mut mpsc::Receiver<Event>,
    events: &Sender<Event>,
) -> Came {
    answer.calls.splice(0..0, failed.calls);
    pass_on((answer, outcome), shown, events).await
}
