"""USP over UNIX domain sockets (R-UDS.4 to R-UDS.25), written from the clauses; a Record's protobuf by hand.

    interop_uds.py client PATH OWN PEER      interop_uds.py server PATH OWN PEER
"""
import os
import socket
import struct
import sys
import time

HANDSHAKE, ERROR, RECORD = 1, 2, 3


def frame(*tlvs):
    body = b"".join(struct.pack("!BI", kind, len(value)) + value for kind, value in tlvs)
    return b"_USP" + struct.pack("!I", len(body)) + body


def exactly(peer, length):
    data = b""
    while len(data) < length:
        piece = peer.recv(length - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def receive(peer):
    sync, length = struct.unpack("!4sI", exactly(peer, 8))
    assert sync == b"_USP", sync
    body, tlvs = exactly(peer, length), []
    while body:
        kind, size = struct.unpack("!BI", body[:5])
        assert len(body) >= 5 + size
        tlvs.append((kind, body[5:5 + size]))
        body = body[5 + size:]
    return tlvs


def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number, value):
    return varint(number << 3 | 2) + varint(len(value)) + value


def record(own, peer, payload):
    return field(1, b"1.4") + field(2, peer) + field(3, own) + field(7, field(2, payload))


def fields(data):
    found, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while at < len(data):
        key = number()
        if key & 7 == 0:
            found[key >> 3] = number()
        else:
            length = number()
            found[key >> 3] = data[at:at + length]
            at += length
    return found


def message(peer, own, other):
    (kind, value), = receive(peer)
    assert kind == RECORD, kind
    got = fields(value)
    assert (got[2], got[3]) == (own, other), got
    return got


def ends(peer):
    try:
        return peer.recv(1) == b""
    except ConnectionResetError:
        return True


def dialogue(peer, own, other):
    """What both sides do once the handshake is done; we speak first."""
    assert 13 in message(peer, own, other), "no UDSConnect"
    peer.sendall(frame((99, b"unknown"), (RECORD, record(own, other, b"first")), (RECORD, record(own, other, b"second"))))
    assert fields(message(peer, own, other)[7])[2] == b"answer"
    large = os.urandom(200_000)
    for byte in range(0, len(whole := frame((RECORD, record(own, other, large)))), 997):
        peer.sendall(whole[byte:byte + 997])
    assert fields(message(peer, own, other)[7])[2] == large


def client(path, own, other):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.connect(path)
        peer.sendall(frame((HANDSHAKE, own)))
        assert receive(peer) == [(HANDSHAKE, other)]
        dialogue(peer, own, other)
        peer.sendall(frame((RECORD, b"no Record")))
        (kind, why), = receive(peer)
        assert kind == ERROR and why, (kind, why)
        assert ends(peer)
    print("client done", flush=True)


def server(path, own, other):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        print("listening", flush=True)
        peer, _ = listener.accept()
        with peer:
            assert receive(peer) == [(HANDSHAKE, other)]
            peer.sendall(frame((HANDSHAKE, own)))
            dialogue(peer, own, other)
            ended = time.monotonic()
            peer.sendall(frame((ERROR, b"that was enough")))
            assert ends(peer)
        peer, _ = listener.accept()
        with peer:
            assert time.monotonic() - ended >= 1, "sooner than after one second"
            assert receive(peer) == [(HANDSHAKE, other)]
    print("server done", flush=True)


what, path, own, other = sys.argv[1:]
socket.setdefaulttimeout(60)
{"client": client, "server": server}[what](path, own.encode(), other.encode())
