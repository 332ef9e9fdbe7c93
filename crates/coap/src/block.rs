//! The Block1 and Block2 option value (RFC 7959 §2.2).

use std::fmt;

/// Where in a body a block stands: number, whether more follow, and size exponent.
///
/// On the wire it is an unsigned integer of 0 to 3 bytes: 20 bits NUM, one bit M, three bits SZX.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block {
    /// Block number, 0 to 1,048,575.
    pub num: u32,
    /// More blocks follow.
    pub more: bool,
    /// Size exponent: the block is `2^(szx + 4)` bytes; 7 is reserved (RFC 7959 §2.2).
    pub szx: u8,
}

/// Largest block number: 20 bits (RFC 7959 §2.2).
pub const MAX_NUM: u32 = (1 << 20) - 1;

impl Block {
    /// A block position.
    pub const fn new(num: u32, more: bool, szx: u8) -> Block {
        Block { num, more, szx }
    }

    /// Reads an option value; `None` when it is longer than 3 bytes.
    pub fn decode(value: &[u8]) -> Option<Block> {
        if value.len() > 3 {
            return None;
        }
        let raw = value
            .iter()
            .fold(0u32, |sum, byte| (sum << 8) | u32::from(*byte));
        Some(Block {
            num: raw >> 4,
            more: raw & 8 != 0,
            szx: (raw & 7) as u8,
        })
    }

    /// The option's unsigned integer.
    pub const fn value(self) -> u32 {
        ((self.num & MAX_NUM) << 4) | ((self.more as u32) << 3) | (self.szx & 7) as u32
    }

    /// Whether SZX is the reserved value 7, which is a bad request over UDP (RFC 7959 §2.2).
    pub const fn is_reserved(self) -> bool {
        self.szx >= 7
    }

    /// The block size in bytes, 16 to 1024.
    pub const fn size(self) -> usize {
        16 << if self.szx > 6 { 6 } else { self.szx }
    }

    /// The position of the block's first byte in the body.
    pub const fn offset(self) -> usize {
        self.num as usize * self.size()
    }

    /// The largest size exponent whose block is no longer than `size` bytes (at least 16).
    pub const fn szx_for(size: usize) -> u8 {
        let mut szx = 6;
        while szx > 0 && (16usize << szx) > size {
            szx -= 1;
        }
        szx
    }
}

impl fmt::Display for Block {
    /// `NUM/M/size`, the notation of RFC 7959 §3.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.num, u8::from(self.more), self.size())
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
