//! Filters of the templates.

// What the filter's macro makes is `pub` in here.
#![allow(unreachable_pub)]

use std::fmt::Display;

use askama::filters::Safe;

/// Text that may break after a dot, so that long paths wrap between their parts.
#[askama::filter_fn]
pub(crate) fn breaks(text: impl Display, _: &dyn askama::Values) -> askama::Result<Safe<String>> {
    Ok(Safe(breakable(&text.to_string())))
}

fn breakable(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + text.len() / 4);
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '.' => html.push_str(".<wbr>"),
            other => html.push(other),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_break_after_dots_and_nothing_becomes_markup() {
        assert_eq!(breakable("Device.IP."), "Device.<wbr>IP.<wbr>");
        assert_eq!(
            breakable("<b a='x' c=\"&\">"),
            "&lt;b a=&#39;x&#39; c=&quot;&amp;&quot;&gt;"
        );
    }
}
