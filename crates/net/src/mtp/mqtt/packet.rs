//! The packets of both versions as one kind, over the library's codec.
//!
//! Packets are cut out of the stream here, within a bound, and only whole ones reach the library. What it does otherwise than
//! MQTT asks is put right here: it takes a DISCONNECT of one byte (MQTT 5.0 §3.14.2.1) for an incomplete one and writes a wrong
//! one, and it looks at no flags of the fixed header.

use bytes::{BufMut, Bytes, BytesMut};
use rumqttc::mqttbytes::{self as bytes4, v4};
use rumqttc::v5::mqttbytes::{self as bytes5, v5};

use homefleet_usp::mtp::mqtt::{self as usp, MqttVersion, Qos, Subscription};

use super::settings::{LastWill, MqttClient};

/// The largest packet before CONNACK, in bytes: nothing but CONNACK comes then.
pub(super) const MAX_FIRST: usize = 65_536;

/// Reason codes of DISCONNECT (MQTT 5.0 §3.14.2.1).
pub(super) mod reason {
    pub(crate) const NORMAL: u8 = 0x00;
    pub(crate) const MALFORMED: u8 = 0x81;
    pub(crate) const PROTOCOL: u8 = 0x82;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x93;
    pub(crate) const TOPIC_ALIAS: u8 = 0x94;
    pub(crate) const TOO_LARGE: u8 = 0x95;
}

/// What the broker did wrong. The connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// Bytes that are no packet.
    #[error("the broker sent what is no MQTT packet: {0}")]
    Malformed(String),
    /// A packet that does not belong here.
    #[error("the broker sent {0}")]
    Protocol(String),
    /// More than Receive Maximum.
    #[error("the broker sent more than {0} PUBLISH at once")]
    ReceiveMaximum(usize),
    /// A topic alias, which we allow none of.
    #[error("the broker used a topic alias")]
    TopicAlias,
    /// Larger than Maximum Packet Size.
    #[error("the broker sent a packet of {length} bytes, at most {max} are taken")]
    TooLarge {
        /// What its header says.
        length: usize,
        /// The bound.
        max: usize,
    },
}

impl Fault {
    /// The reason code that DISCONNECT tells.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Malformed(_) => reason::MALFORMED,
            Self::Protocol(_) => reason::PROTOCOL,
            Self::ReceiveMaximum(_) => reason::RECEIVE_MAXIMUM,
            Self::TopicAlias => reason::TOPIC_ALIAS,
            Self::TooLarge { .. } => reason::TOO_LARGE,
        }
    }
}

/// The four acknowledgements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ack {
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
}

/// What an acknowledgement says about the PUBLISH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Taken,
    /// The broker took it, and has nobody to give it to: it is gone (MQTT 5.0 §3.4.2.1).
    Nobody,
    /// Why the broker refuses it.
    Refused(String),
}

/// A packet from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    Connack(Connack),
    Publish(Publish),
    Ack(Ack, u16, Verdict),
    /// For each filter, whether it is granted.
    Suback(u16, Vec<bool>),
    Unsuback(u16),
    Pong,
    /// The broker ends the connection; why.
    Disconnect(String),
}

/// CONNACK.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Connack {
    /// Why the broker refuses; `None` when it takes us.
    pub(super) refused: Option<String>,
    pub(super) session_present: bool,
    /// What USP reads.
    pub(super) usp: usp::Connack,
    pub(super) server_keep_alive: Option<u16>,
    pub(super) receive_maximum: Option<u16>,
    pub(super) maximum_packet_size: Option<u32>,
}

/// An incoming PUBLISH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Publish {
    pub(super) topic: String,
    pub(super) qos: Qos,
    /// 0 with QoS 0.
    pub(super) id: u16,
    pub(super) content_type: Option<String>,
    pub(super) response_topic: Option<String>,
    pub(super) payload: Bytes,
}

/// Cuts the next packet out of what was read; `None` while it is not whole. Nothing is reserved for what a header promises.
pub(super) fn take(input: &mut BytesMut, max: usize) -> Result<Option<BytesMut>, Fault> {
    let mut length = 0;
    for index in 0..4 {
        let Some(byte) = input.get(1 + index) else {
            return Ok(None);
        };
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let whole = 2 + index + length;
            if whole > max {
                return Err(Fault::TooLarge { length: whole, max });
            }
            return Ok((input.len() >= whole).then(|| input.split_to(whole)));
        }
    }
    Err(Fault::Malformed("a length of more than 4 bytes".to_owned()))
}

