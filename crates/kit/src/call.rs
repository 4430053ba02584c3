//! What travels with a call and is in no message: its deadline, its trace (W3C Trace Context) and its turn.

use std::future::Future;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

tokio::task_local! {
    static CURRENT: Call;
}

const GRPC_TIMEOUT: &str = "grpc-timeout";
const TRACEPARENT: &str = "traceparent";
const TURN: &str = "firstline-turn-id";
const TURN_PREFIX: &str = "t_";

/// The call being served.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    deadline: Option<Instant>,
    trace_id: u128,
    span_id: u64,
    sampled: bool,
    /// Whether anyone but this process knows of the trace: its caller, or the collector of its spans.
    known: bool,
    /// The turn that it is a part of, the number in its id.
    turn: Option<u128>,
}

impl Call {
    /// The call this task serves, or a new one without a deadline.
    pub fn current() -> Self {
        CURRENT.try_with(|call| *call).unwrap_or_else(|_| Self::root())
    }

    /// A call that nobody made: its own trace, no deadline.
    pub fn root() -> Self {
        let id = uuid::Uuid::new_v4().as_u128();
        let span_id = (id >> 32) as u64 | 1;
        Self { deadline: None, trace_id: id, span_id, sampled: false, known: false, turn: None }
    }

    /// Runs a future as part of this call; needed where a handler spawns.
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }

    /// W3C trace id, 32 lower-case hexadecimal digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// The trace context to keep with work that is done later: W3C `traceparent`.
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }

    /// A call without a deadline in the trace of earlier work; a new trace when the text is malformed.
    pub fn resume(traceparent: &str) -> Self {
        let parsed = parse_traceparent(traceparent);
        parsed.map_or_else(Self::root, |(trace_id, span_id, sampled)| Self {
            deadline: None,
            trace_id,
            span_id,
            sampled,
            known: true,
            turn: None,
        })
    }

    /// The call that this task serves, if it serves one.
    pub(crate) fn served() -> Option<Self> {
        CURRENT.try_with(|call| *call).ok()
    }

    /// The same call as a part of a turn, which the log lines of every stage then say.
    #[must_use]
    pub fn of_turn(self, turn_id: &str) -> Self {
        Self { turn: parse_turn(turn_id), ..self }
    }

    /// Id of the turn that it is a part of.
    pub(crate) fn turn_id(&self) -> Option<String> {
        self.turn.map(|number| format!("{TURN_PREFIX}{number:032x}"))
    }

    /// When the caller stops waiting.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The same call without a deadline: for work that outlives its caller.
    pub fn detached(self) -> Self {
        Self { deadline: None, ..self }
    }

    /// The same call, ending at the earlier of its deadline and `budget` from now.
    pub fn within(self, budget: Duration) -> Self {
        let end = Instant::now() + budget;
        Self { deadline: Some(self.deadline.map_or(end, |deadline| deadline.min(end))), ..self }
    }

    pub(crate) fn with_span(self, span: &opentelemetry::trace::SpanContext) -> Self {
        Self {
            trace_id: u128::from_be_bytes(span.trace_id().to_bytes()),
            span_id: u64::from_be_bytes(span.span_id().to_bytes()),
            sampled: span.is_sampled(),
            known: true,
            ..self
        }
    }

    /// Reads `grpc-timeout` and `traceparent`; what is malformed counts as absent, as both specs ask.
    pub(crate) fn extract(headers: &HeaderMap) -> (Self, bool) {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let deadline = text(GRPC_TIMEOUT).and_then(parse_timeout).map(|left| Instant::now() + left);
        let turn = text(TURN).and_then(parse_turn);
        match text(TRACEPARENT).and_then(parse_traceparent) {
            Some((trace_id, span_id, sampled)) => {
                (Self { deadline, trace_id, span_id, sampled, known: true, turn }, true)
            }
            None => (Self { deadline, turn, ..Self::root() }, false),
        }
    }

    /// Writes the headers; the request's own shorter timeout wins. `None` when no time is left.
    pub(crate) fn inject(self, headers: &mut HeaderMap) -> Option<Option<Instant>> {
        let own = headers.get(GRPC_TIMEOUT).and_then(|value| value.to_str().ok()).and_then(parse_timeout);
        let call = own.map_or(self, |budget| self.within(budget));
        if let Some(deadline) = call.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            headers.insert(GRPC_TIMEOUT, format_timeout(left).parse().ok()?);
        }
        // A trace that nobody else knows would only tell the next hop not to record its own.
        if call.known {
            headers.insert(TRACEPARENT, call.traceparent().parse().ok()?);
        }
        if let Some(turn) = call.turn_id() {
            headers.insert(TURN, turn.parse().ok()?);
        }
        Some(call.deadline)
    }

    pub(crate) fn remote(&self) -> opentelemetry::trace::SpanContext {
        use opentelemetry::trace::{SpanContext, TraceFlags, TraceState};
        let flags = if self.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        let (trace, span) = (self.trace_id.into(), self.span_id.into());
        SpanContext::new(trace, span, flags, true, TraceState::NONE)
    }
}

/// `grpc-timeout` of the gRPC wire format: at most eight digits and a unit.
fn parse_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

fn format_timeout(left: Duration) -> String {
    const EIGHT_DIGITS: u128 = 100_000_000;
    match left.as_micros() {
        micros if micros < EIGHT_DIGITS => format!("{}u", micros.max(1)),
        _ if left.as_millis() < EIGHT_DIGITS => format!("{}m", left.as_millis()),
        _ => format!("{}S", left.as_secs().min(99_999_999)),
    }
}

fn parse_turn(id: &str) -> Option<u128> {
    let digits = id.strip_prefix(TURN_PREFIX).filter(|digits| digits.len() == 32)?;
    u128::from_str_radix(digits, 16).ok()
}

fn parse_traceparent(value: &str) -> Option<(u128, u64, bool)> {
    let mut parts = value.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version.len() != 2 || version == "ff" || trace.len() != 32 || span.len() != 16 || flags.len() != 2 {
        return None;
    }
    let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
    let flags = u8::from_str_radix(flags, 16).ok()?;
    (trace != 0 && span != 0).then_some((trace, span, flags & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hop_sees_what_is_left_and_an_expired_call_is_not_made() {
        let known = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let turn = "t_01a2239a540274fca6626ae0900fdfea";
        let call = Call::resume(known).within(Duration::from_millis(300)).of_turn(turn);
        tokio::time::advance(Duration::from_millis(100)).await;
        let mut headers = HeaderMap::new();
        assert!(call.inject(&mut headers).is_some());
        let (seen, inbound) = Call::extract(&headers);
        assert!(inbound);
        assert_eq!(seen.trace_id(), call.trace_id());
        assert_eq!(seen.deadline(), call.deadline());
        assert_eq!(seen.turn_id().as_deref(), Some(turn));
        tokio::time::advance(Duration::from_millis(200)).await;
        assert!(call.inject(&mut HeaderMap::new()).is_none());
        let mut headers = HeaderMap::new();
        assert!(Call::root().inject(&mut headers).is_some());
        assert!(headers.is_empty(), "a trace nobody knows is not passed on");
    }

    #[test]
    fn malformed_headers_count_as_absent() {
        for value in ["", "m", "123456789m", "-1m", "1x", "é"] {
            assert_eq!(parse_timeout(value), None, "{value}");
        }
        for value in ["", "00-0-0-00", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"] {
            assert_eq!(parse_traceparent(value), None, "{value}");
        }
        let known = parse_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert_eq!(known, Some((0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7, true)));
    }
}
