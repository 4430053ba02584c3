//! `firstline chat`: a conversation in the terminal.

use kit::config::Settings;
use proto::{Outcome, Turn};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::ask::Who;
use crate::cli::Target;
use crate::client::Assistant;
use crate::show;

/// Reads messages until the end of input; each answer shows one line a stage.
pub(crate) async fn chat(
    settings: Settings,
    target: Target,
    who: Who,
    as_json: bool,
) -> anyhow::Result<bool> {
    let bundle = settings.server()?.bundle;
    let assistant = Assistant::open(settings, &target).await?;
    if target.endpoint.is_none() && !as_json {
        let dir = crate::client::bundle_dir(&bundle, target.bundle.as_deref())?;
        let about = bundle::Reader::open(&dir)?.assistant()?;
        show::line(&format!("{}: {}", about.title, about.greeting));
    }
    if !as_json {
        show::line("Type a message; \"agent\" reaches a person, Ctrl-D ends the chat.\n");
    }
    let ended = Box::pin(converse(&assistant, &who, as_json)).await;
    assistant.close().await;
    ended.map(|()| true)
}

async fn converse(assistant: &Assistant, who: &Who, as_json: bool) -> anyhow::Result<()> {
    let mut editor = Some(DefaultEditor::new()?);
    let mut conversation_id = String::new();
    loop {
        // Reading blocks: it runs beside the runtime, so that the stages go on.
        let Some(mut reading) = editor.take() else { return Ok(()) };
        let (back, read) = tokio::task::spawn_blocking(move || {
            let read = reading.readline("> ");
            (reading, read)
        })
        .await?;
        editor = Some(back);
        let text = match read {
            Ok(text) if text.trim().is_empty() => continue,
            Ok(text) => text,
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if let Some(editor) = &mut editor {
            let _ = editor.add_history_entry(&text);
        }
        match assistant.ask(who.says(conversation_id.clone(), text)).await {
            Ok(turn) => {
                conversation_id.clone_from(&turn.conversation_id);
                if as_json {
                    show::line(&show::turn(&turn).to_string());
                } else {
                    show(&turn);
                }
            }
            Err(status) => eprintln!("  {}", crate::client::plain(&status)),
        }
    }
}

fn show(turn: &Turn) {
    show::line(&show::lines(turn));
    if turn.outcome() == Outcome::Handoff && turn.answer.is_empty() {
        show::line("  | (a person owns this conversation now; the bot is silent)");
    }
    show::line(&format!("  turn {}\n", turn.turn_id));
}
