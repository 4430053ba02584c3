//! What is done after a turn and for nobody who waits: unseen answers, judging those that were read, and comparing those
//! that were known.

use std::sync::Arc;

use futures::StreamExt as _;
use proto::{Message, Outcome, Turn};
use sql::{Connection, Result, values};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::draft::Draft;
use crate::judged::Judging;
use crate::recheck::Recheck;
use crate::turn::Orchestrator;
use crate::unseen::Unseen;

/// What waits to be done; what is beyond is left out, since nobody waits for it.
const WAITING: usize = 64;
/// Done at the same time: customers have the machine.
const PARALLEL: usize = 2;

/// One of them.
#[derive(Debug)]
pub(crate) enum Later {
    Unseen(Box<Unseen>),
    Judging(Box<Judging>),
    Recheck(Box<Recheck>),
}

impl Later {
    /// What is to be done after a turn, if anything.
    pub(crate) fn of(draft: &Draft<'_>, message: Message) -> Option<Self> {
        let recheck = Recheck::of(draft).map(|recheck| Self::Recheck(Box::new(recheck)));
        let judging = || Judging::of(draft, &message.text).map(|judging| Self::Judging(Box::new(judging)));
        recheck
            .or_else(judging)
            .or_else(|| Unseen::of(draft, message).map(|unseen| Self::Unseen(Box::new(unseen))))
    }
}

pub(crate) fn queue() -> (mpsc::Sender<Later>, mpsc::Receiver<Later>) {
    mpsc::channel(WAITING)
}

/// Does what comes, until shutdown; then what was begun is ended, since it is paid for.
pub(crate) async fn run(
    orchestrator: Arc<Orchestrator>,
    queue: mpsc::Receiver<Later>,
    shutdown: CancellationToken,
) {
    let coming = ReceiverStream::new(queue).take_until(shutdown.cancelled());
    let work = |later| async {
        let done = match later {
            Later::Unseen(unseen) => orchestrator.answer_unseen(*unseen).await,
            Later::Judging(judging) => orchestrator.judge(*judging).await,
            Later::Recheck(recheck) => orchestrator.recheck(*recheck).await,
        };
        match done {
            Ok(()) => orchestrator.spooled.notify_one(),
            Err(error) => tracing::warn!(%error, "an unseen answer, a judgement or a comparison is lost"),
        }
    };
    coming.for_each_concurrent(PARALLEL, work).await;
}

impl Orchestrator {
    /// Puts what is to be done after a turn into the queue, if the turn ended as it has to for that.
    pub(crate) fn do_later(&self, later: Option<Later>, turn: &Turn) {
        let wanted = |later: &Later| match later {
            Later::Unseen(_) => turn.outcome() == Outcome::Legacy,
            Later::Judging(_) | Later::Recheck(_) => turn.outcome() == Outcome::Answered,
        };
        if later.filter(wanted).is_some_and(|later| self.later.try_send(later).is_err()) {
            tracing::debug!("too much waits to be answered unseen, judged or compared");
        }
    }
}

/// Puts into the spool what is said of a conversation, unless that was forgotten meanwhile.
pub(crate) fn spool_of(
    connection: &mut Connection<'_>,
    conversation_id: &str,
    spool: impl FnOnce(&mut Connection<'_>) -> Result<()>,
) -> Result<()> {
    connection.lock(conversation_id)?;
    let known = "SELECT 1 FROM conversation WHERE conversation_id = $1";
    match connection.first(known, values![conversation_id], |_| Ok(()))? {
        Some(()) => spool(connection),
        None => Ok(()),
    }
}
