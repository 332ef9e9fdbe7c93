//! The receiver of messages, without I/O: what is whole and new comes out, everything else is counted.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Instant;

use crate::config::CollectorConfig;
use crate::error::Reason;
use crate::framing::{Deframer, Piece};
use crate::generation::Generation;
use crate::header::{Header, Message};
use crate::media_type::MediaType;
use crate::options::Segment;
use crate::reassembly::{GivenUp, MessageKey, Reassembly, Taken};
use crate::source::Source;
use crate::stats::{Counters, Stats};
use crate::window::{Arrival, Window};

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// Its header, without segmentation.
    pub header: Header,
    /// The description of a private encoding.
    pub private_encoding: Option<Cow<'a, [u8]>>,
    /// The notification message: a part of the datagram, unless it was put together.
    pub payload: Cow<'a, [u8]>,
}

/// What is known of one publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublisherRecord {
    /// Where it sends from.
    pub source: Source,
    /// Message Publisher ID.
    pub publisher_id: u32,
    /// Generation of the last message.
    pub generation: Generation,
    /// Media type of the last message.
    pub media_type: MediaType,
    /// When it was first heard.
    pub first_heard: Instant,
    /// When it was last heard.
    pub last_heard: Instant,
    /// What it sent.
    pub counters: Counters,
}

#[derive(Debug)]
struct Entry {
    publisher_id: u32,
    generation: Generation,
    media_type: MediaType,
    first_heard: Instant,
    last_heard: Instant,
    window: Window,
    counters: Counters,
}

impl Entry {
    /// The counters with what the window knows.
    fn counters(&self) -> Counters {
        let mut counters = self.counters;
        if self.generation.counts_loss() {
            counters.lost = self.window.lost();
            counters.missing = self.window.missing().into();
        }
        counters
    }

    /// The same when nothing more is expected.
    fn last_counters(&self) -> Counters {
        let mut counters = self.counters();
        counters.lost += std::mem::take(&mut counters.missing);
        counters
    }
}

/// The publishers of one source.
#[derive(Debug)]
struct SourceState {
    source: Source,
    entries: Vec<Entry>,
    /// Heard since the hand of the clock passed.
    heard: bool,
}

/// Takes datagrams and DTLS records of any number of sources. Time is an argument; drive it by calling [`Collector::handle_timeout`] at
/// [`Collector::poll_timeout`].
#[derive(Debug)]
pub struct Collector {
    config: CollectorConfig,
    reassembly: Reassembly,
    sources: Vec<SourceState>,
    by_source: HashMap<Source, usize>,
    /// The source heard last: it is often the next one too.
    last: usize,
    /// Where the search for a silent source goes on.
    hand: usize,
    publishers: usize,
    deframers: HashMap<Source, Deframer>,
    frame_bytes: usize,
    skipped: u64,
    /// What publishers counted that are forgotten.
    forgotten: Counters,
    stats: Stats,
}

impl Collector {
    /// An empty collector.
    pub fn new(config: CollectorConfig) -> Self {
        Self {
            config: CollectorConfig {
                max_publishers: config.max_publishers.max(1),
                max_publishers_per_source: config.max_publishers_per_source.max(1),
                ..config
            },
            reassembly: Reassembly::new(config.reassembly),
            sources: Vec::new(),
            by_source: HashMap::new(),
            last: 0,
            hand: 0,
            publishers: 0,
            deframers: HashMap::new(),
            frame_bytes: 0,
            skipped: 0,
            forgotten: Counters::default(),
            stats: Stats::default(),
        }
    }

