//! Log lines for machines: one JSON object each, with the trace and the turn that the line belongs to.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent};
use tracing_subscriber::registry::LookupSpan;

use crate::call::Call;

/// The usual format, with `trace_id` and `turn_id` first where the line is of a call.
pub(crate) struct InCall(pub(crate) Format<Json>);

impl<S> FormatEvent<S, JsonFields> for InCall
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let Some((call, rest)) = Call::served().zip(line.strip_prefix('{')) else {
            return writer.write_str(&line);
        };
        write!(writer, "{{\"trace_id\":\"{}\",", call.trace_id())?;
        if let Some(turn_id) = call.turn_id() {
            write!(writer, "\"turn_id\":\"{turn_id}\",")?;
        }
        writer.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::{format, layer};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_line_of_a_call_says_its_trace_and_its_turn_and_another_one_neither() {
        let (lines, known) = (Lines::default(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let writer = lines.clone();
        let json = layer().json().with_writer(move || writer.clone());
        let json = json.event_format(InCall(format().json().flatten_event(true)));
        let _current = tracing::subscriber::set_default(tracing_subscriber::registry().with(json));
        tracing::warn!("outside");
        let call = Call::resume(known).of_turn("t_01a2239a540274fca6626ae0900fdfea");
        call.scope(async { tracing::warn!(stage = "safety", "inside") }).await;
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((lines[0].get("trace_id"), lines[0].get("turn_id")), (None, None));
        assert_eq!(lines[1]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(lines[1]["turn_id"], "t_01a2239a540274fca6626ae0900fdfea");
        assert_eq!((&lines[1]["stage"], &lines[1]["message"]), (&"safety".into(), &"inside".into()));
    }
}
