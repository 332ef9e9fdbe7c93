//! UDP-notif (draft-ietf-netconf-udp-notif): telemetry in datagrams, from publisher to receiver, without I/O.

#![forbid(unsafe_code)]
