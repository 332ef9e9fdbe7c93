//! A home as a picture: the gateway, and a line to each of its devices that says what the cross-check found. Also as a table, which has all of it in words.

use homefleet_api::client::encode;
use homefleet_api::{Association, DeviceSummary, Home, HomeSummary};

use super::device::{Row, name};
use super::when::{Clock, When};

/// Devices that are drawn; the table has the others too.
const DRAWN: usize = 24;
/// The picture's width, in its own units.
const WIDTH: u32 = 1000;
/// A card's size, and the distance between two.
const CARD: (u32, u32) = (400, 58);
const STEP: u32 = 72;
/// The gateway's box.
const GATEWAY: (u32, u32) = (300, 92);
/// Room around everything.
const EDGE: u32 = 14;
/// Longest text on a card, and on the gateway's box, in characters.
const CARD_TEXT: usize = 40;
const BOX_TEXT: usize = 34;

/// A line of the list of homes.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) gateway: Row,
    pub(crate) href: String,
    pub(crate) counts: Vec<(&'static str, &'static str, u32)>,
    pub(crate) listed: Option<u32>,
    pub(crate) checked: Option<When>,
    pub(crate) problem: String,
}

impl Line {
    /// The line of this home.
    pub(crate) fn new(home: &HomeSummary, clock: &Clock) -> Self {
        let counts = &home.devices;
        let all = [
            ("confirmed", "confirmed", counts.confirmed),
            ("checking", "being checked", counts.checking),
            ("refuted", "refuted", counts.refuted),
            ("unverifiable", "unverifiable", counts.unverifiable),
            ("left", "left", counts.left),
        ];
        Self {
            href: home_href(&home.gateway.id),
            gateway: Row::new(&home.gateway, clock),
            counts: all.into_iter().filter(|(.., count)| *count > 0).collect(),
            listed: home.listed,
            checked: home.checked.as_deref().map(|time| clock.when(time)),
            problem: home.problem.clone().unwrap_or_default(),
        }
    }
}

/// A claim that deserves a look.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) device: String,
    pub(crate) href: String,
    pub(crate) status: &'static str,
    pub(crate) says: String,
    pub(crate) says_href: String,
    pub(crate) detail: String,
    pub(crate) since: When,
}

impl Claim {
    /// What a device says, and what was found.
    pub(crate) fn new(found: &Association, clock: &Clock) -> Self {
        Self {
            device: found.device.clone(),
            href: format!("/devices/{}", encode(&found.device)),
            status: found.status.as_str(),
            says: said(found),
            says_href: found.gateway.as_deref().map(home_href).unwrap_or_default(),
            detail: found.detail.clone(),
            since: clock.when(&found.since),
        }
    }
}

/// A home.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) gateway: Row,
    pub(crate) id: String,
    pub(crate) api_check: String,
    pub(crate) fragment: String,
    pub(crate) in_words: String,
    pub(crate) checked: Option<When>,
    pub(crate) problem: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) gateway_box: Frame,
    pub(crate) gateway_name: String,
    pub(crate) gateway_id: String,
    pub(crate) cards: Vec<Card>,
    pub(crate) not_drawn: usize,
    pub(crate) rows: Vec<Member>,
    pub(crate) more: u32,
}

/// A rectangle, and the middle of its height.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// A device in the picture.
#[derive(Debug)]
pub(crate) struct Card {
    pub(crate) frame: Frame,
    /// `confirmed`, `checking`, `refuted`, `unverifiable`, `left`, `elsewhere` or `listed`.
    pub(crate) status: &'static str,
    /// The curve from the gateway.
    pub(crate) line: String,
    /// Where the line's mark is.
    pub(crate) mark: (u32, u32),
    pub(crate) sign: &'static str,
    pub(crate) href: String,
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) title: String,
}

/// A device in the table.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) href: String,
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) status: &'static str,
    pub(crate) status_text: &'static str,
    pub(crate) detail: String,
    pub(crate) since: Option<When>,
}

