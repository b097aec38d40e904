//! Where a peer stands among the others, as far as healing is concerned.

use ringweave_overlay::polyring;

use crate::Rule;

impl From<Rule> for polyring::Rule {
    fn from(rule: Rule) -> Self {
        match rule {
            Rule::Takeover => Self::Takeover,
            Rule::Merge => Self::Merge,
            Rule::Suspicion => Self::Suspicion,
            Rule::Patience => Self::Patience,
            Rule::Memory => Self::Memory,
            Rule::Repair => Self::Repair,
        }
    }
}
