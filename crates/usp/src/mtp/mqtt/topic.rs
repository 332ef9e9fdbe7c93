//! Topic Names, Topic Filters, and the way back of MQTT 3.1.1 (R-MQTT.15, R-MQTT.24, R-MQTT.25; MQTT 5.0 §4.7).

/// The longest Topic, in bytes (MQTT 5.0 §1.5.4).
pub const MAX_TOPIC: usize = 65_535;

/// What stands before the way back in a Topic Name (R-MQTT.24).
pub const REPLY_TO: &str = "/reply-to=";

/// Why a text is not the Topic that is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Empty, or longer than [`MAX_TOPIC`].
    #[error("a Topic has 1 to {MAX_TOPIC} bytes")]
    Length,
    /// A NUL, which MQTT forbids.
    #[error("a Topic has no NUL")]
    Nul,
    /// A wildcard in a Topic Name.
    #[error("a Topic Name has neither '+' nor '#'")]
    Wildcard,
    /// A wildcard in a Topic Filter that is not a whole level, or a '#' that is not the last.
    #[error("'+' and '#' stand for whole levels, and '#' for the last")]
    Level,
    /// A way back that would come out as another: `%2F` in it stands for itself, and is read as '/'.
    #[error("a way back with \"%2F\" in it cannot be carried by MQTT 3.1.1")]
    Ambiguous,
}

/// Checks a Topic Name: where something is published.
///
/// # Errors
/// [`TopicError`].
pub fn check_name(name: &str) -> Result<(), TopicError> {
    check_text(name)?;
    if name.contains(['+', '#']) {
        return Err(TopicError::Wildcard);
    }
    Ok(())
}

/// Checks a Topic Filter: what is subscribed to.
///
/// # Errors
/// [`TopicError`].
pub fn check_filter(filter: &str) -> Result<(), TopicError> {
    check_text(filter)?;
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let is_wrong = match level {
            "+" => false,
            "#" => levels.peek().is_some(),
            other => other.contains(['+', '#']),
        };
        if is_wrong {
            return Err(TopicError::Level);
        }
    }
    Ok(())
}

fn check_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() || text.len() > MAX_TOPIC {
        return Err(TopicError::Length);
    }
    if text.contains('\0') {
        return Err(TopicError::Nul);
    }
    Ok(())
}

