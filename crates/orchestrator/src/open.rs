//! The workflow of a conversation that is not over.

/// A workflow that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenExecution {
    pub(crate) execution_id: String,
    pub(crate) awaits: Awaits,
}

/// What a workflow waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaits {
    /// A value from the customer.
    Slot,
    /// The customer's yes.
    Yes,
    /// A person's approval: the customer may give it up, and speak of other things.
    Approval,
}

impl Awaits {
    const ALL: [Self; 3] = [Self::Slot, Self::Yes, Self::Approval];

    /// As it is stored.
    pub(crate) fn number(self) -> i64 {
        self as i64
    }

    pub(crate) fn from_number(number: i64) -> Self {
        Self::ALL.into_iter().find(|known| known.number() == number).unwrap_or(Self::Slot)
    }
}
