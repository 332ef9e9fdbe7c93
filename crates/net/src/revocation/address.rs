//! Where evidence may be fetched from.

use hyper::Uri;

use super::FetchError;

/// An `http` URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// Host without brackets.
    pub(super) host: String,
    /// Port, 80 by default.
    pub(super) port: u16,
    /// `Host` header.
    pub(super) authority: String,
    /// Path and query.
    pub(super) target: String,
}

impl Address {
    /// Reads a URL of a certificate.
    pub(super) fn parse(url: &str) -> Result<Self, FetchError> {
        let wrong = |problem| FetchError::Address {
            url: url.chars().take(256).collect(),
            problem,
        };
        let uri: Uri = url.parse().map_err(|_| wrong("it is not a URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(wrong("evidence is fetched over http, not https")),
            _ => return Err(wrong("evidence is fetched over http only")),
        }
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("it names a user"));
        }
        let host = authority.host();
        // What follows the host and is no port that can be read would be passed over.
        let after = authority.as_str().strip_prefix(host).unwrap_or_default();
        if authority.port().is_none() && !matches!(after, "" | ":") {
            return Err(wrong("its port is not a number of 1 to 65535"));
        }
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None => 80,
        };
        if host.is_empty() || port == 0 {
            return Err(wrong("it has no host"));
        }
        let target = uri
            .path_and_query()
            .map_or("/", |target| target.as_str())
            .to_owned();
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port,
            authority: authority.as_str().to_owned(),
            target,
        })
    }

    /// What is left alone when it fails.
    pub(super) fn place(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let address = Address::parse("http://Pki.Example:8080/ca.crl?x=1");
        let expected = Address {
            host: "pki.example".to_owned(),
            port: 8080,
            authority: "Pki.Example:8080".to_owned(),
            target: "/ca.crl?x=1".to_owned(),
        };
        assert_eq!(address, Ok(expected));
        let bare = Address::parse("http://[2001:db8::1]")
            .map(|address| (address.place(), address.target.clone()));
        assert_eq!(bare, Ok(("[2001:db8::1]:80".to_owned(), "/".to_owned())));
    }

    #[test]
    fn only_http_without_a_user_is_fetched_from() {
        for (url, says) in [
            ("https://pki.example/ca.crl", "not https"),
            ("ldap://pki.example/cn=ca", "http only"),
            ("file:///etc/passwd", "not a URL"),
            ("/ca.crl", "http only"),
            ("http://root:secret@pki.example/", "names a user"),
            ("http://pki.example:0/", "no host"),
            ("http://pki.example:99999/", "its port"),
            ("", "not a URL"),
            ("http:// pki.example/", "not a URL"),
            ("http://pki.example/\r\nX: y", "not a URL"),
        ] {
            match Address::parse(url) {
                Err(error) => assert!(error.to_string().contains(says), "{url}: {error}"),
                Ok(address) => panic!("{url}: {address:?}"),
            }
        }
    }
}
