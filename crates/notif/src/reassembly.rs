//! Putting messages together from their segments (-26 §4.1, §5.2), within bounds.
//!
//! Every message belongs to a source, and where there is no room the source that holds the most gives way. What a source sends can cost
//! other sources nothing until it holds as little as they do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use crate::config::ReassemblyConfig;
use crate::header::{Header, Message};
use crate::options::Segment;
use crate::source::Source;

/// Bytes that a message takes beside its contents, about.
const MESSAGE_OVERHEAD: usize = 512;

/// Names a message under reassembly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct MessageKey {
    pub(crate) source: Source,
    pub(crate) publisher_id: u32,
    pub(crate) message_id: u32,
}

/// What became of a segment.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It is kept.
    Kept,
    /// It was the last one missing.
    Whole(Whole),
    /// It was there.
    Duplicate,
    /// It contradicts what is there.
    Overlap,
    /// The message is longer than allowed, in bytes or segments, and given up.
    Beyond,
}

/// A message put together.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) private_encoding: Option<Vec<u8>>,
    pub(crate) payload: Vec<u8>,
}

/// Why a message was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GivenUp {
    TimedOut,
    Crowded,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    number: u16,
    start: usize,
    len: usize,
}

#[derive(Debug)]
struct Pending {
    key: MessageKey,
    deadline: Instant,
    header: Header,
    private_encoding: Option<Vec<u8>>,
    /// Contents of the segments as they came.
    data: Vec<u8>,
    parts: Vec<Part>,
    /// Numbers that came.
    seen: Vec<u64>,
    highest: u16,
    /// Set when the last segment came.
    last: Option<u16>,
    in_order: bool,
    /// Bytes accounted for.
    accounted: usize,
}

impl Pending {
    fn weight(&self) -> usize {
        MESSAGE_OVERHEAD
            + self.data.capacity()
            + self.parts.capacity() * size_of::<Part>()
            + self.seen.capacity() * 8
            + self.private_encoding.as_ref().map_or(0, Vec::capacity)
    }

    fn part(&self, number: u16) -> Option<&[u8]> {
        let word = self.seen.get(usize::from(number / 64))?;
        if word & (1 << (number % 64)) == 0 {
            return None;
        }
        let part = self.parts.iter().find(|part| part.number == number)?;
        self.data.get(part.start..part.start + part.len)
    }

    fn contradicts(&self, header: &Header, segment: Segment) -> bool {
        let beyond = match self.last {
            Some(last) => segment.number > last || (segment.last && segment.number != last),
            None => segment.last && segment.number < self.highest,
        };
        beyond
            || header.media_type != self.header.media_type
            || header.generation != self.header.generation
    }

    fn add(&mut self, segment: Segment, payload: &[u8]) {
        let word = usize::from(segment.number / 64);
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        if let Some(word) = self.seen.get_mut(word) {
            *word |= 1 << (segment.number % 64);
        }
        self.in_order &= usize::from(segment.number) == self.parts.len();
        self.highest = self.highest.max(segment.number);
        if segment.last {
            self.last = Some(segment.number);
        }
        self.parts.push(Part {
            number: segment.number,
            start: self.data.len(),
            len: payload.len(),
        });
        self.data.extend_from_slice(payload);
    }

    fn is_whole(&self) -> bool {
        self.last
            .is_some_and(|last| self.parts.len() == usize::from(last) + 1)
    }

    fn join(mut self) -> Whole {
        let payload = if self.in_order {
            self.data
        } else {
            self.parts.sort_unstable_by_key(|part| part.number);
            let mut payload = Vec::with_capacity(self.data.len());
            for part in &self.parts {
                payload.extend_from_slice(
                    self.data
                        .get(part.start..part.start + part.len)
                        .unwrap_or_default(),
                );
            }
            payload
        };
        Whole {
            private_encoding: self.private_encoding,
            payload,
        }
    }
}

/// What a source holds.
#[derive(Debug, Default)]
struct Load {
    bytes: usize,
    /// Its messages, the oldest first.
    messages: BTreeSet<u64>,
}

/// Messages waiting for segments.
#[derive(Debug)]
pub(crate) struct Reassembly {
    config: ReassemblyConfig,
    next: u64,
    by_key: HashMap<MessageKey, u64>,
    /// In the order in which they began, and therefore in which they end.
    pending: BTreeMap<u64, Pending>,
    loads: HashMap<Source, Load>,
    by_load: BTreeSet<(usize, Source)>,
    bytes: usize,
    given_up: Vec<(MessageKey, GivenUp)>,
}

