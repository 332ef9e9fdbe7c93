//! Which resource of CMP a path is (RFC 9482 §2.1, RFC 9811 §3.6, RFC 9483 §6.1 and §6.2).

use std::fmt;

/// The segments that every path of CMP begins with.
const PREFIX: [&str; 2] = [".well-known", "cmp"];
/// The segment that a label follows.
const LABEL: &str = "p";
/// The last segment of the path of announcements (RFC 9482 §2.6).
const ANNOUNCEMENTS: &str = "ann";
/// Longest label in bytes: what a Uri-Path option holds (RFC 7252 §5.10).
const MAX_LABEL: usize = 255;

/// What a request is for: `/.well-known/cmp[/p/<label>][/<operation>]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Target {
    /// The label: a CA or a certificate profile, as the server names them.
    pub label: Option<String>,
    /// The operation that the path promises. What is asked for says the message itself.
    pub operation: Option<Operation>,
}

/// A path that is none of CMP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the path is not /.well-known/cmp[/p/<label>][/<operation>]")]
pub struct NoTarget;

impl Target {
    /// Reads path segments, percent-decoded, from `.well-known` on. One empty segment at the end, a trailing slash, is passed over.
    ///
    /// # Errors
    /// [`NoTarget`].
    pub fn parse<S: AsRef<str>>(segments: &[S]) -> Result<Self, NoTarget> {
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        let segments = match segments.split_last() {
            Some((&"", before)) => before,
            _ => segments.as_slice(),
        };
        let rest = segments.strip_prefix(&PREFIX).ok_or(NoTarget)?;
        let (label, rest) = match rest {
            [LABEL, label, rest @ ..] if !label.is_empty() && label.len() <= MAX_LABEL => {
                (Some((*label).to_owned()), rest)
            }
            [LABEL, ..] => return Err(NoTarget),
            rest => (None, rest),
        };
        let operation = match rest {
            [] => None,
            [name] => Some(Operation::parse(name).ok_or(NoTarget)?),
            _ => return Err(NoTarget),
        };
        Ok(Self { label, operation })
    }

    /// Reads the path of announcements, `/.well-known/cmp[/p/<label>]/ann` (RFC 9482 §2.6), and gives the label. `None` for any other path.
    pub fn parse_announcements<S: AsRef<str>>(segments: &[S]) -> Option<Option<String>> {
        let (last, before) = segments.split_last()?;
        let trailing = before.last().is_some_and(|last| last.as_ref().is_empty());
        if last.as_ref() != ANNOUNCEMENTS || trailing {
            return None;
        }
        let target = Self::parse(before).ok()?;
        target.operation.is_none().then_some(target.label)
    }

    /// The segments of the path of announcements.
    pub fn announcements(label: Option<&str>) -> Vec<String> {
        let target = Self {
            label: label.map(str::to_owned),
            operation: None,
        };
        let mut segments = target.segments(true);
        segments.push(ANNOUNCEMENTS.to_owned());
        segments
    }

    /// The same for the path of an HTTP request, not yet decoded, such as `/.well-known/cmp/p/home/keyupdate`.
    ///
    /// # Errors
    /// [`NoTarget`], also where percent-encoding is wrong.
    pub fn parse_path(path: &str) -> Result<Self, NoTarget> {
        let path = path.strip_prefix('/').ok_or(NoTarget)?;
        let segments: Option<Vec<String>> = path.split('/').map(super::url::decode).collect();
        Self::parse(&segments.ok_or(NoTarget)?)
    }

    /// The segments of the path, with the operation's name over CoAP or over HTTP.
    pub fn segments(&self, over_coap: bool) -> Vec<String> {
        let mut segments: Vec<String> = PREFIX.iter().map(|&part| part.to_owned()).collect();
        if let Some(label) = &self.label {
            segments.push(LABEL.to_owned());
            segments.push(label.clone());
        }
        if let Some(operation) = self.operation {
            let name = if over_coap {
                operation.coap_name()
            } else {
                operation.http_name()
            };
            segments.push(name.to_owned());
        }
        segments
    }
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $http:literal, $coap:literal;)*) => {
        /// A PKI management operation as paths name it: one name over HTTP and a shorter one over CoAP (RFC 9483 §6.1, §6.2). Both are
        /// understood over either.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Operation {
            $($(#[$doc])* $name,)*
        }

        impl Operation {
            /// Every operation, in the order of RFC 9483.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The segment over HTTP (RFC 9483 §6.1).
            pub fn http_name(self) -> &'static str {
                match self { $(Self::$name => $http,)* }
            }

            /// The segment over CoAP (RFC 9483 §6.2).
            pub fn coap_name(self) -> &'static str {
                match self { $(Self::$name => $coap,)* }
            }

            /// The operation of a segment, by either name.
            pub fn parse(segment: &str) -> Option<Self> {
                match segment { $($http | $coap => Some(Self::$name),)* _ => None }
            }
        }
    };
}

