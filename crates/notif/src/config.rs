//! Bounds of a collector.

use std::time::Duration;

use crate::generation::Profile;

/// Most segments a receiver has to take (-26 §5.2).
const LEAST_SEGMENTS: u16 = 64;
/// Longest message a receiver has to take (-26 §5.2).
const LEAST_MESSAGE: usize = 96 * 1024;
/// Longest time that reassembly may take (-26 §5.2).
const LONGEST_REASSEMBLY: Duration = Duration::from_secs(20);

/// What a [`Collector`](crate::Collector) takes, and how much it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectorConfig {
    /// What messages of version 1 are taken for.
    pub profile: Profile,
    /// Message IDs.
    pub window: WindowConfig,
    /// Segments.
    pub reassembly: ReassemblyConfig,
    /// Publishers known at once; at the bound one that has been silent is forgotten. Default 65,536, about 400 bytes each.
    pub max_publishers: usize,
    /// Publisher IDs known of one source; at the bound the one silent for the longest is forgotten. Default 256.
    pub max_publishers_per_source: usize,
    /// Bytes kept of frames that go on in the next DTLS record, over all sessions. Default 16 MiB.
    pub max_frame_bytes: usize,
}

impl Default for CollectorConfig {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            window: WindowConfig::default(),
            reassembly: ReassemblyConfig::default(),
            max_publishers: 65_536,
            max_publishers_per_source: 256,
            max_frame_bytes: 16 << 20,
        }
    }
}

/// The acceptance window of Message IDs (-26 §11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowConfig {
    /// How far below the highest Message ID one is still accepted. Rounded up to a power of two of at least 64, at most 65,536. Default 1024.
    pub reorder: u32,
    /// How far above. Default 1,048,576.
    pub forward: u32,
    /// After how many messages with ascending Message IDs outside the window, nothing else between them, a publisher is taken to have
    /// restarted; those before are dropped and counted. Default 3.
    pub restart_after: u32,
}

impl Default for WindowConfig {
    fn default() -> Self {
        Self {
            reorder: 1024,
            forward: 1 << 20,
            restart_after: 3,
        }
    }
}

impl WindowConfig {
    pub(crate) fn size(&self) -> u32 {
        self.reorder.clamp(64, 65_536).next_power_of_two()
    }
}

/// Bounds of reassembly, over all publishers unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReassemblyConfig {
    /// Bytes held; beyond, the source that holds the most loses its oldest message. Default 64 MiB.
    pub max_bytes: usize,
    /// Bytes held for one source, at least one longest message. Default 16 MiB.
    pub max_source_bytes: usize,
    /// Messages held. Default 16,384.
    pub max_messages: usize,
    /// Segments of one message, at least 64, at most 32,768. Default 1024.
    pub max_segments: u16,
    /// Bytes of one message, at least 96 KiB. Default 1 MiB.
    pub max_message: usize,
    /// Time from a message's first segment to its last, at most 20 s (-26 §5.2). Default 10 s.
    pub timeout: Duration,
}

impl Default for ReassemblyConfig {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            max_source_bytes: 16 << 20,
            max_messages: 16_384,
            max_segments: 1024,
            max_message: 1 << 20,
            timeout: Duration::from_secs(10),
        }
    }
}

impl ReassemblyConfig {
    /// Within what the draft demands at least and at most.
    pub(crate) fn bounded(self) -> Self {
        let max_message = self.max_message.max(LEAST_MESSAGE);
        // A message, the doubling of its buffer and its bookkeeping.
        let least_bytes = max_message.saturating_mul(3);
        Self {
            max_bytes: self.max_bytes.max(least_bytes),
            max_source_bytes: self.max_source_bytes.max(least_bytes),
            max_messages: self.max_messages.max(1),
            max_segments: self.max_segments.clamp(LEAST_SEGMENTS, 0x8000),
            max_message,
            timeout: self.timeout.min(LONGEST_REASSEMBLY),
        }
    }
}
