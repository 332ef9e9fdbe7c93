//! Elements into bytes.

use super::reader::{REPLACEMENT, is_xml};

/// Builds an envelope from its beginning to its end.
pub(crate) struct Writer {
    out: String,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self {
            out: String::with_capacity(1024),
        }
    }

    /// Bytes that are XML already.
    pub(crate) fn raw(&mut self, text: &str) {
        self.out.push_str(text);
    }

    pub(crate) fn open(&mut self, name: &str) {
        self.out.push('<');
        self.out.push_str(name);
        self.out.push('>');
    }

    pub(crate) fn close(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    /// An element with a type, as one that may be of several.
    pub(crate) fn open_typed(&mut self, name: &str, kind: &str) {
        self.out.push('<');
        self.out.push_str(name);
        self.out.push_str(" xsi:type=\"");
        self.out.push_str(kind);
        self.out.push_str("\">");
    }

    /// An array of SOAP 1.1 §5.4.2.
    pub(crate) fn open_array(&mut self, name: &str, kind: &str, count: usize) {
        self.out.reserve(count * 64);
        self.out.push('<');
        self.out.push_str(name);
        self.out.push_str(" SOAP-ENC:arrayType=\"");
        self.out.push_str(kind);
        self.out.push_str(&format!("[{count}]\">"));
    }

    pub(crate) fn leaf(&mut self, name: &str, text: &str) {
        self.open(name);
        self.text(text);
        self.close(name);
    }

    /// Text, escaped. A carriage return would be read as a line feed if it stood there itself; characters that XML lacks are replaced.
    pub(crate) fn text(&mut self, text: &str) {
        let odd = |byte: u8| {
            matches!(byte, b'<' | b'>' | b'&' | 0xEF)
                || (byte < 0x20 && !matches!(byte, b'\n' | b'\t'))
        };
        if !text.bytes().fold(false, |found, byte| found | odd(byte)) {
            self.out.push_str(text);
            return;
        }
        for character in text.chars() {
            match character {
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '&' => self.out.push_str("&amp;"),
                '\r' => self.out.push_str("&#13;"),
                other if is_xml(other) => self.out.push(other),
                _ => self.out.push(REPLACEMENT),
            }
        }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.out.into_bytes()
    }
}
