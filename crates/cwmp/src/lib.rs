//! The CPE WAN Management Protocol (TR-069): its SOAP messages and the sessions of both sides, without I/O.

#![forbid(unsafe_code)]