/// Both ways between packets and bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codec {
    pub(super) version: MqttVersion,
}

impl Codec {
    /// One whole packet.
    pub(super) fn decode(self, mut frame: BytesMut) -> Result<Packet, Fault> {
        let first = frame.first().copied().unwrap_or_default();
        let flags = match first >> 4 {
            3 => first & 0x0F,
            6 | 8 | 10 => 0x02,
            _ => 0,
        };
        if first & 0x0F != flags {
            return Err(Fault::Malformed(format!("flags in {first:#04x}")));
        }
        if self.version != MqttVersion::V5 {
            return decode4(&mut frame);
        }
        if first >> 4 == 14 {
            match frame.as_ref() {
                [_, 0] => return Ok(Packet::Disconnect(text5(reason::NORMAL))),
                [_, 1, code] => return Ok(Packet::Disconnect(text5(*code))),
                _ => {}
            }
        }
        if let [0x20, 2, _, code] = frame.as_ref() {
            // What a broker of MQTT 3.1.1 answers.
            return Ok(Packet::Connack(Connack {
                refused: Some(if *code == 1 {
                    "it does not speak MQTT 5.0".to_owned()
                } else {
                    text5(*code)
                }),
                ..Connack::default()
            }));
        }
        decode5(&mut frame)
    }

    /// CONNECT.
    pub(super) fn connect(
        self,
        settings: &MqttClient,
        connect: usp::Connect,
        receive_maximum: u16,
        maximum_packet_size: u32,
        out: &mut BytesMut,
    ) -> Result<(), String> {
        let (name, password) = connect.login.unwrap_or_default();
        let login = !name.is_empty();
        if self.version != MqttVersion::V5 {
            let packet = v4::Connect {
                protocol: bytes4::Protocol::V4,
                keep_alive: connect.keep_alive,
                client_id: connect.client_id,
                clean_session: settings.clean_start,
                last_will: settings.will.as_ref().map(will4),
                login: login.then(|| v4::Login::new(name, password)),
            };
            return written(packet.write(out));
        }
        let mut user_properties = connect.user_properties;
        user_properties.extend(settings.user_properties.iter().cloned());
        let packet = v5::Connect {
            keep_alive: connect.keep_alive,
            client_id: connect.client_id,
            clean_start: settings.clean_start,
            properties: Some(v5::ConnectProperties {
                session_expiry_interval: (settings.session_expiry > 0)
                    .then_some(settings.session_expiry),
                receive_maximum: Some(receive_maximum),
                max_packet_size: Some(maximum_packet_size),
                topic_alias_max: Some(0),
                request_response_info: Some(u8::from(
                    connect.request_response_information && settings.request_response_info,
                )),
                request_problem_info: Some(u8::from(settings.request_problem_info)),
                user_properties,
                authentication_method: None,
                authentication_data: None,
            }),
        };
        let will = settings.will.as_ref().map(will5);
        let login = login.then(|| v5::Login::new(name, password));
        written(packet.write(&will, &login, out))
    }

    /// SUBSCRIBE. Nothing that is retained is asked for with MQTT 5.0: a Record of long ago is none for us.
    pub(super) fn subscribe(self, id: u16, wanted: &[Subscription], out: &mut BytesMut) {
        // The filters are checked; what is left is a length that no bound of ours reaches.
        if self.version == MqttVersion::V5 {
            let filters = wanted.iter().map(|subscription| v5::Filter {
                retain_forward_rule: v5::RetainForwardRule::Never,
                ..v5::Filter::new(&subscription.filter, qos5(subscription.qos))
            });
            let mut packet = v5::Subscribe::new_many(filters, None);
            packet.pkid = id;
            let _checked = packet.write(out);
        } else {
            let filters = wanted.iter().map(|subscription| {
                v4::SubscribeFilter::new(subscription.filter.clone(), qos4(subscription.qos))
            });
            let mut packet = v4::Subscribe::new_many(filters);
            packet.pkid = id;
            let _checked = packet.write(out);
        }
    }