operations! {
    /// Enrolling to a new PKI (RFC 9483 §4.1.1).
    Initialization = "initialization", "ir";
    /// Enrolling to a known PKI (RFC 9483 §4.1.2).
    Certification = "certification", "cr";
    /// Updating a certificate (RFC 9483 §4.1.3).
    KeyUpdate = "keyupdate", "kur";
    /// Enrolling by a PKCS #10 request (RFC 9483 §4.1.4).
    Pkcs10 = "pkcs10", "p10";
    /// Revoking a certificate (RFC 9483 §4.2).
    Revocation = "revocation", "rr";
    /// CA certificates (RFC 9483 §4.3.1).
    GetCaCerts = "getcacerts", "crts";
    /// The update of a root certificate (RFC 9483 §4.3.2).
    GetRootUpdate = "getrootupdate", "rcu";
    /// A template for requests (RFC 9483 §4.3.3).
    GetCertReqTemplate = "getcertreqtemplate", "att";
    /// An update of CRLs (RFC 9483 §4.3.4).
    GetCrls = "getcrls", "crls";
    /// Several messages in one (RFC 9483 §5.2.2.2).
    Nested = "nested", "nest";
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.http_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<Target, NoTarget> {
        Target::parse_path(path)
    }

    #[test]
    fn a_path_names_a_label_and_an_operation() {
        let target = |label: Option<&str>, operation| {
            Ok(Target {
                label: label.map(str::to_owned),
                operation,
            })
        };
        let update = Some(Operation::KeyUpdate);
        assert_eq!(parse("/.well-known/cmp"), target(None, None));
        assert_eq!(parse("/.well-known/cmp/"), target(None, None));
        assert_eq!(parse("/.well-known/cmp/kur"), target(None, update));
        assert_eq!(parse("/.well-known/cmp/keyupdate"), target(None, update));
        assert_eq!(parse("/.well-known/cmp/p/a%20b"), target(Some("a b"), None));
        let both = parse("/.well-known/cmp/p/home/keyupdate");
        assert_eq!(both, target(Some("home"), update));
        // A label is any text, also the name of an operation or `p`.
        assert_eq!(parse("/.well-known/cmp/p/ir"), target(Some("ir"), None));
        assert_eq!(parse("/.well-known/cmp/p/p/kur"), target(Some("p"), update));
    }

    #[test]
    fn other_paths_are_none_of_cmp() {
        for path in [
            "",
            "/",
            "/.well-known",
            "/.well-known/cmpx",
            "/cmp",
            "/.well-known/cmp/p",
            "/.well-known/cmp/p/",
            "/.well-known/cmp/p//ir",
            "/.well-known/cmp/unknown",
            "/.well-known/cmp/IR",
            "/.well-known/cmp//ir",
            "/.well-known/cmp/ir/ir",
            "/.well-known/cmp/p/home/ir/more",
            "/.well-known/cmp/p/%zz",
            "/.well-known/cmp//",
        ] {
            assert_eq!(parse(path), Err(NoTarget), "{path}");
        }
        let long = format!("/.well-known/cmp/p/{}", "x".repeat(256));
        assert_eq!(parse(&long), Err(NoTarget));
    }

    #[test]
    fn the_path_of_announcements_is_that_of_a_ca_with_ann() {
        let ann = |path: &str| {
            let segments: Vec<&str> = path.split('/').skip(1).collect();
            Target::parse_announcements(&segments)
        };
        assert_eq!(ann("/.well-known/cmp/ann"), Some(None));
        let label = |label: &str| Some(Some(label.to_owned()));
        assert_eq!(ann("/.well-known/cmp/p/home/ann"), label("home"));
        assert_eq!(ann("/.well-known/cmp/p/ann/ann"), label("ann"));
        for path in [
            "/ann",
            "/.well-known/cmp/p/ann",
            "/.well-known/cmp/ir/ann",
            "/.well-known/cmp/p/home/ir/ann",
            "/.well-known/cmp//ann",
            "/.well-known/cmp/ann/",
            "/.well-known/cmp/ann/ann",
        ] {
            assert_eq!(ann(path), None, "{path}");
        }
        for name in [None, Some("a/b")] {
            let segments = Target::announcements(name);
            let read = Target::parse_announcements(&segments);
            assert_eq!(read, Some(name.map(str::to_owned)));
        }
    }

    #[test]
    fn a_target_is_the_path_that_it_was_read_from() {
        for &operation in Operation::ALL {
            let target = Target {
                label: Some("a/b".to_owned()),
                operation: Some(operation),
            };
            for over_coap in [true, false] {
                assert_eq!(
                    Target::parse(&target.segments(over_coap)),
                    Ok(target.clone())
                );
            }
        }
    }
}
