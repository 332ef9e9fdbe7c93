//! The identities in DHCP option 125 (TR-111 Part 1 §1.2.5, RFC 3925, RFC 3396).
//!
//! A device puts its OUI, serial number and product class into what it asks for; a gateway puts its own into the answers to those
//! that did. Nothing here is proven: the operator cross-checks both reports.

/// DHCP option V-I Vendor-Specific Information (RFC 3925 §4).
pub const OPTION: u8 = 125;
/// IANA Enterprise Number of the DSL Forum, "ADSL Forum" in the registry.
pub const ENTERPRISE: u32 = 3561;
/// Most octets of option 125 that are read, after concatenation (RFC 3396); a DHCP message has hardly more.
const MAX_OPTION: usize = 1500;
/// Longest serial number and product class.
const MAX_TEXT: usize = 64;

/// Whose identity: a device's has the sub-options 1 to 3, a gateway's 4 to 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// In DHCPDISCOVER, DHCPREQUEST and DHCPINFORM.
    Device,
    /// In DHCPOFFER and DHCPACK.
    Gateway,
}

impl Role {
    /// The sub-option of the OUI; serial number and product class follow.
    fn first(self) -> u8 {
        match self {
            Self::Device => 1,
            Self::Gateway => 4,
        }
    }
}

/// What identifies a device or gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    oui: String,
    serial: String,
    product_class: Option<String>,
}

/// Why something is no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum IdentityError {
    /// The OUI is not six upper-case hexadecimal digits.
    #[error("an OUI has six upper-case hexadecimal digits")]
    Oui,
    /// The serial number is empty, longer than 64 characters, or has control characters.
    #[error("a serial number has 1 to 64 printable characters")]
    SerialNumber,
    /// The product class is longer than 64 characters or has control characters.
    #[error("a product class has at most 64 printable characters")]
    ProductClass,
}

impl Identity {
    /// An identity; the product class may be absent.
    pub fn new(
        oui: &str,
        serial: &str,
        product_class: Option<&str>,
    ) -> Result<Self, IdentityError> {
        let digit = |c: char| c.is_ascii_digit() || ('A'..='F').contains(&c);
        if oui.len() != 6 || !oui.chars().all(digit) {
            return Err(IdentityError::Oui);
        }
        if serial.is_empty() || !is_text(serial) {
            return Err(IdentityError::SerialNumber);
        }
        let product_class = product_class.filter(|class| !class.is_empty());
        if product_class.is_some_and(|class| !is_text(class)) {
            return Err(IdentityError::ProductClass);
        }
        Ok(Self {
            oui: oui.to_owned(),
            serial: serial.to_owned(),
            product_class: product_class.map(str::to_owned),
        })
    }

    /// ManufacturerOUI: six upper-case hexadecimal digits.
    pub fn oui(&self) -> &str {
        &self.oui
    }

    /// SerialNumber: 1 to 64 characters.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// ProductClass, when there is one: 1 to 64 characters.
    pub fn product_class(&self) -> Option<&str> {
        self.product_class.as_deref()
    }

    /// The content of option 125 with this identity alone. What is longer than 255 octets goes into several options
    /// (RFC 3396); this never is: two enterprise fields, three headers and at most 134 octets of text.
    pub fn encode(&self, role: Role) -> Vec<u8> {
        let mut data = Vec::new();
        let texts = [
            Some(&self.oui),
            Some(&self.serial),
            self.product_class.as_ref(),
        ];
        for (code, text) in (role.first()..).zip(texts) {
            if let Some((length, text)) = text.and_then(|t| Some((u8::try_from(t.len()).ok()?, t)))
            {
                data.extend_from_slice(&[code, length]);
                data.extend_from_slice(text.as_bytes());
            }
        }
        let mut option = ENTERPRISE.to_be_bytes().to_vec();
        option.push(
            u8::try_from(data.len()).expect("three headers and three texts of at most 64 octets"),
        );
        option.extend(data);
        option
    }
}

/// At most 64 characters, none a control character. Octets count, not characters: parameters are declared so on both sides.
fn is_text(text: &str) -> bool {
    text.len() <= MAX_TEXT && !text.contains(char::is_control)
}

/// What option 125 said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The elements of enterprise 3561 by sub-option 1 to 6, as text.
    elements: [Option<String>; 6],
    /// What was ignored, by reason.
    pub ignored: Counters,
}