impl Picture {
    /// The picture of a home.
    pub(crate) fn new(home: &Home, clock: &Clock) -> Self {
        let gateway = &home.summary.gateway;
        let members = home.members.iter().map(|member| {
            let found = &member.association;
            let (status, detail) = if found.gateway.as_deref() == Some(gateway.id.as_str()) {
                (found.status.as_str(), found.detail.clone())
            } else {
                let other = said(found);
                (
                    "elsewhere",
                    format!("confirmed here before; it names {other} now"),
                )
            };
            Member {
                href: format!("/devices/{}", encode(&member.device.id)),
                name: name(&member.device),
                id: member.device.id.clone(),
                status,
                status_text: words(status),
                detail,
                since: Some(clock.when(&found.since)),
            }
        });
        let strangers = home.strangers.iter().map(|stranger| {
            let detail = match stranger.device {
                Some(_) => "the gateway lists it; it does not say so itself",
                None => "the gateway lists it; no such device is known here",
            };
            let id = stranger.device.clone().unwrap_or_default();
            Member {
                href: match &stranger.device {
                    Some(id) => format!("/devices/{}", encode(id)),
                    None => String::new(),
                },
                name: stranger.identity.to_string(),
                id,
                status: "listed",
                status_text: words("listed"),
                detail: detail.to_owned(),
                since: None,
            }
        });
        let rows: Vec<Member> = members.chain(strangers).collect();
        let drawn = rows.len().min(DRAWN);
        let count = u32::try_from(drawn).unwrap_or(1).max(1);
        let height = (2 * EDGE + (count - 1) * STEP + CARD.1).max(2 * EDGE + GATEWAY.1);
        let gateway_box = Frame {
            x: EDGE,
            y: (height - GATEWAY.1) / 2,
            width: GATEWAY.0,
            height: GATEWAY.1,
        };
        // A single card stands in the middle.
        let first = (height - ((count - 1) * STEP + CARD.1)) / 2;
        let cards = rows.iter().take(DRAWN).zip(0..);
        let cards = cards.map(|(row, place)| Card::new(row, gateway_box, first + place * STEP));
        let summary = &home.summary;
        let confirmed = summary.devices.confirmed;
        let in_words = match rows.len() {
            0 => "nobody is behind it, as far as is known".to_owned(),
            1 if confirmed == 1 => "1 device, confirmed".to_owned(),
            all if usize::try_from(confirmed) == Ok(all) => format!("{all} devices, all confirmed"),
            all => format!("{all} devices, {confirmed} confirmed"),
        };
        Self {
            id: gateway.id.clone(),
            api_check: format!("/api/v1/homes/{}/check", encode(&gateway.id)),
            fragment: format!("{}?part=home", home_href(&gateway.id)),
            in_words,
            checked: summary.checked.as_deref().map(|time| clock.when(time)),
            problem: summary.problem.clone().unwrap_or_default(),
            width: WIDTH,
            height,
            gateway_box,
            gateway_name: short(&name(gateway), BOX_TEXT - 4),
            gateway_id: short(&gateway.id, BOX_TEXT),
            gateway: Row::new(gateway, clock),
            cards: cards.collect(),
            not_drawn: rows.len() - drawn,
            rows,
            more: home.more,
        }
    }
}

impl Card {
    fn new(row: &Member, gateway: Frame, y: u32) -> Self {
        let frame = Frame {
            x: WIDTH - EDGE - CARD.0,
            y,
            width: CARD.0,
            height: CARD.1,
        };
        let from = (gateway.x + gateway.width, gateway.y + gateway.height / 2);
        let to = (frame.x, frame.y + frame.height / 2);
        let bend = u32::midpoint(from.0, to.0);
        let line = format!(
            "M{} {}C{bend} {} {bend} {} {} {}",
            from.0, from.1, from.1, to.1, to.0, to.1
        );
        let sign = match row.status {
            "confirmed" => "✓",
            "refuted" => "×",
            "checking" => "…",
            _ => "?",
        };
        Self {
            frame,
            status: row.status,
            line,
            // Near the device, where lines no longer cross.
            mark: (to.0 - 34, to.1),
            sign,
            href: row.href.clone(),
            name: short(&row.name, CARD_TEXT - 6),
            text: short(
                if row.id.is_empty() {
                    row.status_text
                } else {
                    &row.id
                },
                CARD_TEXT,
            ),
            title: format!("{}: {}, {}", row.name, row.status_text, row.detail),
        }
    }
}

