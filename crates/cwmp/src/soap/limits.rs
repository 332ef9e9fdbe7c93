//! How much of an envelope is read.

/// Bounds on what is read. The defaults take the largest devices: 200,000 names in one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole envelope. Default 32 MiB.
    pub bytes: usize,
    /// Elements of the whole envelope. Default 1,000,000.
    pub elements: usize,
    /// Elements inside each other. Default 16; the deepest of CWMP is 8.
    pub depth: usize,
    /// Bytes of all attributes of one element. Default 4,096.
    pub attributes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 32 << 20,
            elements: 1_000_000,
            depth: 16,
            attributes: 4096,
        }
    }
}
