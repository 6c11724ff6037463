//! What one version of the protocol does differently from another: a row each. A draft is a row, not a branch.
//!
//! The code that frames, shakes hands and closes asks its row; it never asks which version it is.

use std::fmt;
use std::ops::RangeInclusive;

use crate::code;
use crate::frame::Opcode;

/// A protocol version, as `Sec-WebSocket-Version` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Version {
    /// draft-ietf-hybi-thewebsocketprotocol-06: libwebsockets and pywebsocket of early 2011.
    V6,
    /// draft-ietf-hybi-thewebsocketprotocol-07: Firefox 6 and its time.
    V7,
    /// draft-ietf-hybi-thewebsocketprotocol-08 to -12: Chrome 14 and 15, Firefox 7 to 10.
    V8,
    /// RFC 6455, and every current browser.
    V13,
}

/// Where the masking key of a client's frame is, and what it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Masking {
    /// The key comes first, and covers header and payload. Nothing in a frame tells that it is masked.
    Frame,
    /// The key is the end of the header, and covers the payload. The MASK bit tells that it is there.
    Payload,
}

/// All that differs between the versions.
#[derive(Debug)]
pub(crate) struct Dialect {
    pub(crate) version: Version,
    /// The number in `Sec-WebSocket-Version`.
    pub(crate) number: u8,
    /// The opcode on the wire of each [`Opcode`], in the order the enum declares them.
    opcodes: [u8; 6],
    /// The inverse of `opcodes`; the reserved ones are `None`.
    canonical: [Option<Opcode>; 16],
    pub(crate) masking: Masking,
    /// A length must take the shortest of its three forms.
    pub(crate) minimal_length: bool,
    /// `Host` names the port too, where it is not the default of the URL's scheme.
    pub(crate) host_has_port: bool,
    /// The request headers that may tell the origin, the preferred one first.
    pub(crate) origin_headers: &'static [&'static str],
    /// The close codes this version allows on the wire.
    close_codes: &'static [RangeInclusive<u16>],
    /// What is sent in place of a close code that this version does not have.
    close_code_stand_ins: &'static [(u16, u16)],
    /// A Close with a code outside `close_codes` is an orderly close, not a protocol error.
    pub(crate) any_close_code: bool,
    /// A malformed list of extensions is an error, not merely no list.
    pub(crate) strict_extensions: bool,
    /// Frames may follow the 101 response in the same write.
    pub(crate) frames_after_101: bool,
}

/// Continuation, Text, Binary, Close, Ping, Pong: since draft 07.
const OPCODES: [u8; 6] = [0x0, 0x1, 0x2, 0x8, 0x9, 0xA];
/// The same in draft 06.
const OPCODES_06: [u8; 6] = [0x0, 0x4, 0x5, 0x1, 0x2, 0x3];

/// The close codes of drafts 06 and 07.
const CLOSE_CODES_07: &[RangeInclusive<u16>] = &[1000..=1004, 3000..=4999];

/// A peer of the drafts' time has no code for "the server is in trouble, come back later"; of the four it has, only
/// "going away" does not blame the client. What it could not accept (1007, 1008) is what 1003 is about.
const STAND_INS_07: &[(u16, u16)] = &[
    (code::INVALID_PAYLOAD, code::UNSUPPORTED),
    (code::POLICY, code::UNSUPPORTED),
    (code::TOO_BIG, code::DRAFT_TOO_BIG),
    (code::EXTENSION_NEEDED, code::PROTOCOL_ERROR),
    (code::INTERNAL_ERROR, code::GOING_AWAY),
    (code::SERVICE_RESTART, code::GOING_AWAY),
    (code::TRY_AGAIN_LATER, code::GOING_AWAY),
];