    /// UNSUBSCRIBE.
    pub(super) fn unsubscribe(self, id: u16, filters: Vec<String>, out: &mut BytesMut) {
        if self.version == MqttVersion::V5 {
            let packet = v5::Unsubscribe {
                pkid: id,
                filters,
                properties: None,
            };
            let _checked = packet.write(out);
        } else {
            let packet = v4::Unsubscribe {
                pkid: id,
                topics: filters,
            };
            let _checked = packet.write(out);
        }
    }

    /// PUBLISH of at most `max` bytes; its length if it is longer.
    pub(super) fn publish(
        self,
        id: u16,
        again: bool,
        publish: &usp::Publish,
        expiry: u32,
        max: usize,
        out: &mut BytesMut,
    ) -> Result<(), usize> {
        let payload = Bytes::copy_from_slice(&publish.payload);
        if self.version == MqttVersion::V5 {
            let properties = v5::PublishProperties {
                message_expiry_interval: (expiry > 0).then_some(expiry),
                response_topic: publish.response_topic.clone(),
                content_type: publish.content_type.map(str::to_owned),
                ..v5::PublishProperties::default()
            };
            let mut packet =
                v5::Publish::new(&publish.topic, qos5(publish.qos), payload, Some(properties));
            packet.pkid = id;
            packet.dup = again;
            let size = packet.size();
            if size > max || packet.write(out).is_err() {
                return Err(size);
            }
        } else {
            let mut packet = v4::Publish::from_bytes(&publish.topic, qos4(publish.qos), payload);
            packet.pkid = id;
            packet.dup = again;
            let size = packet.size();
            if size > max || packet.write(out).is_err() {
                return Err(size);
            }
        }
        Ok(())
    }

    /// One of the four acknowledgements. PUBCOMP to what is not known says so where it can (MQTT 5.0 §3.7.2.1).
    pub(super) fn acknowledge(self, ack: Ack, id: u16, known: bool, out: &mut BytesMut) {
        let first = match ack {
            Ack::Puback => 0x40,
            Ack::Pubrec => 0x50,
            Ack::Pubrel => 0x62,
            Ack::Pubcomp => 0x70,
        };
        out.put_u8(first);
        if known || self.version != MqttVersion::V5 {
            out.put_u8(2);
            out.put_u16(id);
        } else {
            out.put_u8(3);
            out.put_u16(id);
            out.put_u8(0x92);
        }
    }

    /// PINGREQ.
    pub(super) fn ping(self, out: &mut BytesMut) {
        out.put_slice(&[0xC0, 0]);
    }

    /// DISCONNECT.
    pub(super) fn disconnect(self, code: u8, out: &mut BytesMut) {
        if self.version == MqttVersion::V5 && code != reason::NORMAL {
            out.put_slice(&[0xE0, 1, code]);
        } else {
            out.put_slice(&[0xE0, 0]);
        }
    }
}

fn written<E: ToString>(result: Result<usize, E>) -> Result<(), String> {
    result.map(drop).map_err(|error| error.to_string())
}

fn decode4(frame: &mut BytesMut) -> Result<Packet, Fault> {
    let packet =
        v4::Packet::read(frame, usize::MAX).map_err(|error| Fault::Malformed(error.to_string()))?;
    Ok(match packet {
        v4::Packet::ConnAck(packet) => Packet::Connack(Connack {
            refused: (packet.code != v4::ConnectReturnCode::Success)
                .then(|| words(&format!("{:?}", packet.code))),
            session_present: packet.session_present,
            ..Connack::default()
        }),
        v4::Packet::Publish(packet) => Packet::Publish(Publish {
            topic: packet.topic,
            qos: match packet.qos {
                bytes4::QoS::AtMostOnce => Qos::AtMostOnce,
                bytes4::QoS::AtLeastOnce => Qos::AtLeastOnce,
                bytes4::QoS::ExactlyOnce => Qos::ExactlyOnce,
            },
            id: packet.pkid,
            content_type: None,
            response_topic: None,
            payload: packet.payload,
        }),
        v4::Packet::PubAck(packet) => Packet::Ack(Ack::Puback, packet.pkid, Verdict::Taken),
        v4::Packet::PubRec(packet) => Packet::Ack(Ack::Pubrec, packet.pkid, Verdict::Taken),
        v4::Packet::PubRel(packet) => Packet::Ack(Ack::Pubrel, packet.pkid, Verdict::Taken),
        v4::Packet::PubComp(packet) => Packet::Ack(Ack::Pubcomp, packet.pkid, Verdict::Taken),
        v4::Packet::SubAck(packet) => Packet::Suback(
            packet.pkid,
            packet
                .return_codes
                .iter()
                .map(|code| matches!(code, v4::SubscribeReasonCode::Success(_)))
                .collect(),
        ),
        v4::Packet::UnsubAck(packet) => Packet::Unsuback(packet.pkid),
        v4::Packet::PingResp => Packet::Pong,
        _ => {
            return Err(Fault::Protocol(
                "a packet that only clients send".to_owned(),
            ));
        }
    })
}

