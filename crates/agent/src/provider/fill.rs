//! Putting what a provider found into the tree.

use std::{collections::BTreeSet, fmt::Display};

use homefleet_model::{path::ObjectPath, tree::Tree};

use super::ProviderError;

/// The object whose parameters are being put.
pub(crate) struct Fill<'a> {
    tree: &'a mut Tree,
    object: &'a ObjectPath,
}

impl<'a> Fill<'a> {
    pub(crate) fn new(tree: &'a mut Tree, object: &'a ObjectPath) -> Self {
        Self { tree, object }
    }

    /// Puts one parameter.
    pub(crate) fn put(
        &mut self,
        name: &str,
        value: impl Display,
    ) -> Result<&mut Self, ProviderError> {
        self.tree
            .put(&self.object.param(name), &value.to_string())
            .map_err(tree_error)?;
        Ok(self)
    }

    /// Puts a text of unknown origin, cut to `max` bytes and without control characters.
    pub(crate) fn text(
        &mut self,
        name: &str,
        value: &str,
        max: usize,
    ) -> Result<&mut Self, ProviderError> {
        self.put(name, clean(value, max))
    }
}

/// `Device.A.B.` as a path; the text is one of this crate's own constants.
pub(crate) fn object(path: &'static str) -> Result<ObjectPath, ProviderError> {
    path.parse()
        .map_err(|error| ProviderError::Tree(format!("{path}: {error}")))
}

/// The row of `table` with these key values, made if it is not there.
pub(crate) fn row(
    tree: &mut Tree,
    table: &ObjectPath,
    key: &[(&str, &str)],
) -> Result<ObjectPath, ProviderError> {
    tree.ensure_row(table, key).map_err(tree_error)
}

/// Removes the rows of `table` that are not among `kept`.
pub(crate) fn keep_rows(tree: &mut Tree, table: &ObjectPath, kept: &BTreeSet<ObjectPath>) {
    for row in tree.rows(table) {
        if !kept.contains(&row) {
            tree.remove_instance(&row);
        }
    }
}

/// The tree refused a value: the tables of this crate and its code disagree.
pub(crate) fn tree_error(error: impl Display) -> ProviderError {
    ProviderError::Tree(error.to_string())
}

/// Text of unknown origin (a host's name, a command's name) as a parameter value: control characters and
/// surrounding white space go, at most `max` bytes stay.
pub(crate) fn clean(text: &str, max: usize) -> String {
    let mut clean: String = text
        .chars()
        .filter(|c| !c.is_control())
        .collect::<String>()
        .trim()
        .to_owned();
    while clean.len() > max {
        clean.pop();
    }
    clean
}

/// A hardware address as TR-181 writes it: upper-case hexadecimal digits, colons between.
pub(crate) fn mac(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for (at, byte) in bytes.iter().enumerate() {
        let colon = if at == 0 { "" } else { ":" };
        text.push_str(&format!("{colon}{byte:02X}"));
    }
    text
}

/// A 64-bit counter of the kernel as StatsCounter32, which wraps (TR-106 §3.2.1).
pub(crate) fn counter32(counter: u64) -> u32 {
    (counter & u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_unknown_origin_is_cleaned_and_cut_at_a_character() {
        assert_eq!(clean(" a\u{7}b\n\0 ", 10), "ab");
        assert_eq!(clean("ééé", 5), "éé");
        assert_eq!(clean("", 5), "");
    }

    #[test]
    fn hardware_addresses_are_upper_case_with_colons() {
        assert_eq!(mac(&[2, 0xfc, 0, 0, 0, 1]), "02:FC:00:00:00:01");
        assert_eq!(mac(&[]), "");
    }

    #[test]
    fn counters_of_32_bits_wrap() {
        assert_eq!(counter32((1 << 32) + 7), 7);
    }
}
