//! An attempt as text, for what spans requests: people give up between two pages.
//!
//! In: a detached attempt. Out: text that anybody may hold and send back, and the call site it stands for. What is sent back is
//! not trusted: it names a feature and a number, and can do no more than end an attempt.

use crate::callsite::{self, CALLSITES, Callsite, CallsiteKind};
use gemba_conventions::is_valid_name;
use std::fmt;
use std::str::FromStr;

/// A detached attempt as text: put it in a session store, a hidden field or a queue message, and
/// [resume](crate::Attempt::resume) it from there. It holds no secret; who forges one forges a statistic.
///
/// ```
/// let ticket: gemba::Ticket = gemba::attempt!("checkout").detach();
/// assert_eq!(ticket.to_string().parse(), Ok(ticket));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(crate) feature: String,
    pub(crate) id: u64,
    pub(crate) start_wall_ns: u64,
}

/// What can be wrong with a ticket.
///
/// ```
/// assert_eq!("nonsense".parse::<gemba::Ticket>(), Err(gemba::TicketError::Malformed));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// The text is not a ticket. Retrying cannot help.
    #[error("this text is not a ticket of a detached attempt")]
    Malformed,
    /// The build declares no attempt of this name and already remembers 1,000 undeclared ones.
    #[error("this build declares no attempt of that name")]
    UnknownFeature,
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1-{:016x}-{:016x}-{}", self.id, self.start_wall_ns, self.feature)
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let mut parts = text.splitn(4, '-');
        let (Some("1"), Some(id), Some(start), Some(feature)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TicketError::Malformed);
        };
        let number = |text: &str| u64::from_str_radix(text, 16).map_err(|_| TicketError::Malformed);
        if !is_valid_name(feature) {
            return Err(TicketError::Malformed);
        }
        Ok(Self { feature: feature.to_owned(), id: number(id)?, start_wall_ns: number(start)? })
    }
}

/// The call site for an attempt of this name: a declared one, else one made for it.
pub(crate) fn callsite_of(feature: &str) -> Result<&'static Callsite, TicketError> {
    let declared = CALLSITES.iter().find(|site| site.kind() == CallsiteKind::Attempt && site.name() == feature);
    if let Some(callsite) = declared {
        return Ok(callsite);
    }
    callsite::undeclared(feature).ok_or(TicketError::UnknownFeature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hostile_tickets_are_malformed_or_name_an_attempt(
            noise in "\\PC{0,40}",
            (id, start_wall_ns) in any::<(u64, u64)>(),
            feature in "[a-z0-9_.]{1,20}",
            (place, with) in (any::<proptest::sample::Index>(), any::<char>()),
        ) {
            let text = Ticket { feature, id, start_wall_ns }.to_string();
            let mut altered: Vec<char> = text.chars().collect();
            let place = place.index(altered.len());
            altered[place] = with;
            for text in [noise, text, altered.into_iter().collect()] {
                if let Ok(ticket) = text.parse::<Ticket>() {
                    prop_assert!(is_valid_name(&ticket.feature), "{text}");
                    prop_assert_eq!(ticket.to_string().parse(), Ok(ticket));
                }
            }
        }
    }
}
