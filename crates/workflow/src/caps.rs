//! Caps of the executions of a workflow: counted in the transaction that approves one more.

use jiff::Timestamp;
use sql::{Connection, Result, Value, values};

use crate::amount::Amount;
use crate::catalogue::Workflow;
use crate::execution::Execution;
use crate::gate::Refusal;
use crate::slot::Kind;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The day of a time, counted from the Unix epoch, UTC.
pub(crate) fn day(at: Timestamp) -> i64 {
    at.as_millisecond().div_euclid(DAY_MS)
}

/// Refuses an amount above the most of one execution.
pub(crate) fn check_amounts(workflow: &Workflow, execution: &Execution) -> std::result::Result<(), Refusal> {
    let Some(most) = workflow.caps.amount else { return Ok(()) };
    for slot in &workflow.slots {
        let (Kind::Amount(amount), Some(value)) = (&slot.kind, execution.progress.slots.get(&slot.name))
        else {
            continue;
        };
        if !Amount::new(&amount.currency, None, Some(most)).accepts(value) {
            return Err(Refusal::AmountCap(most));
        }
    }
    Ok(())
}

/// The cap of the day that one more execution would pass. Counts what was approved on the day of its approval and
/// may have had its effect; a customer without a key is the conversation.
pub(crate) fn reached(
    connection: &mut Connection<'_>,
    execution: &Execution,
    caps: &bundle::Caps,
) -> Result<Option<Refusal>> {
    const OF_DAY: &str =
        "SELECT count(*) FROM execution WHERE workflow = $1 AND day = $2 AND state <> 'FAILED'";
    let (workflow, day) = (&execution.workflow, day(execution.updated_at));
    let mut count = |query: &str, values: &[Value<'_>]| {
        connection.first(query, values, |row| row.get::<u32, _>(0)).map(Option::unwrap_or_default)
    };
    if let Some(most) = caps.per_customer_per_day {
        let (column, customer) = match execution.customer.as_str() {
            "" => ("customer_key = '' AND conversation_id", &execution.conversation),
            _ => ("customer_key", &execution.customer),
        };
        if count(&format!("{OF_DAY} AND {column} = $3"), values![workflow, day, customer])? >= most {
            return Ok(Some(Refusal::CustomerCap(most)));
        }
    }
    if let Some(most) = caps.per_day
        && count(OF_DAY, values![workflow, day])? >= most
    {
        return Ok(Some(Refusal::DayCap(most)));
    }
    Ok(None)
}
