//! The generations of the protocol, and the rules in which they differ.

use std::fmt;

use crate::MediaType;

/// A generation: drafts that write the same header and follow the same rules.
///
/// On the wire three layouts can be told apart (the header of pub-channel, version 0 and version 1); within version 1 nothing in a message
/// says more, so a receiver takes it for what its [`Profile`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Generation {
    /// draft-ietf-netconf-udp-pub-channel-05: a header of its own, received but never published.
    PubChannel,
    /// Drafts -01 to -03: version 0, media types 0 CBOR, 1 JSON, 2 XML.
    Draft03,
    /// Drafts -04 to -06: version 0, media types 1 JSON, 2 XML, 3 CBOR.
    Draft04,
    /// Drafts -07 and -08: version 1; all subscribers share one sequence of Message IDs, as before.
    Draft07,
    /// Drafts -09 to -18: each receiver has its own sequence of Message IDs.
    Draft09,
    /// Drafts -19 to -25: no private encoding option; the segmentation option comes first; Message IDs start at 1.
    Draft19,
    /// Draft -26: Message IDs start anywhere; a message with an unknown option is discarded; one message in a DTLS record.
    Draft26,
}

impl Generation {
    /// All of them, oldest first.
    pub const ALL: [Self; 7] = [
        Self::PubChannel,
        Self::Draft03,
        Self::Draft04,
        Self::Draft07,
        Self::Draft09,
        Self::Draft19,
        Self::Draft26,
    ];

    /// The name used in configurations: `pub-channel`, `draft-03`, `draft-04`, `draft-07`, `draft-09`, `draft-19`, `draft-26`.
    pub fn name(self) -> &'static str {
        match self {
            Self::PubChannel => "pub-channel",
            Self::Draft03 => "draft-03",
            Self::Draft04 => "draft-04",
            Self::Draft07 => "draft-07",
            Self::Draft09 => "draft-09",
            Self::Draft19 => "draft-19",
            Self::Draft26 => "draft-26",
        }
    }

    /// The generation of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|generation| generation.name() == name)
    }

    /// The version in the header: 0 up to -06, 1 from -07 on.
    pub fn version(self) -> u8 {
        u8::from(self >= Self::Draft07)
    }

    /// Whether messages can be written in it: in all but [`Generation::PubChannel`].
    pub fn is_publishable(self) -> bool {
        self != Self::PubChannel
    }

    /// Whether a gap in the Message IDs that one receiver sees is a loss: from -09 on. Before, all subscribers share one sequence.
    pub fn counts_loss(self) -> bool {
        self >= Self::Draft09
    }

    /// Whether the private encoding option exists (-03 to -18).
    pub fn has_private_encoding(self) -> bool {
        (Self::Draft03..=Self::Draft09).contains(&self)
    }

    /// Whether a message with an option that is not known is discarded (-26 §4); before, the option is kept.
    pub fn discards_unknown_options(self) -> bool {
        self >= Self::Draft26
    }

    /// Whether application data in DTLS is framed with a length in digits (`MSG-LEN SP UDP-NOTIF-MSG`); -26 sends messages bare.
    pub fn is_framed(self) -> bool {
        self < Self::Draft26
    }

    /// The Message ID a publisher starts with: 1 up to -25, `random` in -26 (§3.2).
    pub fn first_message_id(self, random: u32) -> u32 {
        if self >= Self::Draft26 { random } else { 1 }
    }

    /// The media type that a code without the S flag means here.
    pub fn media_type(self, code: u8) -> MediaType {
        match (self, code & 0x0F) {
            (Self::PubChannel, 0) => MediaType::Gpb,
            (Self::PubChannel, 1) | (Self::Draft03, 0) => MediaType::Cbor,
            (Self::PubChannel, 2) => MediaType::Json,
            (Self::PubChannel, 3) => MediaType::Xml,
            (Self::PubChannel, code) | (Self::Draft03, code @ 3) => MediaType::Unassigned(code),
            (_, 1) => MediaType::Json,
            (_, 2) => MediaType::Xml,
            (_, 3) => MediaType::Cbor,
            (_, code) => MediaType::Unassigned(code),
        }
    }

    /// The S flag and code of a media type here; `None` if this generation has no such media type.
    pub fn media_code(self, media_type: MediaType) -> Option<(bool, u8)> {
        match media_type {
            MediaType::Private(code) if self != Self::PubChannel => {
                (code <= 0x0F).then_some((true, code))
            }
            MediaType::Private(_) | MediaType::Unassigned(_) => None,
            other => (0..=3)
                .find(|code| self.media_type(*code) == other)
                .map(|code| (false, code)),
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a receiver takes messages of version 1 for, since nothing in them says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Profile {
    /// [`Generation::Draft07`]: no loss is claimed.
    Draft07,
    /// [`Generation::Draft09`]: the private encoding option is read, unknown ones are kept.
    Draft09,
    /// [`Generation::Draft19`]: unknown options are kept.
    Draft19,
    /// [`Generation::Draft26`]: messages with unknown options are discarded.
    #[default]
    Draft26,
}

impl Profile {
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [Self::Draft07, Self::Draft09, Self::Draft19, Self::Draft26];

    /// The generation that messages of version 1 are of.
    pub fn generation(self) -> Generation {
        match self {
            Self::Draft07 => Generation::Draft07,
            Self::Draft09 => Generation::Draft09,
            Self::Draft19 => Generation::Draft19,
            Self::Draft26 => Generation::Draft26,
        }
    }

    /// The profile of this [generation's name](Generation::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.generation().name() == name)
    }
}