fn decode5(frame: &mut BytesMut) -> Result<Packet, Fault> {
    let packet =
        v5::Packet::read(frame, None).map_err(|error| Fault::Malformed(error.to_string()))?;
    Ok(match packet {
        v5::Packet::ConnAck(packet) => Packet::Connack(connack5(packet)?),
        v5::Packet::Publish(packet) => Packet::Publish(publish5(packet)?),
        v5::Packet::PubAck(packet) => {
            let said = packet.properties.and_then(|told| told.reason_string);
            let verdict = match packet.reason {
                v5::PubAckReason::Success => Verdict::Taken,
                v5::PubAckReason::NoMatchingSubscribers => Verdict::Nobody,
                reason => Verdict::Refused(told(&format!("{reason:?}"), said)),
            };
            Packet::Ack(Ack::Puback, packet.pkid, verdict)
        }
        v5::Packet::PubRec(packet) => {
            let said = packet.properties.and_then(|told| told.reason_string);
            let verdict = match packet.reason {
                v5::PubRecReason::Success => Verdict::Taken,
                v5::PubRecReason::NoMatchingSubscribers => Verdict::Nobody,
                reason => Verdict::Refused(told(&format!("{reason:?}"), said)),
            };
            Packet::Ack(Ack::Pubrec, packet.pkid, verdict)
        }
        v5::Packet::PubRel(packet) => Packet::Ack(Ack::Pubrel, packet.pkid, Verdict::Taken),
        v5::Packet::PubComp(packet) => Packet::Ack(Ack::Pubcomp, packet.pkid, Verdict::Taken),
        v5::Packet::SubAck(packet) => Packet::Suback(
            packet.pkid,
            packet
                .return_codes
                .iter()
                .map(|code| matches!(code, v5::SubscribeReasonCode::Success(_)))
                .collect(),
        ),
        v5::Packet::UnsubAck(packet) => Packet::Unsuback(packet.pkid),
        v5::Packet::PingResp(_) => Packet::Pong,
        v5::Packet::Disconnect(packet) => Packet::Disconnect(told(
            &format!("{:?}", packet.reason_code),
            packet.properties.and_then(|told| told.reason_string),
        )),
        _ => {
            return Err(Fault::Protocol(
                "a packet that only clients send".to_owned(),
            ));
        }
    })
}

fn connack5(packet: v5::ConnAck) -> Result<Connack, Fault> {
    let success = packet.code == v5::ConnectReturnCode::Success;
    let refused = |said| (!success).then(|| told(&format!("{:?}", packet.code), said));
    let Some(properties) = packet.properties else {
        return Ok(Connack {
            refused: refused(None),
            session_present: packet.session_present,
            ..Connack::default()
        });
    };
    if properties.receive_max == Some(0) || properties.max_packet_size == Some(0) {
        return Err(Fault::Protocol(
            "a Receive Maximum or Maximum Packet Size of 0".to_owned(),
        ));
    }
    Ok(Connack {
        refused: refused(properties.reason_string),
        session_present: packet.session_present,
        usp: usp::Connack {
            assigned_client_id: properties.assigned_client_identifier,
            response_information: properties.response_information,
            user_properties: properties.user_properties,
            maximum_qos: match properties.max_qos {
                Some(0) => Some(Qos::AtMostOnce),
                Some(1) => Some(Qos::AtLeastOnce),
                _ => None,
            },
        },
        server_keep_alive: properties.server_keep_alive,
        receive_maximum: properties.receive_max,
        maximum_packet_size: properties.max_packet_size,
    })
}

