//! WebSocket for server and client without I/O: hybi-06, hybi-07, 8 and RFC 6455.
#![forbid(unsafe_code)]
