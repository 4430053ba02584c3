//! The errors of a turn as callers see them.

use kit::Kind;

use crate::turn::Error;

impl kit::Fault for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } | Self::Conflict => Kind::Invalid,
            Self::Foreign => Kind::Denied,
            Self::Stale | Self::Precondition(_) => Kind::Precondition,
            Self::NotFound(_) => Kind::NotFound,
            Self::Overload | Self::TooFast(..) => Kind::Exhausted,
            Self::Journal(_) => Kind::Unavailable,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "INVALID_MESSAGE",
            Self::Conflict => "REQUEST_ID_REUSED",
            Self::Foreign => "CONVERSATION_OF_ANOTHER_CUSTOMER",
            Self::Stale | Self::Precondition(_) => "WRONG_STATE",
            Self::NotFound(_) => "NOT_FOUND",
            Self::Overload => "TOO_MANY_TURNS",
            Self::TooFast(..) => "TOO_MANY_TURNS_A_MINUTE",
            Self::Journal(_) => "JOURNAL_UNAVAILABLE",
        }
    }

    fn field(&self) -> Option<&'static str> {
        match self {
            Self::Invalid { field, .. } => Some(field),
            Self::Conflict => Some("request_id"),
            _ => None,
        }
    }
}