fn publish5(packet: v5::Publish) -> Result<Publish, Fault> {
    let properties = packet.properties.unwrap_or_default();
    if properties.topic_alias.is_some() {
        return Err(Fault::TopicAlias);
    }
    let topic = std::str::from_utf8(&packet.topic)
        .map_err(|_| Fault::Malformed("a topic that is not UTF-8".to_owned()))?;
    Ok(Publish {
        topic: topic.to_owned(),
        qos: match packet.qos {
            bytes5::QoS::AtMostOnce => Qos::AtMostOnce,
            bytes5::QoS::AtLeastOnce => Qos::AtLeastOnce,
            bytes5::QoS::ExactlyOnce => Qos::ExactlyOnce,
        },
        id: packet.pkid,
        content_type: properties.content_type,
        response_topic: properties.response_topic,
        payload: packet.payload,
    })
}

fn will4(will: &LastWill) -> v4::LastWill {
    v4::LastWill::new(&will.topic, will.value.clone(), qos4(will.qos), will.retain)
}

fn will5(will: &LastWill) -> v5::LastWill {
    let properties = v5::LastWillProperties {
        delay_interval: (will.delay > 0).then_some(will.delay),
        payload_format_indicator: None,
        message_expiry_interval: (will.expiry > 0).then_some(will.expiry),
        content_type: will.content_type.clone(),
        response_topic: will.response_topic.clone(),
        correlation_data: None,
        user_properties: Vec::new(),
    };
    let (value, qos) = (will.value.clone(), qos5(will.qos));
    v5::LastWill::new(&will.topic, value, qos, will.retain, Some(properties))
}

fn qos4(qos: Qos) -> bytes4::QoS {
    match qos {
        Qos::AtMostOnce => bytes4::QoS::AtMostOnce,
        Qos::AtLeastOnce => bytes4::QoS::AtLeastOnce,
        Qos::ExactlyOnce => bytes4::QoS::ExactlyOnce,
    }
}

fn qos5(qos: Qos) -> bytes5::QoS {
    match qos {
        Qos::AtMostOnce => bytes5::QoS::AtMostOnce,
        Qos::AtLeastOnce => bytes5::QoS::AtLeastOnce,
        Qos::ExactlyOnce => bytes5::QoS::ExactlyOnce,
    }
}

/// A reason code for a person, when it came without anything else.
fn text5(code: u8) -> String {
    match v5::DisconnectReasonCode::try_from(code) {
        Ok(code) => words(&format!("{code:?}")),
        Err(_) => format!("reason code {code:#04x}"),
    }
}

/// A reason, and what the broker says about it; at most some hundred characters of it.
fn told(name: &str, said: Option<String>) -> String {
    match said {
        Some(mut said) if !said.is_empty() => {
            said.truncate(said.floor_char_boundary(256));
            said.retain(|c| !c.is_control());
            format!("{} ({said})", words(name))
        }
        _ => words(name),
    }
}

