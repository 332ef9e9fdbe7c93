//! Keys by which data-model paths sort as people expect: instance 2 before instance 10.

/// A text that sorts in path order: each purely numeric segment is written with its length first.
///
/// Segments are separated by U+0001, which sorts before every character of a name, so that an object's
/// own parameters and its children stay together.
pub fn key(path: &str) -> String {
    let mut key = String::with_capacity(path.len() + 8);
    for segment in path.split_inclusive('.') {
        let (name, dot) = match segment.strip_suffix('.') {
            Some(name) => (name, true),
            None => (segment, false),
        };
        if !name.is_empty() && name.len() <= 10 && name.bytes().all(|byte| byte.is_ascii_digit()) {
            // Length as one digit-like character: longer numbers sort later.
            key.push(char::from(b'/' + u8::try_from(name.len()).unwrap_or(10)));
        }
        key.push_str(name);
        if dot {
            key.push('\u{1}');
        }
    }
    key
}

/// The smallest text that sorts after every text with this prefix, for the prefixes that [`key`] makes.
pub fn end(prefix: &str) -> String {
    format!("{prefix}\u{10FFFF}")
}

/// Whether a concrete path is at or under `pattern`: a parameter path, or an object path ending with a dot,
/// in which `*` stands for one instance number. An empty pattern matches everything.
pub fn matches(pattern: &str, path: &str) -> bool {
    if pattern.is_empty() {
        return true;
    }
    let mut segments = path.split('.');
    let object = pattern.strip_suffix('.');
    for wanted in object.unwrap_or(pattern).split('.') {
        match segments.next() {
            Some(found) if found == wanted || (wanted == "*" && is_instance(found)) => {}
            _ => return false,
        }
    }
    object.is_some() == segments.next().is_some()
}

/// The part of a pattern before its first `*`.
pub fn prefix(pattern: &str) -> &str {
    pattern.find('*').map_or(pattern, |at| &pattern[..at])
}

fn is_instance(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_ten_sorts_after_instance_two() {
        let mut paths = vec![
            "Device.IP.Interface.10.Enable",
            "Device.IP.Interface.2.Stats.BytesSent",
            "Device.IP.Interface.2.Enable",
            "Device.IP.InterfaceNumberOfEntries",
            "Device.DeviceInfo.UpTime",
        ];
        paths.sort_by_key(|path| key(path));
        assert_eq!(
            paths,
            [
                "Device.DeviceInfo.UpTime",
                "Device.IP.Interface.2.Enable",
                "Device.IP.Interface.2.Stats.BytesSent",
                "Device.IP.Interface.10.Enable",
                "Device.IP.InterfaceNumberOfEntries",
            ]
        );
    }

    #[test]
    fn patterns_match_whole_segments() {
        assert!(matches("Device.IP.", "Device.IP.Interface.1.Enable"));
        assert!(!matches("Device.I.", "Device.IP.Interface.1.Enable"));
        assert!(matches(
            "Device.IP.Interface.*.Enable",
            "Device.IP.Interface.7.Enable"
        ));
        assert!(!matches("Device.IP.*.Enable", "Device.IP.Interface.Enable"));
        assert!(matches(
            "Device.IP.Interface.*.",
            "Device.IP.Interface.7.Stats.BytesSent"
        ));
        assert!(!matches("Device.DeviceInfo", "Device.DeviceInfo.UpTime"));
        assert!(matches("", "Device.DeviceInfo.UpTime"));
    }
}
