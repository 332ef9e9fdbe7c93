"""Devices that join at once: argv is the interface, how many, and whether they identify themselves (yes or no).

Prints one JSON object: how many were offered and acknowledged an address, and how many of these answers hold the gateway's identity.
None of them asks for the option.
"""
import json
import socket
import struct
import sys

interface, count, identified = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "yes"
IDENTITY = 125


def option(code, data):
    return bytes([code, len(data)]) + data


def message(number, kind, more=b""):
    mac = bytes([2, 0, 0, 1 if identified else 2, 0, number])
    fixed = struct.pack("!BBBBIHH16s16s", 1, 1, 6, 0, 1000 + number, 0, 0x8000, b"", mac)
    options = option(53, bytes([kind])) + option(55, bytes([1, 3])) + more
    if identified:
        serial = b"CROWD-%d" % number
        elements = option(1, b"ABCDEF") + option(2, serial)
        options += option(IDENTITY, struct.pack("!IB", 3561, len(elements)) + elements)
    return fixed + bytes(192) + bytes([99, 130, 83, 99]) + options + b"\xff"


def answer(sock):
    data = sock.recv(2048)
    number = struct.unpack("!I", data[4:8])[0] - 1000
    options, at = {}, 240
    while at < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        length = data[at + 1]
        options[data[at]] = data[at + 2:at + 2 + length]
        at += 2 + length
    return number, data[16:20], options


sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
sock.bind(("", 68))
sock.settimeout(2)
server = ("255.255.255.255", 67)
found = {2: {}, 5: {}}
offers = {}
for attempt in range(30):
    waiting = [number for number in range(1, count + 1) if number not in found[5]]
    if not waiting:
        break
    for number in waiting:
        if number in offers:
            address, chosen = offers[number]
            sock.sendto(message(number, 3, option(50, address) + option(54, chosen)), server)
        else:
            sock.sendto(message(number, 1), server)
    try:
        while True:
            number, address, options = answer(sock)
            kind = options.get(53, b"\0")[0]
            if kind == 6:
                # Somebody else was quicker: a server may offer one address to several.
                offers.pop(number, None)
            if kind not in found or not 1 <= number <= count:
                continue
            found[kind][number] = IDENTITY in options and b"\x05\x0212" in options[IDENTITY]
            if kind == 2:
                offers[number] = (address, options[54])
    except TimeoutError:
        pass
print(json.dumps({
    "offers": len(found[2]),
    "acks": len(found[5]),
    "identities": sum(found[2].values()) + sum(found[5].values()),
}))
