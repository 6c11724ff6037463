//! The ways in which a message is put on the wire: how a client is spoken to, how its version frames, how it is
//! compressed. All sessions of one rendition get the same bytes.

use tidecast_broker::Encoding;
use tidecast_websocket::{Extension, Version};

/// How what is said to a connection is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As this version frames them. Versions 7, 8 and 13 frame what a server sends alike.
    Plain(Version),
    /// Messages deflated one by one (RFC 7692), with a window of at most so many bits.
    PerMessage(u8),
    /// Frames of this version, deflated.
    Stream(Version),
    /// No frames but the chunks of an HTTP response, each of one event or more.
    Chunks,
}

/// What stands for versions 7, 8 and 13.
pub(crate) const MODERN: Version = Version::V13;

/// Every form of frames. Windows for permessage-deflate come in three sizes: each serves the clients that asked for it or for up
/// to two bits more.
const FORMS: [Form; 7] = [
    Form::Plain(MODERN),
    Form::PerMessage(15),
    Form::PerMessage(12),
    Form::PerMessage(8),
    Form::Stream(MODERN),
    Form::Plain(Version::V6),
    Form::Stream(Version::V6),
];

/// What is put into frames.
const FRAMED: [Encoding; 3] = [Encoding::Raw, Encoding::Json, Encoding::Binary];

/// How many renditions there are; each has a log of the outbox. Events are the last one.
pub(crate) const RENDITIONS: usize = FORMS.len() * FRAMED.len() + 1;
const EVENTS: u8 = (RENDITIONS - 1) as u8;
const _: () = assert!(
    RENDITIONS <= tidecast_broker::RENDITIONS,
    "more than a broker can number"
);

impl Form {
    /// The form for a connection of `version` that negotiated `extension`.
    pub(crate) fn of(version: Version, extension: Option<Extension>) -> Form {
        let version = if version == Version::V6 { version } else { MODERN };
        match extension {
            None => Form::Plain(version),
            Some(Extension::DeflateStream) => Form::Stream(version),
            Some(Extension::PerMessageDeflate(params)) => {
                let fits =
                    |form: &&Form| matches!(form, Form::PerMessage(bits) if *bits <= params.server_window_bits());
                *FORMS.iter().find(fits).expect("no window is smaller than 8 bits")
            }
        }
    }

    /// The rendition of sessions that are spoken to in `encoding`, also the number of its log. Events are what chunks are for, and
    /// frames are for the others.
    pub(crate) fn rendition(self, encoding: Encoding) -> u8 {
        debug_assert_eq!(self == Form::Chunks, encoding == Encoding::Events, "{self:?}");
        if encoding == Encoding::Events {
            return EVENTS;
        }
        let form = FORMS
            .iter()
            .position(|form| *form == self)
            .expect("every form is listed");
        (form * FRAMED.len() + encoding.index()) as u8
    }

    /// What a rendition stands for.
    pub(crate) fn of_rendition(rendition: u8) -> (Form, Encoding) {
        if rendition == EVENTS {
            return (Form::Chunks, Encoding::Events);
        }
        let (form, encoding) = (
            usize::from(rendition) / FRAMED.len(),
            usize::from(rendition) % FRAMED.len(),
        );
        (FORMS[form], FRAMED[encoding])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_and_encoding_has_a_number_of_its_own() {
        let mut numbers: Vec<_> = FORMS
            .iter()
            .flat_map(|form| FRAMED.map(|encoding| (*form, encoding)))
            .chain([(Form::Chunks, Encoding::Events)])
            .map(|(form, encoding)| (form.rendition(encoding), form, encoding))
            .collect();
        for (number, form, encoding) in &numbers {
            assert_eq!(Form::of_rendition(*number), (*form, *encoding));
        }
        numbers.sort_by_key(|(number, ..)| *number);
        numbers.dedup_by_key(|(number, ..)| *number);
        assert_eq!(numbers.len(), RENDITIONS);
    }

    #[test]
    fn versions_that_frame_alike_share_a_form() {
        for version in [Version::V7, Version::V8, Version::V13] {
            assert_eq!(Form::of(version, None), Form::Plain(Version::V13));
            assert_eq!(
                Form::of(version, Some(Extension::DeflateStream)),
                Form::Stream(Version::V13)
            );
        }
        assert_eq!(Form::of(Version::V6, None), Form::Plain(Version::V6));
    }
}