static DIALECTS: [Dialect; 4] = [
    Dialect {
        version: Version::V6,
        number: 6,
        opcodes: OPCODES_06,
        canonical: inverse(OPCODES_06),
        masking: Masking::Frame,
        minimal_length: false,
        host_has_port: true,
        origin_headers: &["Sec-WebSocket-Origin", "Origin"],
        close_codes: CLOSE_CODES_07,
        close_code_stand_ins: STAND_INS_07,
        any_close_code: true,
        strict_extensions: false,
        frames_after_101: false,
    },
    Dialect {
        version: Version::V7,
        number: 7,
        opcodes: OPCODES,
        canonical: inverse(OPCODES),
        masking: Masking::Payload,
        minimal_length: false,
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
        //# The request MUST contain a "Host" header whose value is equal to /host/
        host_has_port: false,
        // Browsers of the time send the first; pywebsocket's client sends the second.
        origin_headers: &["Sec-WebSocket-Origin", "Origin"],
        close_codes: CLOSE_CODES_07,
        close_code_stand_ins: STAND_INS_07,
        // libwebsockets of 2011 lays the masking key over its code and sends 62964, 50847, 31673, ...
        any_close_code: true,
        // ... and drops what it reads together with the response.
        strict_extensions: false,
        frames_after_101: false,
    },
    Dialect {
        version: Version::V8,
        number: 8,
        opcodes: OPCODES,
        canonical: inverse(OPCODES),
        masking: Masking::Payload,
        minimal_length: false,
        host_has_port: true,
        origin_headers: &["Sec-WebSocket-Origin", "Origin"],
        close_codes: &[1000..=1004, 1007..=1007, 3000..=4999],
        close_code_stand_ins: &[
            (code::POLICY, code::UNSUPPORTED),
            (code::TOO_BIG, code::DRAFT_TOO_BIG),
            (code::EXTENSION_NEEDED, code::PROTOCOL_ERROR),
            (code::INTERNAL_ERROR, code::GOING_AWAY),
            (code::SERVICE_RESTART, code::GOING_AWAY),
            (code::TRY_AGAIN_LATER, code::GOING_AWAY),
        ],
        any_close_code: true,
        strict_extensions: false,
        frames_after_101: false,
    },
    Dialect {
        version: Version::V13,
        //= RFC 6455#section-4.1
        //# The value of this header field MUST be 13.
        number: 13,
        opcodes: OPCODES,
        canonical: inverse(OPCODES),
        masking: Masking::Payload,
        //= RFC 6455#section-5.2
        //# the minimal number of bytes MUST be used to encode the length
        minimal_length: true,
        host_has_port: true,
        origin_headers: &["Origin"],
        // 1012 to 1014 were registered after the RFC.
        close_codes: &[1000..=1003, 1007..=1014, 3000..=4999],
        close_code_stand_ins: &[(code::DRAFT_TOO_BIG, code::TOO_BIG)],
        any_close_code: false,
        //= RFC 6455#section-9.1
        //# If a value is received by either the client or the server during negotiation that does not conform to the
        //# ABNF below, the recipient of such malformed data MUST immediately _Fail the WebSocket Connection_.
        strict_extensions: true,
        frames_after_101: true,
    },
];

const fn inverse(opcodes: [u8; 6]) -> [Option<Opcode>; 16] {
    let mut canonical = [None; 16];
    let mut i = 0;
    while i < opcodes.len() {
        canonical[opcodes[i] as usize] = Some(Opcode::ALL[i]);
        i += 1;
    }
    canonical
}

impl Dialect {
    /// The opcode on the wire.
    pub(crate) fn wire_opcode(&self, opcode: Opcode) -> u8 {
        self.opcodes[opcode as usize]
    }

    /// The opcode that the low four bits of a frame's first octet mean; none for the reserved ones.
    #[inline]
    pub(crate) fn opcode(&self, first_octet: u8) -> Option<Opcode> {
        self.canonical[usize::from(first_octet & 0x0F)]
    }

    /// Whether this version has that close code on the wire.
    pub(crate) fn has_close_code(&self, code: u16) -> bool {
        self.close_codes.iter().any(|range| range.contains(&code))
    }

    /// The code to send for `code`: itself, its stand-in, or [`code::NORMAL`] for one that is never on any wire.
    pub(crate) fn wire_close_code(&self, code: u16) -> u16 {
        //= RFC 6455#section-7.4.1
        //# 1005 is a reserved value and MUST NOT be set as a status code in a Close control frame by an endpoint.
        //= RFC 6455#section-7.4.1
        //# 1006 is a reserved value and MUST NOT be set as a status code in a Close control frame by an endpoint.
        //= RFC 6455#section-7.4.1
        //# 1015 is a reserved value and MUST NOT be set as a status code in a Close control frame by an endpoint.
        if self.has_close_code(code) {
            return code;
        }
        self.close_code_stand_ins
            .iter()
            .find_map(|&(ours, theirs)| (ours == code).then_some(theirs))
            .unwrap_or(code::NORMAL)
    }

