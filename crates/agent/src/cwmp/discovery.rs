//! The ACS as DHCP names it (TR-069 §3.1).
//!
//! The DHCP client's hook leaves what it got in a file, one `name=value` in each line: `option43=` and `option125=` in hexadecimal, as
//! the server sent them, or `url=`, `provisioning_code=`, `minimum_wait=` and `multiplier=` in words. Other lines do not count.

use std::path::Path;

/// TR-069's enterprise number in option 125: the Broadband Forum's.
const ENTERPRISE: u32 = 3561;

/// Bytes of the file that are read.
const MOST: usize = 64 * 1024;

/// What DHCP says about the ACS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// `ManagementServer.URL`.
    pub url: Option<String>,
    /// `DeviceInfo.ProvisioningCode`.
    pub provisioning_code: Option<String>,
    /// `CWMPRetryMinimumWaitInterval`.
    pub minimum_wait: Option<u32>,
    /// `CWMPRetryIntervalMultiplier`.
    pub multiplier: Option<u32>,
}

impl Discovered {
    /// Reads the file of the hook; `None` when it is not there or says nothing.
    pub fn read(path: &Path) -> Option<Self> {
        let text = std::fs::read(path).ok()?;
        let text = String::from_utf8_lossy(text.get(..text.len().min(MOST))?).into_owned();
        let found = Self::parse(&text);
        (found != Self::default()).then_some(found)
    }

    /// Reads the lines of the hook. What option 125 says goes before option 43.
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        let mut from_125 = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once('=') else {
                continue;
            };
            let value = value.trim().trim_matches(['"', '\'']);
            match name.trim() {
                "option43" => found = Self::option_43(&unhex(value)).or(found),
                "option125" => from_125 = Self::option_125(&unhex(value)),
                "url" => found.take(1, value.as_bytes()),
                "provisioning_code" => found.take(2, value.as_bytes()),
                "minimum_wait" => found.take(3, value.as_bytes()),
                "multiplier" => found.take(4, value.as_bytes()),
                _ => {}
            }
        }
        from_125.or(found)
    }

    /// Option 43: sub-options 1 to 4, or the URL alone, as some servers have it.
    pub fn option_43(bytes: &[u8]) -> Self {
        let mut found = Self::default();
        if bytes.starts_with(b"http") {
            found.take(1, bytes);
            return found;
        }
        for (code, value) in options(bytes) {
            found.take(code, value);
        }
        found
    }

    /// Option 125 (RFC 3925 §4): sub-options 11 to 14 of the Broadband Forum.
    pub fn option_125(bytes: &[u8]) -> Self {
        let mut found = Self::default();
        let mut rest = bytes;
        while let Some((number, after)) = rest.split_first_chunk::<4>()
            && let Some((length, after)) = after.split_first()
            && let Some((data, after)) = after.split_at_checked(usize::from(*length))
        {
            if u32::from_be_bytes(*number) == ENTERPRISE {
                for (code, value) in options(data) {
                    if let Some(code) = code.checked_sub(10) {
                        found.take(code, value);
                    }
                }
            }
            rest = after;
        }
        found
    }

    /// A value by the number of its sub-option; what is none is left out.
    fn take(&mut self, code: u8, value: &[u8]) {
        let text = String::from_utf8_lossy(value);
        let text = text.trim_end_matches('\0').trim();
        let is_url = text.starts_with("http://") || text.starts_with("https://");
        match code {
            1 if is_url && text.len() <= 2048 => self.url = Some(text.to_owned()),
            2 if text.chars().count() <= 64 => self.provisioning_code = Some(text.to_owned()),
            3 => self.minimum_wait = text.parse().ok().filter(|n| (1..=65_535).contains(n)),
            4 => self.multiplier = text.parse().ok().filter(|n| (1000..=65_535).contains(n)),
            _ => {}
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            url: self.url.or(other.url),
            provisioning_code: self.provisioning_code.or(other.provisioning_code),
            minimum_wait: self.minimum_wait.or(other.minimum_wait),
            multiplier: self.multiplier.or(other.multiplier),
        }
    }
}

/// Code and value of each whole sub-option.
fn options(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut all = Vec::new();
    while let Some(([code, length], rest)) = bytes.split_first_chunk::<2>()
        && let Some((value, rest)) = rest.split_at_checked(usize::from(*length))
    {
        all.push((*code, value));
        bytes = rest;
    }
    all
}

/// Bytes of hexadecimal digits, with colons or without; what is none ends it.
fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !matches!(c, ':' | ' '))
        .map_while(|c| c.to_digit(16))
        .collect();
    let pairs = digits.chunks_exact(2);
    pairs
        .filter_map(|pair| match pair {
            [high, low] => u8::try_from(high * 16 + low).ok(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn both_options_name_the_acs_and_125_goes_first() {
        let mut one = vec![1, 9];
        one.extend(b"http://a/");
        one.extend([2, 3, b'c', b'-', b'1', 3, 2, b'1', b'0', 4, 4]);
        one.extend(b"1500");
        let mut inner = vec![11, 10];
        inner.extend(b"https://b/");
        let mut other = vec![0, 0, 0, 9, 1, 7, 0, 0, 0x0d, 0xe9];
        other.push(u8::try_from(inner.len()).unwrap_or(0));
        other.extend(&inner);
        let text = format!(
            "interface=eth0\noption43={}\noption125={}\n",
            hex(&one),
            hex(&other)
        );
        let found = Discovered::parse(&text);
        assert_eq!(found.url.as_deref(), Some("https://b/"));
        assert_eq!(found.provisioning_code.as_deref(), Some("c-1"));
        assert_eq!(
            (found.minimum_wait, found.multiplier),
            (Some(10), Some(1500))
        );
        let alone = Discovered::option_43(b"http://acs.example.net:7547/\0");
        assert_eq!(alone.url.as_deref(), Some("http://acs.example.net:7547/"));
    }

    #[test]
    fn what_is_cut_off_or_nonsense_names_nothing() {
        for bytes in [&[1, 200, b'h'][..], &[1], &[], &[0xff; 40], b"\x01\x04ftp:"] {
            assert_eq!(Discovered::option_43(bytes), Discovered::default());
            assert_eq!(Discovered::option_125(bytes), Discovered::default());
        }
        let text = "option43=zz\nurl=file:///etc/passwd\nminimum_wait=0\nmultiplier=99999\n=\n";
        assert_eq!(Discovered::parse(text), Discovered::default());
    }
}
