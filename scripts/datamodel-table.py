#!/usr/bin/env python3
"""Makes a compact table of a Broadband Forum data model out of its full XML.

usage: scripts/datamodel-table.py tr-181-2-16-0-usp-full.xml [PREFIX...] > table.tsv

One line each for objects, unique keys, parameters, commands, events and their arguments, tab-separated:
path, kind, type, access. The agent's schema test compares against this table.
"""

import sys
import xml.etree.ElementTree as ElementTree

DEFAULT_PREFIXES = [
    "Device.DeviceInfo.",
    "Device.LocalAgent.",
    "Device.Time.",
    "Device.IP.",
    "Device.Ethernet.",
    "Device.Hosts.",
    "Device.Security.",
    "Device.STOMP.",
    "Device.MQTT.Cap",
    "Device.MQTT.Client.",
    "Device.UnixDomainSockets.",
]
PRIMITIVES = [
    "base64", "boolean", "dateTime", "decimal", "hexBinary", "int", "long", "string", "unsignedInt", "unsignedLong",
]


def local(element):
    """The element's name without its namespace."""
    return element.tag.split("}")[-1]


def base_types(root):
    """Named data types, each resolved to its primitive type."""
    direct = {}
    for element in root.iter():
        if local(element) != "dataType" or "name" not in element.attrib:
            continue
        if "base" in element.attrib:
            direct[element.get("name")] = element.get("base")
        for child in element:
            if local(child) in PRIMITIVES:
                direct[element.get("name")] = local(child)
    resolved = {}
    for name in direct:
        at = name
        while at in direct:
            at = direct[at]
        resolved[name] = at
    return resolved


def type_of(parameter, types):
    """`string`, or `list:string` for a comma-separated list of it."""
    for syntax in parameter:
        if local(syntax) != "syntax":
            continue
        prefix, primitive = "", ""
        for child in syntax:
            if local(child) == "list":
                prefix = "list:"
            elif local(child) == "dataType":
                primitive = types.get(child.get("ref") or child.get("base"), "string")
            elif local(child) in PRIMITIVES:
                primitive = local(child)
        return prefix + primitive
    return ""


def arguments(element, base, kind, types, rows):
    """Arguments of a command or an event, with those of nested objects."""
    for child in element:
        if local(child) == "parameter" and "name" in child.attrib:
            mandatory = "mandatory" if child.get("mandatory") == "true" else "-"
            rows.append((base + child.get("name"), kind, type_of(child, types), mandatory))
        elif local(child) == "object" and "name" in child.attrib:
            arguments(child, base + child.get("name"), kind, types, rows)
        elif local(child) == "input":
            arguments(child, base, "input", types, rows)
        elif local(child) == "output":
            arguments(child, base, "output", types, rows)


def object_rows(element, types):
    """Every line of one object."""
    name = element.get("name")
    multi = "multi" if name.endswith(".{i}.") else "single"
    rows = [(name, "object", multi, element.get("access", "readOnly"))]
    for child in element:
        kind = local(child)
        if kind == "uniqueKey":
            keys = ",".join(reference.get("ref") for reference in child)
            functional = "non-functional" if child.get("functional") == "false" else "functional"
            rows.append((name, "key", keys, functional))
        elif kind == "parameter":
            rows.append((name + child.get("name"), "param", type_of(child, types), child.get("access", "readOnly")))
        elif kind == "command":
            runs = "async" if child.get("async") == "true" else "sync"
            rows.append((name + child.get("name"), "command", runs, "-"))
            arguments(child, name + child.get("name") + ".", "input", types, rows)
        elif kind == "event":
            rows.append((name + child.get("name"), "event", "-", "-"))
            arguments(child, name + child.get("name") + ".", "arg", types, rows)
    return rows


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    root = ElementTree.parse(sys.argv[1]).getroot()
    prefixes = sys.argv[2:] or DEFAULT_PREFIXES
    types = base_types(root)
    print("# path\tkind\ttype\taccess; made by scripts/datamodel-table.py from " + (root.get("file") or sys.argv[1]))
    print("# Device:2 data model definition, Copyright (c) 2010-2022, Broadband Forum: names, types and access only")
    for element in root.iter():
        name = element.get("name") or ""
        if local(element) != "object" or not name.startswith("Device."):
            continue
        if name in ("Device.", "Device.MQTT.") or any(name.startswith(prefix) for prefix in prefixes):
            for row in object_rows(element, types):
                print("\t".join(row))


if __name__ == "__main__":
    main()