    /// The code to answer a Close with: its own where that can be sent back.
    ///
    //= RFC 6455#section-5.5.1
    //# When sending a Close frame in response, the endpoint typically echos the status code it received.
    pub(crate) fn close_reply(&self, received: Option<u16>) -> u16 {
        received
            .filter(|&code| self.has_close_code(code))
            .unwrap_or(code::NORMAL)
    }
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Version; 4] = [Version::V6, Version::V7, Version::V8, Version::V13];

    #[inline]
    pub(crate) fn dialect(self) -> &'static Dialect {
        &DIALECTS[self as usize]
    }

    /// The version that `Sec-WebSocket-Version: number` asks for.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        DIALECTS
            .iter()
            .find_map(|row| (row.number == number).then_some(row.version))
    }

    /// The number in `Sec-WebSocket-Version`.
    #[must_use]
    pub fn number(self) -> u8 {
        self.dialect().number
    }

    /// Whether frames may be sent in one write with the 101 response. Peers of the drafts' time drop what they read
    /// together with it: their first frame must come later.
    #[must_use]
    pub fn frames_may_follow_101(self) -> bool {
        self.dialect().frames_after_101
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// A set of versions. Displayed as `Sec-WebSocket-Version` lists them: `13, 8, 7, 6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions(u8);

impl Versions {
    /// No version.
    pub const NONE: Self = Self(0);
    /// Every version there is.
    pub const ALL: Self = Self((1 << Version::ALL.len()) - 1);
    /// RFC 6455 alone.
    pub const RFC_6455: Self = Self::only(Version::V13);

    /// The set of just `version`.
    #[must_use]
    pub const fn only(version: Version) -> Self {
        Self(1 << version as u8)
    }

    /// This set and `version`.
    #[must_use]
    pub const fn with(self, version: Version) -> Self {
        Self(self.0 | 1 << version as u8)
    }

    /// This set less `version`.
    #[must_use]
    pub const fn without(self, version: Version) -> Self {
        Self(self.0 & !(1 << version as u8))
    }

    /// Whether `version` is in the set.
    #[must_use]
    pub const fn contains(self, version: Version) -> bool {
        self.0 & 1 << version as u8 != 0
    }

    /// The versions in the set, newest first.
    pub fn iter(self) -> impl Iterator<Item = Version> {
        Version::ALL
            .into_iter()
            .rev()
            .filter(move |&version| self.contains(version))
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, version) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            version.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_the_versions_and_names_lead_back_to_them() {
        for version in Version::ALL {
            assert_eq!(version.dialect().version, version);
            assert_eq!(Version::from_number(version.number()), Some(version));
        }
        for unknown in [0, 5, 9, 12, 14, 255] {
            assert_eq!(Version::from_number(unknown), None);
        }
    }

    #[test]
    fn every_opcode_survives_the_trip_through_every_dialect() {
        for version in Version::ALL {
            let dialect = version.dialect();
            for opcode in Opcode::ALL {
                assert_eq!(dialect.opcode(dialect.wire_opcode(opcode)), Some(opcode));
            }
            let reserved = (0..16).filter(|&octet| dialect.opcode(octet).is_none()).count();
            assert_eq!(reserved, 10);
        }
    }

    #[test]
    fn a_close_code_that_is_sent_is_one_the_version_has() {
        for version in Version::ALL {
            let dialect = version.dialect();
            for code in 0..=u16::MAX {
                assert!(dialect.has_close_code(dialect.wire_close_code(code)));
            }
            for &(ours, theirs) in dialect.close_code_stand_ins {
                assert!(!dialect.has_close_code(ours), "{version} has {ours} itself");
                assert_eq!(dialect.wire_close_code(ours), theirs);
            }
        }
        assert_eq!(Version::V7.dialect().wire_close_code(code::TOO_BIG), 1004);
        assert_eq!(Version::V13.dialect().wire_close_code(code::TOO_BIG), 1009);
        assert_eq!(Version::V7.dialect().wire_close_code(4103), 4103);
    }

    #[test]
    fn a_set_of_versions_reads_as_its_header_does() {
        assert_eq!(Versions::ALL.to_string(), "13, 8, 7, 6");
        assert_eq!(Versions::RFC_6455.to_string(), "13");
        let old = Versions::ALL.without(Version::V13);
        assert_eq!(old.to_string(), "8, 7, 6");
        assert!(!old.contains(Version::V13));
        assert_eq!(old.with(Version::V13), Versions::ALL);
    }
}