impl Reassembly {
    pub(crate) fn new(config: ReassemblyConfig) -> Self {
        Self {
            config: config.bounded(),
            next: 0,
            by_key: HashMap::new(),
            pending: BTreeMap::new(),
            loads: HashMap::new(),
            by_load: BTreeSet::new(),
            bytes: 0,
            given_up: Vec::new(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_pending(&self, key: &MessageKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// When the oldest message is given up.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.pending
            .first_key_value()
            .map(|(_, pending)| pending.deadline)
    }

    /// Messages given up since the last call.
    pub(crate) fn take_given_up(&mut self) -> Vec<(MessageKey, GivenUp)> {
        std::mem::take(&mut self.given_up)
    }

    /// Takes a segment; of a message that is not pending it is the first one.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        key: MessageKey,
        message: &Message<'_>,
        segment: Segment,
    ) -> Taken {
        let payload = message.payload;
        let room = self.config.max_message;
        if let Some(&id) = self.by_key.get(&key) {
            let Some(pending) = self.pending.get_mut(&id) else {
                return Taken::Overlap;
            };
            if let Some(there) = pending.part(segment.number) {
                let same = there == payload && !pending.contradicts(&message.header, segment);
                return if same {
                    Taken::Duplicate
                } else {
                    Taken::Overlap
                };
            }
            if pending.contradicts(&message.header, segment) {
                return Taken::Overlap;
            }
            if segment.number >= self.config.max_segments
                || pending.data.len() + payload.len() > room
            {
                self.remove(id);
                return Taken::Beyond;
            }
            if segment.number == 0 {
                pending.private_encoding = message.private_encoding().map(<[u8]>::to_vec);
            }
            pending.add(segment, payload);
            if pending.is_whole() {
                return match self.remove(id) {
                    Some(pending) => Taken::Whole(pending.join()),
                    None => Taken::Overlap,
                };
            }
            self.account(key.source, id);
            return Taken::Kept;
        }
        if segment.number >= self.config.max_segments || payload.len() > room {
            return Taken::Beyond;
        }
        let mut pending = Pending {
            key,
            deadline: now + self.config.timeout,
            header: message.header,
            private_encoding: message.private_encoding().map(<[u8]>::to_vec),
            data: Vec::new(),
            parts: Vec::new(),
            seen: Vec::new(),
            highest: 0,
            last: None,
            in_order: true,
            accounted: 0,
        };
        pending.add(segment, payload);
        if pending.is_whole() {
            return Taken::Whole(pending.join());
        }
        let id = self.next;
        self.next += 1;
        self.by_key.insert(key, id);
        self.pending.insert(id, pending);
        self.account(key.source, id);
        Taken::Kept
    }

    /// Gives up what has waited for too long.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some((&id, pending)) = self.pending.first_key_value() {
            if pending.deadline > now {
                return;
            }
            self.give_up(id, GivenUp::TimedOut);
        }
    }

    /// Gives up everything of a source, or of one publisher there.
    pub(crate) fn forget(&mut self, source: &Source, publisher_id: Option<u32>) {
        let Some(load) = self.loads.get(source) else {
            return;
        };
        let ids: Vec<u64> = load.messages.iter().copied().collect();
        for id in ids {
            let of_it = self.pending.get(&id).is_some_and(|pending| {
                publisher_id.is_none_or(|publisher_id| pending.key.publisher_id == publisher_id)
            });
            if of_it {
                self.give_up(id, GivenUp::Crowded);
            }
        }
    }

    fn give_up(&mut self, id: u64, why: GivenUp) {
        if let Some(pending) = self.remove(id) {
            self.given_up.push((pending.key, why));
        }
    }

    fn make_room(&mut self, source: Source) {
        while let Some(load) = self.loads.get(&source)
            && load.bytes > self.config.max_source_bytes
            && let Some(&oldest) = load.messages.first()
        {
            self.give_up(oldest, GivenUp::Crowded);
        }
        while (self.bytes > self.config.max_bytes || self.pending.len() > self.config.max_messages)
            && let Some((_, heaviest)) = self.by_load.last()
            && let Some(&oldest) = self
                .loads
                .get(heaviest)
                .and_then(|load| load.messages.first())
        {
            self.give_up(oldest, GivenUp::Crowded);
        }
    }

    /// Accounts for what a message takes by now, and has others give way.
    fn account(&mut self, source: Source, id: u64) {
        let Some(pending) = self.pending.get_mut(&id) else {
            return;
        };
        let weight = pending.weight();
        let more = weight.saturating_sub(pending.accounted);
        if more == 0 {
            return;
        }
        pending.accounted = weight;
        let load = self.loads.entry(source).or_default();
        self.by_load.remove(&(load.bytes, source));
        load.bytes += more;
        load.messages.insert(id);
        self.by_load.insert((load.bytes, source));
        self.bytes += more;
        self.make_room(source);
    }

    fn remove(&mut self, id: u64) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        self.by_key.remove(&pending.key);
        let source = pending.key.source;
        if let Some(load) = self.loads.get_mut(&source) {
            self.by_load.remove(&(load.bytes, source));
            load.messages.remove(&id);
            load.bytes -= pending.accounted;
            if load.messages.is_empty() {
                self.loads.remove(&source);
            } else {
                self.by_load.insert((load.bytes, source));
            }
        }
        self.bytes -= pending.accounted;
        Some(pending)
    }
}
