//! Challenges and credentials as headers have them (RFC 9110 §11).

/// The longest header that is read, in bytes.
const LONGEST: usize = 4096;

/// The most challenges and parameters of one header.
const MOST: usize = 64;

/// A scheme and its parameters, names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    pub(super) fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// A parameter that stands there once.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let mut all = self.parameters.iter().filter(|(own, _)| own == name);
        let (_, value) = all.next()?;
        all.next().is_none().then_some(value.as_str())
    }

    /// All challenges of a header; `None` when it is none or too long.
    pub(super) fn parse_all(header: &str) -> Option<Vec<Self>> {
        if header.len() > LONGEST {
            return None;
        }
        let mut all: Vec<Self> = Vec::new();
        let mut rest = header;
        let mut count = 0;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                return Some(all);
            }
            count += 1;
            if count > MOST {
                return None;
            }
            let (word, after) = token(rest)?;
            let spaced = after.trim_start_matches([' ', '\t']);
            if let Some(value) = spaced.strip_prefix('=') {
                let (value, after) = value_of(value.trim_start_matches([' ', '\t']))?;
                let parameters = &mut all.last_mut()?.parameters;
                parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            } else {
                all.push(Self {
                    scheme: word.to_owned(),
                    parameters: Vec::new(),
                });
                rest = spaced;
            }
        }
    }
}

/// A token, and what follows it.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A token or a quoted string, and what follows it.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Some write base64 without quotes, which is no token.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (!value.is_empty() && !value.contains('"')).then(|| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, quoted.get(at + 1..).unwrap_or_default())),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// A quoted string. What could break a header does not get into one.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars().filter(|c| !c.is_control()) {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_challenges_of_one_header_are_told_apart() {
        let header = r#"Digest realm="a, \"b\"", nonce=x==, qop="auth,auth-int" , Basic realm="c",  Negotiate"#;
        let all = Challenge::parse_all(header).expect("a header");
        let schemes: Vec<_> = all.iter().map(|one| one.scheme.as_str()).collect();
        assert_eq!(schemes, ["Digest", "Basic", "Negotiate"]);
        assert_eq!(all[0].parameter("realm"), Some("a, \"b\""));
        assert_eq!(all[0].parameter("nonce"), Some("x=="));
        assert_eq!(all[0].parameter("qop"), Some("auth,auth-int"));
        assert_eq!(all[1].parameter("realm"), Some("c"));
        assert_eq!(all[1].parameter("nonce"), None);
    }

    #[test]
    fn what_is_no_header_is_none() {
        for header in [
            "realm=\"a\"",
            "Digest realm=\"a",
            "Digest realm=",
            "\"",
            "Digest a=b\"c",
            &"a".repeat(5000),
            &"a ".repeat(100),
        ] {
            assert_eq!(Challenge::parse_all(header), None, "{header:.40}");
        }
    }

    #[test]
    fn a_parameter_that_stands_twice_is_none() {
        let all = Challenge::parse_all("Digest nonce=a, nonce=b").expect("a header");
        assert_eq!(all[0].parameter("nonce"), None);
    }

    #[test]
    fn quoted_text_is_read_again() {
        for text in ["plain", "a\"b\\c", "\u{e9}, =", ""] {
            let header = format!("Digest a={}", quoted(text));
            let all = Challenge::parse_all(&header).expect("a header");
            assert_eq!(all[0].parameter("a"), Some(text));
        }
        assert_eq!(quoted("a\r\nb"), "\"ab\"");
    }
}