    /// Takes a datagram. A message comes out if this one is whole, or makes one whole.
    pub fn handle_datagram<'a>(
        &mut self,
        now: Instant,
        source: Source,
        datagram: &'a [u8],
    ) -> Option<Delivery<'a>> {
        self.stats.datagrams += 1;
        self.handle_message(now, source, datagram)
    }

    /// Takes the application data of one DTLS record, whichever way its messages are in it.
    pub fn handle_record<'a>(
        &mut self,
        now: Instant,
        source: Source,
        record: &'a [u8],
        mut take: impl FnMut(Delivery<'a>),
    ) {
        self.stats.datagrams += 1;
        let mut deframer = match self.deframers.remove(&source) {
            Some(deframer) => {
                self.frame_bytes -= deframer.kept();
                deframer
            }
            None => Deframer::default(),
        };
        let mut framed = false;
        deframer.record(record, |piece| match piece {
            Piece::Bare(message) => {
                // A frame that is wrong from its first byte on.
                let wrong = message
                    .first()
                    .is_some_and(|byte| (b'1'..=b'9').contains(byte));
                if wrong && Message::decode(message, self.config.profile).is_err() {
                    self.stats.refuse(Reason::Framing);
                    return;
                }
                self.stats.bare_records += 1;
                if let Some(delivery) = self.handle_message(now, source, message) {
                    take(delivery);
                }
            }
            Piece::Framed(message) => {
                framed = true;
                if let Some(delivery) = self.handle_message(now, source, message) {
                    take(delivery);
                }
            }
            Piece::Joined(message) => {
                framed = true;
                if let Some(delivery) = self.handle_message(now, source, &message) {
                    take(delivery.into_owned());
                }
            }
            Piece::Open => framed = true,
            Piece::Garbage => self.stats.refuse(Reason::Framing),
        });
        self.stats.framed_records += u64::from(framed);
        if deframer.kept() > 0 {
            if self.frame_bytes + deframer.kept() > self.config.max_frame_bytes {
                self.stats.refuse(Reason::Framing);
                return;
            }
            self.frame_bytes += deframer.kept();
            self.deframers.insert(source, deframer);
        }
    }

    fn handle_message<'a>(
        &mut self,
        now: Instant,
        source: Source,
        datagram: &'a [u8],
    ) -> Option<Delivery<'a>> {
        self.stats.messages += 1;
        let message = match Message::decode(datagram, self.config.profile) {
            Ok(message) => message,
            Err(error) => {
                self.stats.refuse(error.reason());
                if let Some(header) = error.header(datagram, self.config.profile) {
                    self.note_refused(now, source, &header);
                }
                return None;
            }
        };
        if let MediaType::Unassigned(_) = message.header.media_type {
            self.stats.refuse(Reason::MediaType);
            self.note_refused(now, source, &message.header);
            return None;
        }
        if let Some(segment) = message.header.segment {
            return self.handle_segment(now, source, &message, segment);
        }
        let entry = self.entry(now, source, &message.header);
        let (arrival, skipped) = note(entry, message.header.message_id);
        match arrival {
            Arrival::Duplicate => {
                entry.counters.duplicate += 1;
                return None;
            }
            Arrival::OutOfWindow => {
                entry.counters.out_of_window += 1;
                return None;
            }
            _ => {}
        }
        entry.counters.received += 1;
        entry.counters.bytes += message.payload.len() as u64;
        self.skipped += skipped;
        let private_encoding = if message.options.as_bytes().is_empty() {
            None
        } else {
            message.private_encoding().map(Cow::Borrowed)
        };
        Some(Delivery {
            header: message.header,
            private_encoding,
            payload: Cow::Borrowed(message.payload),
        })
    }

    fn handle_segment<'a>(
        &mut self,
        now: Instant,
        source: Source,
        message: &Message<'a>,
        segment: Segment,
    ) -> Option<Delivery<'a>> {
        let header = message.header;
        let key = MessageKey {
            source,
            publisher_id: header.publisher_id,
            message_id: header.message_id,
        };
        if self.reassembly.next_timeout().is_some_and(|due| due <= now) {
            self.handle_timeout(now);
        }
        let pending = self.reassembly.is_pending(&key);
        let entry = self.entry(now, source, &header);
        if !pending {
            let (arrival, skipped) = note(entry, header.message_id);
            match arrival {
                Arrival::Duplicate => {
                    entry.counters.late_segments += 1;
                    return None;
                }
                Arrival::OutOfWindow => {
                    entry.counters.out_of_window += 1;
                    return None;
                }
                _ => self.skipped += skipped,
            }
        }
        let taken = self.reassembly.take(now, key, message, segment);
        let entry = self.entry(now, source, &header);
        let counters = &mut entry.counters;
        let whole = match taken {
            Taken::Kept => {
                counters.segments += 1;
                counters.pending += u64::from(!pending);
                None
            }
            Taken::Whole(whole) => {
                counters.segments += 1;
                counters.pending -= u64::from(pending);
                counters.received += 1;
                counters.bytes += whole.payload.len() as u64;
                Some(whole)
            }
            Taken::Duplicate => {
                counters.duplicate_segments += 1;
                None
            }
            Taken::Overlap => {
                counters.overlapping_segments += 1;
                None
            }
            Taken::Beyond => {
                counters.pending -= u64::from(pending);
                counters.incomplete += u64::from(pending);
                counters.refused += u64::from(!pending);
                self.stats.refuse(Reason::Bounds);
                None
            }
        };
        self.note_given_up();
        let whole = whole?;
        Some(Delivery {
            header: Header {
                segment: None,
                ..header
            },
            private_encoding: whole.private_encoding.map(Cow::Owned),
            payload: Cow::Owned(whole.payload),
        })
    }

    /// Gives up messages whose segments did not come in time.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.reassembly.handle_timeout(now);
        self.note_given_up();
    }

    /// When [`Collector::handle_timeout`] is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.reassembly.next_timeout()
    }

    /// Forgets a source, as when its DTLS association is over. What it sent stays counted; what was incomplete is given up.
    pub fn forget(&mut self, source: Source) {
        if let Some(mut deframer) = self.deframers.remove(&source) {
            self.frame_bytes -= deframer.kept();
            if deframer.abandon() {
                self.stats.refuse(Reason::Framing);
            }
        }
        if let Some(index) = self.by_source.get(&source).copied() {
            self.remove_source(index);
        }
    }

    /// Every publisher known.
    pub fn publishers(&self) -> impl Iterator<Item = PublisherRecord> {
        self.sources.iter().flat_map(|state| {
            state.entries.iter().map(|entry| PublisherRecord {
                source: state.source,
                publisher_id: entry.publisher_id,
                generation: entry.generation,
                media_type: entry.media_type,
                first_heard: entry.first_heard,
                last_heard: entry.last_heard,
                counters: entry.counters(),
            })
        })
    }

    /// Message IDs ever found to be skipped, where that is a loss unless they come later.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats;
        stats.totals = self.forgotten;
        for state in &self.sources {
            for entry in &state.entries {
                stats.totals += entry.counters();
            }
        }
        stats.publishers = self.publishers as u64;
        stats.reassembly_bytes = self.reassembly.bytes() as u64;
        stats
    }

    /// A message that arrived and is refused is no loss.
    fn note_refused(&mut self, now: Instant, source: Source, header: &Header) {
        let key = MessageKey {
            source,
            publisher_id: header.publisher_id,
            message_id: header.message_id,
        };
        if self.reassembly.is_pending(&key) {
            return;
        }
        let entry = self.entry(now, source, header);
        let (arrival, skipped) = note(entry, header.message_id);
        match arrival {
            Arrival::Duplicate => entry.counters.duplicate += 1,
            Arrival::OutOfWindow => entry.counters.out_of_window += 1,
            _ => {
                entry.counters.refused += 1;
                self.skipped += skipped;
            }
        }
    }

    fn note_given_up(&mut self) {
        for (key, why) in self.reassembly.take_given_up() {
            match why {
                GivenUp::TimedOut => self.stats.timed_out += 1,
                GivenUp::Crowded => self.stats.crowded_out += 1,
            }
            let entry = self
                .by_source
                .get(&key.source)
                .and_then(|&index| self.sources.get_mut(index))
                .and_then(|state| {
                    let mut entries = state.entries.iter_mut();
                    entries.find(|entry| entry.publisher_id == key.publisher_id)
                });
            let counters = match entry {
                Some(entry) => &mut entry.counters,
                None => &mut self.forgotten,
            };
            counters.pending -= 1;
            counters.incomplete += 1;
        }
    }

    /// The publisher of a message; a new one's window begins just before it.
    fn entry(&mut self, now: Instant, source: Source, header: &Header) -> &mut Entry {
        let at = match self.sources.get(self.last) {
            Some(state) if state.source == source => self.last,
            _ => match self.by_source.get(&source) {
                Some(&index) => index,
                None => self.add_source(source),
            },
        };
        let found = self.sources.get(at).and_then(|state| {
            let mut entries = state.entries.iter();
            entries.position(|entry| entry.publisher_id == header.publisher_id)
        });
        let (at, index) = match found {
            Some(index) => (at, index),
            None => self.add_entry(now, source, header),
        };
        self.last = at;
        let state = &mut self.sources[at];
        state.heard = true;
        let entry = &mut state.entries[index];
        entry.last_heard = now;
        entry.generation = header.generation;
        entry.media_type = header.media_type;
        entry
    }

    fn add_source(&mut self, source: Source) -> usize {
        let index = self.sources.len();
        self.sources.push(SourceState {
            source,
            entries: Vec::new(),
            heard: true,
        });
        self.by_source.insert(source, index);
        index
    }

    fn add_entry(&mut self, now: Instant, source: Source, header: &Header) -> (usize, usize) {
        while self.publishers >= self.config.max_publishers {
            if !self.evict(&source) {
                break;
            }
        }
        // Others may have moved.
        let at = match self.by_source.get(&source) {
            Some(&index) => index,
            None => self.add_source(source),
        };
        let state = &mut self.sources[at];
        if state.entries.len() >= self.config.max_publishers_per_source {
            let entries = state.entries.iter().enumerate();
            if let Some((silent, entry)) = entries.min_by_key(|(_, entry)| entry.last_heard) {
                self.reassembly.forget(&source, Some(entry.publisher_id));
                self.note_given_up();
                let entry = self.sources[at].entries.swap_remove(silent);
                self.forgotten += entry.last_counters();
                self.publishers -= 1;
                self.stats.publishers_evicted += 1;
            }
        }
        let state = &mut self.sources[at];
        state.entries.push(Entry {
            publisher_id: header.publisher_id,
            generation: header.generation,
            media_type: header.media_type,
            first_heard: now,
            last_heard: now,
            // The first message is one step ahead of nothing.
            window: Window::before(&self.config.window, header.message_id),
            counters: Counters::default(),
        });
        self.publishers += 1;
        (at, self.sources[at].entries.len() - 1)
    }

    /// Forgets a source that was not heard while the hand of the clock went round once, other than this one.
    fn evict(&mut self, except: &Source) -> bool {
        for _ in 0..2 * self.sources.len() + 1 {
            if self.hand >= self.sources.len() {
                self.hand = 0;
            }
            let Some(state) = self.sources.get_mut(self.hand) else {
                return false;
            };
            if state.source == *except || std::mem::take(&mut state.heard) {
                self.hand += 1;
                continue;
            }
            self.stats.publishers_evicted += state.entries.len() as u64;
            self.remove_source(self.hand);
            return true;
        }
        false
    }

    fn remove_source(&mut self, index: usize) {
        if let Some(state) = self.sources.get(index) {
            self.reassembly.forget(&state.source, None);
            self.note_given_up();
        }
        let state = self.sources.swap_remove(index);
        self.by_source.remove(&state.source);
        self.publishers -= state.entries.len();
        for entry in &state.entries {
            self.forgotten += entry.last_counters();
        }
        if let Some(moved) = self.sources.get(index) {
            self.by_source.insert(moved.source, index);
        }
    }
}

/// What a Message ID is to its publisher. Whether the message is to be taken; else it is counted. How many IDs are skipped by it, too.
fn note(entry: &mut Entry, message_id: u32) -> (Arrival, u64) {
    let gaps = |window: &Window| window.lost() + u64::from(window.missing());
    let before = gaps(&entry.window);
    let arrival = entry.window.note(message_id);
    match arrival {
        Arrival::New => {}
        Arrival::Reordered => entry.counters.reordered += 1,
        Arrival::Restarted => entry.counters.restarted += 1,
        Arrival::Duplicate | Arrival::OutOfWindow => return (arrival, 0),
    }
    let skipped = if entry.generation.counts_loss() {
        gaps(&entry.window).saturating_sub(before)
    } else {
        0
    };
    (arrival, skipped)
}

impl Delivery<'_> {
    /// The same, on its own.
    pub fn into_owned(self) -> Delivery<'static> {
        Delivery {
            header: self.header,
            private_encoding: self
                .private_encoding
                .map(|text| Cow::Owned(text.into_owned())),
            payload: Cow::Owned(self.payload.into_owned()),
        }
    }
}
