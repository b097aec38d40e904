//! Exit codes and what is printed with them: the one table that scripts may rely on.

use std::{fmt, process::ExitCode};

use ringweave_api::{ClientError, DoorError, Fault, WhomError, Word};
use ringweave_net::{HomeError, InviteError, StartError};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something went wrong that is none of the below; a port in use, too.
    Failure = 1,
    /// The words make no sense: a malformed peer, GUID or invite, an ambiguous prefix, too large a
    /// payload, a file that is not what it says.
    Usage = 2,
    /// Nobody is meant by these words.
    NotFound = 3,
    /// No route, not connected, or no peer runs here.
    NoRoute = 4,
    /// The network, the receiver or the running peer will not have it.
    Denied = 5,
    /// No answer in time.
    Timeout = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<Word> for Exit {
    fn from(word: Word) -> Self {
        match word {
            Word::NotFound => Self::NotFound,
            Word::NoRoute | Word::Stopped => Self::NoRoute,
            Word::Refused | Word::Denied => Self::Denied,
            Word::Timeout => Self::Timeout,
            Word::TooLarge | Word::Ambiguous | Word::Malformed => Self::Usage,
            _ => Self::Failure,
        }
    }
}

/// Why a command did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// How the program ends.
    pub(crate) exit: Exit,
    /// What is told: a word for programs, a sentence (what; where; what to do) for people.
    pub(crate) fault: Fault,
    /// Whether an object on standard output has said so already.
    pub(crate) is_told: bool,
}

impl Problem {
    /// A problem of this kind.
    pub(crate) fn new(word: Word, message: impl fmt::Display) -> Self {
        Fault::new(word, message.to_string()).into()
    }

    /// The same, after an object on standard output has said so.
    pub(crate) fn told(self) -> Self {
        Self {
            is_told: true,
            ..self
        }
    }

    /// Words that make no sense.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Word::Malformed, message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.fault.message)
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self {
            exit: fault.error.into(),
            fault,
            is_told: false,
        }
    }
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        let word = match error {
            ClientError::Answered(fault) => return fault.into(),
            ClientError::NotRunning { .. } | ClientError::Gone(_) => Word::Stopped,
            ClientError::Denied(_) => Word::Denied,
            ClientError::Silent(_) => Word::Timeout,
            _ => Word::Failed,
        };
        Self::new(word, error)
    }
}

impl From<WhomError> for Problem {
    fn from(error: WhomError) -> Self {
        Self::usage(error)
    }
}

impl From<InviteError> for Problem {
    fn from(error: InviteError) -> Self {
        Self::usage(error)
    }
}

impl From<StartError> for Problem {
    fn from(error: StartError) -> Self {
        let word = match &error {
            StartError::Home(
                HomeError::OtherVersion { .. } | HomeError::Malformed(_) | HomeError::State { .. },
            )
            | StartError::Shape(_)
            | StartError::NoAddress
            | StartError::OtherNetwork { .. }
            | StartError::NothingRemembered => Word::Malformed,
            StartError::NoAdmission | StartError::Refused(_) | StartError::NoPlace(_) => {
                Word::Denied
            }
            StartError::NobodyReached { .. } => Word::Timeout,
            _ => Word::Failed,
        };
        Self::new(word, error)
    }
}

impl From<DoorError> for Problem {
    fn from(error: DoorError) -> Self {
        let word = if matches!(error, DoorError::NotLoopback(_)) {
            Word::Malformed
        } else {
            Word::Failed
        };
        Self::new(word, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_of_exit_codes_holds() {
        for (word, code) in [
            (Word::Failed, 1),
            (Word::Malformed, 2),
            (Word::Ambiguous, 2),
            (Word::TooLarge, 2),
            (Word::NotFound, 3),
            (Word::NoRoute, 4),
            (Word::Stopped, 4),
            (Word::Refused, 5),
            (Word::Denied, 5),
            (Word::Timeout, 6),
        ] {
            assert_eq!(Exit::from(word) as u8, code, "{word:?}");
        }
    }
}