/// On the page of a device: the gateway it is behind.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) href: String,
    pub(crate) status: &'static str,
    pub(crate) text: String,
    pub(crate) title: String,
}

impl Place {
    /// Where a device is; `None` when it names no gateway.
    pub(crate) fn new(found: &Association) -> Option<Self> {
        found.claim.as_ref()?;
        let status = found.status.as_str();
        Some(Self {
            href: found
                .gateway
                .as_deref()
                .map_or("/homes".to_owned(), home_href),
            status,
            text: format!(
                "behind {}: {}",
                short(&said(found), BOX_TEXT),
                words(status)
            ),
            title: found.detail.clone(),
        })
    }

    /// The home that a device is the gateway of.
    pub(crate) fn gateway(device: &DeviceSummary) -> Self {
        Self {
            href: home_href(&device.id),
            status: "gateway",
            text: "gateway of a home".to_owned(),
            title: "Shows the devices behind it".to_owned(),
        }
    }
}

/// The page of a home.
pub(crate) fn home_href(gateway: &str) -> String {
    format!("/homes/{}", encode(gateway))
}

/// The gateway that a device names.
fn said(found: &Association) -> String {
    match (&found.gateway, &found.claim) {
        (Some(gateway), _) => gateway.clone(),
        (None, Some(claim)) => match &claim.endpoint_id {
            Some(id) if claim.identity.serial_number.is_empty() => id.clone(),
            _ => claim.identity.to_string(),
        },
        (None, None) => "no gateway".to_owned(),
    }
}

fn words(status: &str) -> &'static str {
    match status {
        "confirmed" => "confirmed",
        "checking" => "being checked",
        "refuted" => "refuted",
        "left" => "left",
        "elsewhere" => "names another",
        "listed" => "listed only",
        _ => "unverifiable",
    }
}

fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let start: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use homefleet_api::{HomeStranger, LocalIdentity};

    use super::*;

    fn home(strangers: u32) -> Home {
        let device = DeviceSummary {
            id: "os::00D09E-GW1".to_owned(),
            label: None,
            oui: None,
            product_class: None,
            serial_number: None,
            manufacturer: None,
            model_name: Some("A gateway with a name that goes on for quite a while".to_owned()),
            software_version: None,
            reachability: homefleet_api::Reachability::Reachable,
            mtp: None,
            address: None,
            first_contact: String::new(),
            last_contact: String::new(),
            open_tasks: 0,
        };
        let strangers = (0..strangers).map(|number| HomeStranger {
            identity: LocalIdentity {
                oui: "00D09E".to_owned(),
                serial_number: number.to_string(),
                product_class: String::new(),
            },
            device: None,
        });
        Home {
            summary: HomeSummary {
                gateway: device,
                devices: Default::default(),
                listed: None,
                checked: None,
                problem: None,
            },
            members: Vec::new(),
            strangers: strangers.collect(),
            more: 0,
        }
    }

    #[test]
    fn everything_is_inside_the_picture_and_no_two_cards_overlap() {
        let clock = Clock::at("2026-11-20T12:00:00Z");
        for count in [0, 1, 2, 3, 24, 100] {
            let picture = Picture::new(&home(count), &clock);
            let frames: Vec<Frame> = picture.cards.iter().map(|card| card.frame).collect();
            for frame in frames.iter().chain([&picture.gateway_box]) {
                assert!(frame.x + frame.width <= picture.width);
                assert!(frame.y + frame.height <= picture.height);
            }
            for pair in frames.windows(2) {
                assert!(pair[0].y + pair[0].height < pair[1].y);
            }
            assert_eq!(picture.cards.len() + picture.not_drawn, count as usize);
            assert_eq!(picture.rows.len(), count as usize);
        }
    }

    #[test]
    fn long_names_are_cut() {
        let picture = Picture::new(&home(0), &Clock::at("2026-11-20T12:00:00Z"));
        assert!(picture.gateway_name.ends_with('…'));
        assert!(picture.gateway_name.chars().count() <= BOX_TEXT);
    }
}
