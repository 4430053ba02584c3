//! What judges say of answers, beside the check that every answer has in its record.

pub(crate) mod server;

use sql::{Connection, values};

use crate::costs;
use crate::record::{Error, check_id};
use crate::store::Store;

/// See the migrations of the store.
pub(crate) const TABLES: &str = "
CREATE TABLE evaluations (
    turn_id TEXT NOT NULL, name TEXT NOT NULL, judge TEXT NOT NULL, conversation_id TEXT NOT NULL,
    claims INTEGER NOT NULL, unsupported INTEGER NOT NULL, cost_nanos INTEGER NOT NULL, prices TEXT NOT NULL,
    received_us INTEGER NOT NULL, PRIMARY KEY (turn_id, name, judge)
) STRICT;
CREATE INDEX evaluations_by_time ON evaluations (received_us);
CREATE INDEX evaluations_of ON evaluations (conversation_id);
";

/// What is judged: how much of an answer the passages support, and whether a known answer says the same as a new one.
const GROUNDEDNESS: &str = "groundedness";
const CACHE_AGREEMENT: &str = "cache_agreement";
/// Most sentences of an answer.
const MAX_CLAIMS: u32 = 1000;

/// What a judge says of an answer.
#[derive(Debug, Clone, Default)]
pub struct Evaluation {
    /// Id of the turn, with name and judge the key.
    pub turn_id: String,
    /// Id of its conversation.
    pub conversation_id: String,
    /// What was judged.
    pub name: String,
    /// Name and version of the judge.
    pub judge: String,
    /// Sentences that state something, 1..=1000.
    pub claims: u32,
    /// Those of them without support.
    pub unsupported: u32,
    /// The calls of models that were made for it.
    pub calls: Vec<costs::Call>,
    /// The prices of the last of them, empty without any.
    pub prices: String,
    /// Category of the turn.
    pub category: String,
}

impl Evaluation {
    /// What judging cost, in billionths of a US dollar.
    #[must_use]
    pub fn cost_nanos(&self) -> i64 {
        self.calls.iter().map(|call| call.spent.nanos).sum()
    }

    /// Checks ids and counts.
    ///
    /// # Errors
    /// `Invalid` with the field.
    pub fn check(&self) -> Result<(), Error> {
        check_id("evaluation.turn_id", &self.turn_id)?;
        check_id("evaluation.conversation_id", &self.conversation_id)?;
        check_id("evaluation.judge", &self.judge)?;
        for (field, name) in [("calls.price_version", &self.prices), ("evaluation.category", &self.category)]
        {
            if !name.is_empty() {
                check_id(field, name)?;
            }
        }
        if ![GROUNDEDNESS, CACHE_AGREEMENT].contains(&self.name.as_str()) {
            let message = format!("is not known, allowed {GROUNDEDNESS:?} and {CACHE_AGREEMENT:?}");
            return Err(Error::invalid("evaluation.name", message));
        }
        let Self { claims, unsupported, .. } = *self;
        if !(1..=MAX_CLAIMS).contains(&claims) {
            return Err(Error::invalid(
                "evaluation.claims",
                format!("is {claims}, allowed 1..={MAX_CLAIMS}"),
            ));
        }
        if unsupported > claims {
            let message = format!("is {unsupported}, allowed 0..={claims}, the claims");
            return Err(Error::invalid("evaluation.unsupported", message));
        }
        Ok(())
    }
}

/// Adds what judging cost.
fn add_cost(connection: &mut Connection<'_>, given: &Evaluation, received_us: i64) -> sql::Result<()> {
    let mut sums = costs::Sums::default();
    for costs::Call { purpose, model, spent } in &given.calls {
        let key = (costs::day(received_us), *purpose, false, model.clone(), given.category.clone());
        sums.spend(key, *spent);
    }
    sums.keep(connection)
}

impl Store {
    /// Stores an evaluation and returns whether it is new; one of the same turn, name and judge stays as it is.
    ///
    /// # Errors
    /// `Store`.
    pub async fn add_evaluation(&self, given: Evaluation, received_us: i64) -> Result<bool, Error> {
        const INSERT: &str =
            "INSERT INTO evaluations (turn_id, name, judge, conversation_id, claims, unsupported,
                cost_nanos, prices, received_us)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";
        let write = move |connection: &mut Connection<'_>| {
            let values = values![
                &given.turn_id,
                &given.name,
                &given.judge,
                &given.conversation_id,
                given.claims,
                given.unsupported,
                given.cost_nanos(),
                &given.prices,
                received_us
            ];
            let is_new = connection.execute(INSERT, values)? == 1;
            if is_new {
                add_cost(connection, &given, received_us)?;
            }
            Ok(is_new)
        };
        Ok(self.0.write(write).await?)
    }
}
