//! Which Endpoint speaks at which destination or topic, where the broker lets each write to its own only (R-SEC.4c, R-STOMP.34,
//! R-MQTT.42).

use std::fmt;
use std::str::FromStr;

use crate::endpoint::EndpointId;

/// What stands for the Endpoint ID.
const PLACE: &str = "{endpoint-id}";

/// A destination for each Endpoint, such as `/topic/usp.controller.{endpoint-id}`, or a topic: the one place where it may send what
/// is for us. It is told so as the way back, and a Record that came over another Endpoint's destination is not its own. That the
/// broker lets nobody else write there is the broker's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Senders {
    before: String,
    after: String,
}

/// A text that names no destination for each Endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` does not have {PLACE} in it once")]
pub struct SendersError(String);

impl Senders {
    /// What stands for all of them, with `any` in the place of the Endpoint ID.
    pub fn pattern(&self, any: &str) -> String {
        format!("{}{any}{}", self.before, self.after)
    }

    /// Where this Endpoint sends. Its ID stands there as it is: two Endpoints never have the same destination. A broker that
    /// reads percent signs in another way than it writes them keeps Endpoints out whose ID has one.
    pub fn destination(&self, endpoint_id: &EndpointId) -> String {
        format!("{}{endpoint_id}{}", self.before, self.after)
    }
}

impl FromStr for Senders {
    type Err = SendersError;

    fn from_str(text: &str) -> Result<Self, SendersError> {
        match text.split_once(PLACE) {
            Some((before, after)) if !after.contains(PLACE) => Ok(Self {
                before: before.to_owned(),
                after: after.to_owned(),
            }),
            _ => Err(SendersError(text.to_owned())),
        }
    }
}

impl fmt::Display for Senders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{PLACE}{}", self.before, self.after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_endpoint_has_its_destination() {
        let senders: Senders = "/topic/usp.{endpoint-id}.in".parse().expect("one place");
        let destination = |id: &str| id.parse().map(|id| senders.destination(&id));
        assert_eq!(
            destination("os::012345-A").as_deref(),
            Ok("/topic/usp.os::012345-A.in")
        );
        assert_eq!(senders.to_string(), "/topic/usp.{endpoint-id}.in");
    }

    #[test]
    fn a_text_without_a_place_for_the_endpoint_or_with_two_is_refused() {
        for text in ["", "/topic/usp", "{endpoint-id}{endpoint-id}", "{endpoint}"] {
            assert_eq!(text.parse::<Senders>(), Err(SendersError(text.into())));
        }
    }
}