/// Whether everything that `inner`, a Topic Name or Filter, matches is matched by `filter` too.
pub fn covers(filter: &str, inner: &str) -> bool {
    // A wildcard does not match the first level of the server's own topics (MQTT 5.0 §4.7.2), and a shared
    // subscription gets only a part of what it matches.
    let reserved = |text: &str| text.starts_with('$');
    if reserved(filter) && filter.starts_with("$share/")
        || reserved(inner) && filter.starts_with(['+', '#'])
    {
        return false;
    }
    let mut inner = inner.split('/');
    let mut levels = filter.split('/');
    loop {
        match (levels.next(), inner.next()) {
            // It also matches the level before it.
            (Some("#"), _) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(one), Some(other)) if one == other => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// The Topic Name of a PUBLISH in MQTT 3.1.1, with the way back in it (R-MQTT.24).
///
/// # Errors
/// [`TopicError`], also when the way back could not be read out again as it is.
pub fn with_reply_to(topic: &str, reply_to: &str) -> Result<String, TopicError> {
    check_name(topic)?;
    check_name(reply_to)?;
    let name = format!("{topic}{REPLY_TO}{}", reply_to.replace('/', "%2F"));
    check_name(&name)?;
    if split_reply_to(&name) != Some((topic, reply_to.to_owned())) {
        return Err(TopicError::Ambiguous);
    }
    Ok(name)
}

/// The Topic without the way back, and the way back, of a PUBLISH in MQTT 3.1.1: what stands after the last
/// `/reply-to=` (R-MQTT.25).
pub fn split_reply_to(name: &str) -> Option<(&str, String)> {
    let at = name.rfind(REPLY_TO)?;
    let (topic, rest) = name.split_at(at);
    let reply_to = rest.strip_prefix(REPLY_TO)?.replace("%2F", "/");
    check_name(&reply_to).ok()?;
    Some((topic, reply_to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_wildcards_and_filters_whole_ones() {
        for name in ["a", "a/b", "/", "$SYS/x", "usp/cid:3AA3F8:my id"] {
            assert_eq!((check_name(name), check_filter(name)), (Ok(()), Ok(())));
        }
        for filter in ["+", "#", "a/#", "+/a/+/#", "a/+/b", "/#"] {
            assert_eq!(check_name(filter), Err(TopicError::Wildcard));
            assert_eq!(check_filter(filter), Ok(()));
        }
        for filter in ["a+", "a/b#", "#/a", "+a/b", "##", "a/#/b"] {
            assert_eq!(check_filter(filter), Err(TopicError::Level));
        }
        let long = "x".repeat(MAX_TOPIC + 1);
        for check in [check_name, check_filter] {
            assert_eq!(check(""), Err(TopicError::Length));
            assert_eq!(check(&long), Err(TopicError::Length));
            assert_eq!(check("a\0b"), Err(TopicError::Nul));
        }
    }

    #[test]
    fn a_filter_covers_what_it_matches_and_nothing_else() {
        for (filter, inner) in [
            ("a/b", "a/b"),
            ("a/+", "a/b"),
            ("a/+", "a/+"),
            ("a/#", "a/b/c"),
            ("a/#", "a"),
            ("a/#", "a/#"),
            ("a/#", "a/+/c"),
            ("#", "a"),
            ("+/a/#", "x/a/reply-to=b"),
            ("$SYS/#", "$SYS/a"),
        ] {
            assert!(covers(filter, inner), "{filter} {inner}");
        }
        for (filter, inner) in [
            ("a/b", "a"),
            ("a", "a/b"),
            ("a/b", "a/c"),
            ("a/b", "A/b"),
            ("a/+", "a"),
            ("a/+", "a/b/c"),
            ("a/+", "a/#"),
            ("a/b", "a/+"),
            ("#", "$SYS/a"),
            ("+/a", "$SYS/a"),
            ("$share/g/a", "$share/g/a"),
        ] {
            assert!(!covers(filter, inner), "{filter} {inner}");
        }
    }

    #[test]
    fn the_way_back_of_the_standards_example_is_written_and_read() {
        let (topic, reply_to) = (
            "usp/agents/cid:3AA3F8:my-unique-usp-id-42",
            "usp/controllers/oui:00256D:my-unique-bbf-id-42",
        );
        let name = "usp/agents/cid:3AA3F8:my-unique-usp-id-42/reply-to=usp%2Fcontrollers%2Foui:00256D:my-unique-bbf-id-42";
        assert_eq!(with_reply_to(topic, reply_to).as_deref(), Ok(name));
        assert_eq!(split_reply_to(name), Some((topic, reply_to.to_owned())));
    }

    #[test]
    fn the_way_back_is_what_follows_the_last_mark() {
        let read = split_reply_to("a/reply-to=b/reply-to=c%2Fd");
        assert_eq!(read, Some(("a/reply-to=b", "c/d".to_owned())));
        for name in [
            "a/b",
            "a/reply-to=",
            "a/reply-to=+",
            "reply-to=b",
            "a/reply-to=b%2F#",
        ] {
            assert_eq!(split_reply_to(name), None, "{name}");
        }
    }

    #[test]
    fn a_way_back_that_would_not_come_out_again_is_refused() {
        let inside = with_reply_to("t", "x/reply-to=y").unwrap_or_default();
        assert_eq!(
            split_reply_to(&inside),
            Some(("t", "x/reply-to=y".to_owned()))
        );
        assert_eq!(with_reply_to("t", "a%2Fb"), Err(TopicError::Ambiguous));
        assert_eq!(with_reply_to("t/#", "a"), Err(TopicError::Wildcard));
        assert_eq!(with_reply_to("t", "a/+"), Err(TopicError::Wildcard));
        assert_eq!(with_reply_to("t", ""), Err(TopicError::Length));
        let long = "x".repeat(MAX_TOPIC - 5);
        assert_eq!(with_reply_to(&long, "a"), Err(TopicError::Length));
    }
}