/// What was ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Enterprise fields of others.
    pub other_enterprises: u64,
    /// Sub-options of enterprise 3561 that TR-111 Part 1 does not have.
    pub unknown: u64,
    /// Sub-options that came again.
    pub repeated: u64,
    /// Elements that are no text, too long, or no OUI.
    pub malformed: u64,
    /// Lengths that lead behind the end; nothing behind one is read.
    pub truncated: u64,
}

impl Found {
    /// Reads option 125; `parts` are its occurrences in the message, in their order, which belong together (RFC 3396 §7).
    pub fn decode<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut option = Vec::new();
        let mut found = Self::default();
        for part in parts {
            if option.len() + part.len() > MAX_OPTION {
                found.ignored.truncated += 1;
                break;
            }
            option.extend_from_slice(part);
        }
        let mut rest = option.as_slice();
        while !rest.is_empty() {
            let Some((enterprise, data, behind)) = enterprise_field(rest) else {
                found.ignored.truncated += 1;
                break;
            };
            rest = behind;
            if enterprise == ENTERPRISE {
                found.read(data);
            } else {
                found.ignored.other_enterprises += 1;
            }
        }
        found
    }

    fn read(&mut self, mut data: &[u8]) {
        while let Some((&code, behind)) = data.split_first() {
            let Some((value, behind)) = sized(behind) else {
                self.ignored.truncated += 1;
                return;
            };
            data = behind;
            let Some(slot) = code
                .checked_sub(1)
                .and_then(|at| self.elements.get_mut(usize::from(at)))
            else {
                self.ignored.unknown += 1;
                continue;
            };
            if slot.is_some() {
                self.ignored.repeated += 1;
            } else if let Some(text) = element(code, value) {
                *slot = Some(text);
            } else {
                self.ignored.malformed += 1;
            }
        }
    }

    /// The whole identity of `role`, when OUI and serial number are there.
    pub fn identity(&self, role: Role) -> Option<Identity> {
        let [oui, serial, class] = self.elements(role);
        Identity::new(oui?, serial?, class).ok()
    }

    /// Each element of `role`: OUI, serial number, product class. A device records an empty string for those that are
    /// missing (§1.2.2).
    pub fn elements(&self, role: Role) -> [Option<&str>; 3] {
        let first = usize::from(role.first() - 1);
        [0, 1, 2].map(|at| self.elements[first + at].as_deref())
    }

    /// Whether there is anything of `role`.
    pub fn has(&self, role: Role) -> bool {
        self.elements(role).iter().any(Option::is_some)
    }
}

/// An enterprise number and its data (RFC 3925 §4).
fn enterprise_field(octets: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (number, rest) = octets.split_first_chunk::<4>()?;
    let (data, behind) = sized(rest)?;
    Some((u32::from_be_bytes(*number), data, behind))
}

/// Data behind an octet with its length.
fn sized(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = octets.split_first()?;
    rest.split_at_checked(usize::from(length))
}

