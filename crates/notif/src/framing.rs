//! Messages in the application data of DTLS records.
//!
//! Up to -25 they are framed: `MSG-LEN SP UDP-NOTIF-MSG`, several in a record, and one may go on in the next record
//! (draft-unyte-netconf-udp-notif-dtls-00 §4.2). In -26 a record is one message, bare (§6.1.2). Records say themselves which: a frame begins
//! with a digit, and the length it says is that of the header behind it. A bare message that looks like that has the S flag, a header of 48
//! to 57 bytes and a length of 8 KiB at least; frames that end exactly where the record does are frames even so.

use crate::header::HEADER_LEN;

/// Digits of the longest message, 65,535 bytes.
const MAX_DIGITS: usize = 5;

/// The beginning of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prefix {
    /// So many bytes of digits and space, and so many of message.
    Whole { prefix: usize, message: usize },
    /// It may go on as one.
    Partial,
    /// It is none.
    Not,
}

/// What a piece of a record is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A message in a frame.
    Framed(&'a [u8]),
    /// A message in a frame that began in an earlier record.
    Joined(Vec<u8>),
    /// The whole record.
    Bare(&'a [u8]),
    /// A frame begins or goes on here and ends in a later record.
    Open,
    /// These bytes are nothing: the rest of the record, or a frame that began in an earlier one and never ended.
    Garbage,
}

/// The frames of one DTLS association.
#[derive(Debug, Default)]
pub(crate) struct Deframer {
    /// A frame that goes on in the next record, from its first digit on.
    open: Vec<u8>,
}

impl Deframer {
    /// Bytes kept.
    pub(crate) fn kept(&self) -> usize {
        self.open.len()
    }

    /// Takes the frame that is open away. Whether there was one.
    pub(crate) fn abandon(&mut self) -> bool {
        !std::mem::take(&mut self.open).is_empty()
    }

    /// Takes the next record apart.
    pub(crate) fn record<'a>(&mut self, record: &'a [u8], mut take: impl FnMut(Piece<'a>)) {
        if record.is_empty() {
            return;
        }
        if !self.open.is_empty() && !self.is_continued(record) {
            // The rest of it was lost: this is a new beginning.
            self.open = Vec::new();
            take(Piece::Garbage);
        }
        let mut rest = record;
        if !self.open.is_empty() {
            self.go_on(&mut rest, &mut take);
        } else if !is_chain(record) && (is_bare(record) || !begins_frame(record)) {
            take(Piece::Bare(record));
            return;
        }
        while !rest.is_empty() {
            match prefix(rest) {
                Prefix::Whole { prefix, message } => {
                    let Some((frame, after)) = rest.split_at_checked(prefix + message) else {
                        self.open = rest.to_vec();
                        take(Piece::Open);
                        return;
                    };
                    take(Piece::Framed(frame.get(prefix..).unwrap_or_default()));
                    rest = after;
                }
                Prefix::Partial => {
                    self.open = rest.to_vec();
                    take(Piece::Open);
                    return;
                }
                Prefix::Not => {
                    take(Piece::Garbage);
                    return;
                }
            }
        }
    }

    /// Whether a record goes on with the open frame: unless it makes sense by itself, and does not make sense behind the number that is open.
    fn is_continued(&self, record: &[u8]) -> bool {
        if !is_chain(record) && !is_bare(record) {
            return true;
        }
        match prefix(&self.open) {
            Prefix::Partial => {
                let mut joined = self.open.clone();
                joined.extend_from_slice(record.get(..HEADER_LEN).unwrap_or(record));
                prefix(&joined) != Prefix::Not
            }
            _ => false,
        }
    }

    /// Adds to the open frame what of the record belongs to it.
    fn go_on<'a>(&mut self, rest: &mut &'a [u8], take: &mut impl FnMut(Piece<'a>)) {
        loop {
            let wanted = match prefix(&self.open) {
                Prefix::Whole { prefix, message } if self.open.len() == prefix + message => {
                    let message = self.open.split_off(prefix);
                    self.open = Vec::new();
                    take(Piece::Joined(message));
                    return;
                }
                Prefix::Whole { prefix, message } => {
                    (prefix + message).saturating_sub(self.open.len())
                }
                // Until its length is known, byte by byte.
                Prefix::Partial => 1,
                Prefix::Not => {
                    self.open = Vec::new();
                    *rest = &[];
                    take(Piece::Garbage);
                    return;
                }
            };
            if rest.is_empty() {
                take(Piece::Open);
                return;
            }
            let (more, after) = rest.split_at(wanted.clamp(1, rest.len()));
            self.open.extend_from_slice(more);
            *rest = after;
        }
    }
}

/// The digits, the space, and as much of the header as there is, which has to say the same length.
fn prefix(bytes: &[u8]) -> Prefix {
    let digits = bytes
        .iter()
        .take(MAX_DIGITS + 1)
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if digits == 0 || digits > MAX_DIGITS || bytes.first() == Some(&b'0') {
        return Prefix::Not;
    }
    let Some((number, after)) = bytes.split_at_checked(digits) else {
        return Prefix::Not;
    };
    let message = number
        .iter()
        .fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    let Some((space, header)) = after.split_first() else {
        return Prefix::Partial;
    };
    if *space != b' ' || !(HEADER_LEN..=usize::from(u16::MAX)).contains(&message) {
        return Prefix::Not;
    }
    match header {
        [first, _, high, low, ..] => {
            let said = usize::from(u16::from_be_bytes([*high, *low]));
            if first >> 5 <= 1 && said == message {
                Prefix::Whole {
                    prefix: digits + 1,
                    message,
                }
            } else {
                Prefix::Not
            }
        }
        _ => Prefix::Partial,
    }
}

fn begins_frame(record: &[u8]) -> bool {
    prefix(record) != Prefix::Not
}

/// Frames that end where the record does.
fn is_chain(mut record: &[u8]) -> bool {
    loop {
        let Prefix::Whole { prefix, message } = prefix(record) else {
            return false;
        };
        match record.get(prefix + message..) {
            Some([]) => return true,
            Some(rest) => record = rest,
            None => return false,
        }
    }
}

/// One message whose length is that of the record.
fn is_bare(record: &[u8]) -> bool {
    match record {
        [first, header, high, low, ..] => {
            first >> 5 <= 1
                && record.len() >= HEADER_LEN
                && (*header < 12 || usize::from(*header) <= record.len())
                && usize::from(u16::from_be_bytes([*high, *low])) == record.len()
        }
        _ => false,
    }
}
