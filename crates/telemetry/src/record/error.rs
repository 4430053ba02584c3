//! Why something is not stored or computed.

/// Why something was not stored or computed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the request is outside what is allowed.
    #[error("{field}: {message}")]
    Invalid {
        /// The field of the request.
        field: &'static str,
        /// What is wrong and what is allowed.
        message: String,
    },
    /// The store failed; nothing of a request to store is stored.
    #[error(transparent)]
    Store(#[from] sql::Error),
    /// `rollout.toml` has problems.
    #[error(transparent)]
    Plan(#[from] bundle::Problems),
    /// The state of the rollout does not allow it.
    #[error(transparent)]
    Refused(#[from] crate::rollout::Refused),
    /// A stored turn does not have the form it was written in.
    #[error("a stored turn is malformed")]
    Malformed,
    /// The stage ends before the answer is complete.
    #[error("the stage is shutting down")]
    Stopping,
}

impl Error {
    /// The error of a field of the request.
    pub fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field, message: message.into() }
    }
}

impl kit::Fault for Error {
    fn kind(&self) -> kit::Kind {
        match self {
            Self::Invalid { .. } | Self::Plan(_) => kit::Kind::Invalid,
            Self::Refused(_) => kit::Kind::Precondition,
            Self::Stopping => kit::Kind::Unavailable,
            Self::Store(_) | Self::Malformed => kit::Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "INVALID_VALUE",
            Self::Plan(_) => "INVALID_PLAN",
            Self::Refused(_) => "ROLLOUT_REFUSED",
            Self::Stopping => "SHUTTING_DOWN",
            Self::Store(_) => "STORE_FAILED",
            Self::Malformed => "STORED_TURN_MALFORMED",
        }
    }

    fn field(&self) -> Option<&'static str> {
        match self {
            Self::Invalid { field, .. } => Some(field),
            Self::Plan(_) => Some("rollout_toml"),
            _ => None,
        }
    }
}