/// `BadUserNamePassword` as `bad user name password`.
fn words(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push(' ');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Codec; 2] = [
        Codec {
            version: MqttVersion::V5,
        },
        Codec {
            version: MqttVersion::V311,
        },
    ];

    fn next(seed: &mut u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    /// Whole packets of both versions, right and nearly right.
    fn samples() -> Vec<Vec<u8>> {
        let text = |text: &str| {
            let mut out = (text.len() as u16).to_be_bytes().to_vec();
            out.extend_from_slice(text.as_bytes());
            out
        };
        let frame = |first: u8, parts: &[&[u8]]| {
            let body = parts.concat();
            let mut out = vec![first, body.len() as u8];
            out.extend_from_slice(&body);
            out
        };
        let properties = [
            &[33, 0, 9][..],
            &[36, 1],
            &[39, 0, 1, 0, 0],
            &[18],
            &text("assigned"),
            &[38],
            &text("subscribe-topic"),
            &text("a/b"),
            &[26],
            &text("r"),
            &[31],
            &text("why"),
        ]
        .concat();
        let of_publish = [
            &[3][..],
            &text("usp.msg"),
            &[8],
            &text("way/back"),
            &[11, 5],
        ]
        .concat();
        let length = |properties: &[u8]| vec![properties.len() as u8];
        vec![
            frame(0x20, &[&[0, 0], &length(&properties), &properties]),
            frame(0x20, &[&[1, 0]]),
            frame(
                0x32,
                &[
                    &text("a/b"),
                    &[0, 7],
                    &length(&of_publish),
                    &of_publish,
                    b"payload",
                ],
            ),
            frame(0x30, &[&text("a/b/reply-to=c"), b"payload"]),
            frame(0x40, &[&[0, 7, 0x87, 6, 31], &text("why")]),
            frame(0x50, &[&[0, 7]]),
            frame(0x62, &[&[0, 7, 0x92]]),
            frame(0x70, &[&[0, 7, 0, 0]]),
            frame(0x90, &[&[0, 7, 0, 0, 1, 2, 0x80, 0x87]]),
            frame(0xB0, &[&[0, 7, 0, 0, 0x11]]),
            frame(0xD0, &[]),
            frame(0xE0, &[&[0x8E, 6, 31], &text("why")]),
        ]
    }

    #[test]
    fn no_bytes_make_the_codec_panic() {
        let samples = samples();
        let rounds = std::env::var("HOMEFLEET_FUZZ_ROUNDS").ok();
        let rounds = rounds.and_then(|text| text.parse().ok()).unwrap_or(40_000);
        let mut seed = 0x9E37_79B9_7F4A_7C15;
        let mut understood = 0;
        for _ in 0..rounds {
            let index = next(&mut seed) as usize % samples.len();
            let mut bytes = samples[index].clone();
            for _ in 0..next(&mut seed) % 4 {
                let at = next(&mut seed) as usize % bytes.len();
                let byte = next(&mut seed) as u8;
                match next(&mut seed) % 4 {
                    0 => bytes[at] = byte,
                    1 => bytes[at] ^= 1 << (byte % 8),
                    2 => bytes.truncate(at + 1),
                    _ => bytes.insert(at, byte),
                }
            }
            for codec in BOTH {
                let mut input = BytesMut::from(&bytes[..]);
                while let Ok(Some(frame)) = take(&mut input, 1000) {
                    assert!(frame.len() <= 1000);
                    understood += u32::from(codec.decode(frame).is_ok());
                }
            }
        }
        assert!(understood > rounds / 4, "{understood}");
    }

    #[test]
    fn a_packet_is_cut_out_when_it_is_whole_and_refused_when_its_header_says_too_much() {
        let mut input = BytesMut::new();
        for (index, byte) in [0x30, 0x81, 0x01].iter().enumerate() {
            assert_eq!(take(&mut input, 200), Ok(None), "{index}");
            input.extend_from_slice(&[*byte]);
        }
        input.extend_from_slice(&[7; 128]);
        assert_eq!(take(&mut input, 200), Ok(None));
        input.extend_from_slice(&[7, 0xD0]);
        let error = Fault::TooLarge {
            length: 132,
            max: 131,
        };
        assert_eq!(take(&mut input.clone(), 131), Err(error));
        let frame = take(&mut input, 132).ok().flatten().unwrap_or_default();
        assert_eq!((frame.len(), input.len()), (132, 1));
        let mut endless = BytesMut::from(&[0x30, 0x80, 0x80, 0x80, 0x80][..]);
        assert!(matches!(take(&mut endless, 200), Err(Fault::Malformed(_))));
    }

    #[test]
    fn disconnect_of_one_byte_is_understood_and_written() {
        let [v5, v4] = BOTH;
        for (bytes, says) in [
            (&[0xE0, 0][..], "normal disconnection"),
            (&[0xE0, 1, 0x8B][..], "server shutting down"),
            (&[0xE0, 2, 0x8B, 0][..], "server shutting down"),
        ] {
            let packet = v5.decode(BytesMut::from(bytes));
            assert_eq!(packet, Ok(Packet::Disconnect(says.to_owned())));
            assert!(v4.decode(BytesMut::from(bytes)).is_err(), "only clients do");
        }
        let mut out = BytesMut::new();
        v5.disconnect(reason::NORMAL, &mut out);
        v5.disconnect(reason::PROTOCOL, &mut out);
        v4.disconnect(reason::PROTOCOL, &mut out);
        assert_eq!(out[..], [0xE0, 0, 0xE0, 1, 0x82, 0xE0, 0]);
    }
}
