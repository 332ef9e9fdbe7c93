"""Datagrams of every generation, made by scapy from descriptions of the headers: one JSON object a line."""
import json
import sys

import scapy
from scapy.config import conf

conf.verb = 0
from scapy.fields import (BitEnumField, BitField, ByteField, FieldLenField, IntField, PacketListField, ShortField,
                          StrLenField)
from scapy.packet import Packet, Raw


class Segmentation(Packet):
    fields_desc = [ByteField("type", 1), ByteField("length", 4), BitField("number", 0, 15), BitField("last", 0, 1)]

    def extract_padding(self, rest):
        return b"", rest


class Other(Packet):
    fields_desc = [ByteField("type", 2), FieldLenField("length", None, length_of="value", fmt="B", adjust=lambda _, n: n + 2),
                   StrLenField("value", b"", length_from=lambda p: p.length - 2)]

    def extract_padding(self, rest):
        return b"", rest


class Notif(Packet):
    """Drafts -01 to -26."""

    fields_desc = [BitField("version", 1, 3), BitField("private", 0, 1), BitField("media", 1, 4), ByteField("header_length", None),
                   ShortField("message_length", None), IntField("publisher", 0), IntField("message", 0),
                   PacketListField("options", [], Other, length_from=lambda p: p.header_length - 12)]

    def post_build(self, head, payload):
        if self.header_length is None:
            head = head[:1] + bytes([len(head)]) + head[2:]
        if self.message_length is None:
            head = head[:2] + (len(head) + len(payload)).to_bytes(2, "big") + head[4:]
        return head + payload


class PubChannel(Packet):
    """draft-ietf-netconf-udp-pub-channel-05."""

    fields_desc = [BitField("version", 0, 4), BitField("flags", 0, 8),
                   BitEnumField("encoding", 2, 4, {0: "gpb", 1: "cbor", 2: "json", 3: "xml"}), ShortField("message_length", None),
                   IntField("generator", 0), IntField("message", 0)]

    def post_build(self, head, payload):
        if self.message_length is None:
            head = head[:2] + (len(head) + len(payload)).to_bytes(2, "big") + head[4:]
        return head + payload


def tell(generation, media, packet, publisher, message, payload, segment=None, private=None):
    print(json.dumps({"generation": generation, "media": media, "datagram": bytes(packet / Raw(payload)).hex(), "publisher": publisher,
                      "message": message, "payload": payload.hex(), "segment": segment, "private": private}))


print(f"scapy {scapy.__version__}", file=sys.stderr)
number = 1
for encoding, media in enumerate(["gpb", "cbor", "json", "xml"]):
    tell("pub-channel", media, PubChannel(encoding=encoding, generator=77, message=number), 77, number, b"legacy")
    number += 1
# The generation as the receiver names it: JSON and XML of version 0 look the same in both.
GENERATIONS = [("draft-03", 0, {"cbor": 0, "json": 1, "xml": 2}), ("draft-04", 0, {"cbor": 3})] + [
    (name, 1, {"json": 1, "xml": 2, "cbor": 3}) for name in ("draft-07", "draft-09", "draft-19", "draft-26")]
for generation, version, table in GENERATIONS:
    for media, code in table.items():
        def header(**more):
            return Notif(version=version, media=code, publisher=0xFFFFFFFF - number, message=number, **more)

        tell(generation, media, header(), 0xFFFFFFFF - number, number, b"whole")
        for last, segment in ((0, 0), (0, 1), (1, 32767)):
            options = [Segmentation(number=segment, last=last)]
            tell(generation, media, header(options=options), 0xFFFFFFFF - number, number, b"piece", [segment, bool(last)])
        if generation != "draft-26":
            tell(generation, media, header(options=[Other(type=200, value=b"?")]), 0xFFFFFFFF - number, number, b"unknown")
        number += 1
for generation, version in (("draft-03", 0), ("draft-07", 1), ("draft-09", 1)):
    packet = Notif(version=version, private=1, media=9, publisher=3, message=number, options=[Segmentation(number=4), Other(value=b"thrift")])
    tell(generation, "private 9", packet, 3, number, b"x", [4, False], "thrift")
    number += 1
