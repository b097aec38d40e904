//! Why a request failed, as the wire and the command line tell it.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use ringweave_ids::Guid;
use ringweave_net::CallError;
use ringweave_node::{Denial, Failure, NotKept};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::WhomError;

/// A failed request: a word for programs, a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// Which kind.
    pub error: Word,
    /// What, where, and what to do.
    pub message: String,
    /// The hop at which it failed, if one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "[4.2]")]
    pub at: Option<Guid>,
}

/// The kinds of failure. Words are added, never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Word {
    /// No such peer, nobody at that GUID, or no such path.
    NotFound,
    /// The peer exists, but no connection leads there.
    NoRoute,
    /// The receiver would not take it.
    Refused,
    /// No answer within the deadline.
    Timeout,
    /// Over the limit.
    TooLarge,
    /// Several peers are meant.
    Ambiguous,
    /// The request, or a word in it, is not what it should be.
    Malformed,
    /// The token is missing or wrong, the request came from elsewhere, or this peer may not do that.
    Denied,
    /// No peer runs here.
    Stopped,
    /// As many streams as allowed are open, or the network is in the middle of what it does.
    Busy,
    /// Anything else.
    Failed,
}

impl Fault {
    /// A fault without a place.
    pub fn new(error: Word, message: impl Into<String>) -> Self {
        Self {
            error,
            message: message.into(),
            at: None,
        }
    }

    /// The status that goes with the word.
    pub(crate) fn status(&self) -> StatusCode {
        match self.error {
            Word::NotFound => StatusCode::NOT_FOUND,
            Word::NoRoute | Word::Stopped => StatusCode::SERVICE_UNAVAILABLE,
            Word::Refused => StatusCode::CONFLICT,
            Word::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Word::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Word::Ambiguous | Word::Malformed => StatusCode::BAD_REQUEST,
            Word::Denied => StatusCode::FORBIDDEN,
            Word::Busy => StatusCode::TOO_MANY_REQUESTS,
            Word::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The answer to a request without the right token.
    pub(crate) fn unauthorised() -> Response {
        let fault = Self::new(
            Word::Denied,
            "the token is missing or wrong; it stands in the data directory",
        );
        let challenge = (header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        (StatusCode::UNAUTHORIZED, [challenge], Json(fault)).into_response()
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.status(), Json(self)).into_response()
    }
}

impl From<WhomError> for Fault {
    fn from(error: WhomError) -> Self {
        Self::new(Word::Malformed, error.to_string())
    }
}

fn record_word(why: NotKept) -> Word {
    match why {
        NotKept::NoHolders => Word::Failed,
        NotKept::Failed(Failure::Refused) => Word::Busy,
        NotKept::Failed(Failure::Timeout) => Word::Timeout,
        NotKept::Failed(_) => Word::NoRoute,
        NotKept::Denied(Denial::TooLarge) => Word::TooLarge,
        NotKept::Denied(Denial::Malformed) => Word::Malformed,
        NotKept::Denied(_) => Word::Denied,
    }
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        let message = error.to_string();
        match error {
            CallError::Failed { failure, at, .. } => {
                let error = match failure {
                    Failure::NotFound => Word::NotFound,
                    Failure::NoRoute => Word::NoRoute,
                    Failure::Refused => Word::Refused,
                    Failure::Timeout => Word::Timeout,
                    Failure::TooLarge => Word::TooLarge,
                };
                Self { error, message, at }
            }
            CallError::Ambiguous { .. } => Self::new(Word::Ambiguous, message),
            CallError::Malformed(_) => Self::new(Word::Malformed, message),
            CallError::Stopped => Self::new(Word::Stopped, message),
            CallError::NoNames { .. } => Self::new(Word::NotFound, message),
            CallError::Denied(_) => Self::new(Word::Denied, message),
            CallError::Busy(_) => Self::new(Word::Busy, message),
            CallError::Record(why) => Self::new(record_word(why), message),
            _ => Self::new(Word::Failed, message),
        }
    }
}
