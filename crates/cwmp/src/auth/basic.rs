//! Basic (RFC 7617), which only TLS makes bearable: whether it is taken is the caller's decision.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::Secret;

/// A username with its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicLogin {
    /// Without a colon.
    pub username: String,
    /// The password.
    pub password: Secret,
}

impl BasicLogin {
    /// Out of an `Authorization` header.
    pub fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("Basic") || rest.len() > 4096 {
            return None;
        }
        let bytes = STANDARD.decode(rest.trim()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (username, password) = text.split_once(':')?;
        Some(Self {
            username: username.to_owned(),
            password: password.into(),
        })
    }

    /// Whether the password is this one; the time it takes does not tell how much of it is.
    pub fn is(&self, password: &Secret) -> bool {
        use subtle::ConstantTimeEq as _;
        let (own, other) = (self.password.reveal(), password.reveal());
        own.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

/// The `Authorization` header of a username, which has no colon, and a password.
pub fn basic(username: &str, password: &Secret) -> String {
    let text = format!("{username}:{}", password.reveal());
    format!("Basic {}", STANDARD.encode(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7617_is_read_and_written() {
        let header = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        let login = BasicLogin::parse(header).expect("a login");
        assert_eq!(
            (login.username.as_str(), login.password.reveal()),
            ("Aladdin", "open sesame")
        );
        assert_eq!(basic("Aladdin", &"open sesame".into()), header);
        assert!(login.is(&"open sesame".into()));
        assert!(!login.is(&"open sesamf".into()));
    }

    #[test]
    fn a_password_may_have_colons_and_anything_else_is_none() {
        let login = BasicLogin::parse("basic YTpiOmM=").expect("a login");
        assert_eq!(login.password.reveal(), "b:c");
        for header in [
            "",
            "Basic",
            "Basic !",
            "Basic YQ==",
            "Digest YTpi",
            "Basic /////w==",
        ] {
            assert_eq!(BasicLogin::parse(header), None, "{header}");
        }
    }
}