/// The text of a sub-option. A null at its end, which TR-111 forbids, is cut off; an OUI in lower case, too, is understood.
fn element(code: u8, value: &[u8]) -> Option<String> {
    let value = value.strip_suffix(&[0]).unwrap_or(value);
    let text = std::str::from_utf8(value).ok()?;
    let oui = matches!(code, 1 | 4);
    if oui {
        let text = text.to_ascii_uppercase();
        return Identity::new(&text, "0", None).is_ok().then_some(text);
    }
    is_text(text).then(|| text.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn gateway() -> Identity {
        Identity::new("00D09E", "2Wire-1", Some("HomePortal")).unwrap()
    }

    fn one(option: &[u8]) -> Found {
        Found::decode([option])
    }

    #[test]
    fn an_identity_is_read_back_in_its_role_only() {
        for (role, other) in [(Role::Device, Role::Gateway), (Role::Gateway, Role::Device)] {
            let found = one(&gateway().encode(role));
            assert_eq!(found.identity(role), Some(gateway()));
            assert!(!found.has(other));
            assert_eq!(found.ignored, Counters::default());
        }
    }

    #[test]
    fn the_octets_are_those_of_rfc_3925() {
        let octets = Identity::new("ABCDEF", "S1", None)
            .unwrap()
            .encode(Role::Device);
        assert_eq!(octets, b"\0\0\x0d\xe9\x0c\x01\x06ABCDEF\x02\x02S1");
    }

    #[test]
    fn a_product_class_may_be_absent() {
        let identity = Identity::new("00D09E", "1", Some("")).unwrap();
        assert_eq!(identity.product_class(), None);
        let found = one(&identity.encode(Role::Gateway));
        assert_eq!(
            found.elements(Role::Gateway),
            [Some("00D09E"), Some("1"), None]
        );
    }

    #[test]
    fn the_option_may_be_split_anywhere_and_hold_several_enterprises() {
        let mut option = b"\0\0\x01\x37\x03\x01\x01x".to_vec();
        option.extend(gateway().encode(Role::Device));
        option.extend(b"\0\0\x02\x00\x00");
        for at in 0..=option.len() {
            let (first, second) = option.split_at(at);
            let found = Found::decode([first, second]);
            assert_eq!(found.identity(Role::Device), Some(gateway()));
            assert_eq!(
                found.ignored,
                Counters {
                    other_enterprises: 2,
                    ..Counters::default()
                }
            );
        }
    }

    #[test]
    fn a_trailing_null_and_a_lower_case_oui_are_tolerated() {
        let found = one(b"\0\0\x0d\xe9\x0d\x01\x07abcdef\0\x02\x02S\0");
        assert_eq!(
            found.identity(Role::Device),
            Identity::new("ABCDEF", "S", None).ok()
        );
        let two = one(b"\0\0\x0d\xe9\x05\x02\x03S\0\0");
        assert_eq!((two.ignored.malformed, two.has(Role::Device)), (1, false));
    }

    #[test]
    fn malformed_elements_are_counted_and_the_others_stay() {
        let long = [&[3, 65][..], &[b'x'; 65]].concat();
        for (bad, what) in [
            (&b"\x01\x05ABCDE"[..], "a short OUI"),
            (b"\x01\x06ABCDEG", "an OUI with other digits"),
            (b"\x03\x01\xff", "no UTF-8"),
            (b"\x03\x01\n", "a control character"),
            (&long, "a long product class"),
        ] {
            let data = [bad, b"\x02\x02S1"].concat();
            let length = u8::try_from(data.len()).unwrap();
            let option = [&b"\0\0\x0d\xe9"[..], &[length], &data].concat();
            let found = one(&option);
            assert_eq!(found.ignored.malformed, 1, "{what}");
            assert_eq!(
                found.elements(Role::Device),
                [None, Some("S1"), None],
                "{what}"
            );
            assert_eq!(found.identity(Role::Device), None, "{what}");
        }
    }

    #[test]
    fn lengths_behind_the_end_end_the_reading() {
        let option = gateway().encode(Role::Device);
        for at in 1..option.len() {
            let found = one(&option[..at]);
            assert_eq!(found.ignored.truncated, 1, "{at} octets");
            assert_eq!(found.identity(Role::Device), None);
        }
        let inner = one(b"\0\0\x0d\xe9\x04\x02\x09S1");
        assert_eq!(
            (inner.ignored.truncated, inner.has(Role::Device)),
            (1, false)
        );
        let flood = vec![0; MAX_OPTION + 1];
        assert_eq!(one(&flood).ignored.truncated, 1);
    }

    #[test]
    fn the_first_of_repeated_elements_counts() {
        let found = one(b"\0\0\x0d\xe9\x09\x02\x01a\x02\x01b\x09\x01c");
        assert_eq!(found.elements(Role::Device), [None, Some("a"), None]);
        assert_eq!((found.ignored.repeated, found.ignored.unknown), (1, 1));
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        let long = "x".repeat(65);
        for (oui, serial, class, error) in [
            ("00d09e", "1", None, IdentityError::Oui),
            ("00D09", "1", None, IdentityError::Oui),
            ("00D09E", "", None, IdentityError::SerialNumber),
            ("00D09E", &long, None, IdentityError::SerialNumber),
            ("00D09E", "a\0", None, IdentityError::SerialNumber),
            ("00D09E", "1", Some(&*long), IdentityError::ProductClass),
        ] {
            assert_eq!(Identity::new(oui, serial, class), Err(error));
        }
    }
}
