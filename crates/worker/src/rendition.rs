//! The ways in which a message is put on the wire: how a client is spoken to, how its version frames, how it is
//! compressed. All sessions of one rendition get the same bytes.

use tidecast_broker::Encoding;
use tidecast_websocket::{Extension, Version};

/// How frames are written for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As this version frames them. Versions 7, 8 and 13 frame what a server sends alike.
    Plain(Version),
    /// Messages deflated one by one (RFC 7692), with a window of at most so many bits.
    PerMessage(u8),
    /// Frames of this version, deflated.
    Stream(Version),
}

/// What stands for versions 7, 8 and 13.
const MODERN: Version = Version::V13;

/// Every form. Windows for permessage-deflate come in three sizes: each serves the clients that asked for it or for up
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

/// How many renditions there are; each has a log of the outbox.
pub(crate) const RENDITIONS: usize = FORMS.len() * Encoding::ALL.len();
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

    /// The version that frames it.
    pub(crate) fn version(self) -> Version {
        match self {
            Form::Plain(version) | Form::Stream(version) => version,
            Form::PerMessage(_) => MODERN,
        }
    }

    /// The rendition of sessions that are spoken to in `encoding`, also the number of its log.
    pub(crate) fn rendition(self, encoding: Encoding) -> u8 {
        let form = FORMS
            .iter()
            .position(|form| *form == self)
            .expect("every form is listed");
        (form * Encoding::ALL.len() + encoding.index()) as u8
    }

    /// What a rendition stands for.
    pub(crate) fn of_rendition(rendition: u8) -> (Form, Encoding) {
        let (form, encoding) = (
            usize::from(rendition) / Encoding::ALL.len(),
            usize::from(rendition) % Encoding::ALL.len(),
        );
        (FORMS[form], Encoding::ALL[encoding])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_and_encoding_has_a_number_of_its_own() {
        let mut numbers: Vec<_> = FORMS
            .iter()
            .flat_map(|form| Encoding::ALL.map(|encoding| (form.rendition(encoding), *form, encoding)))
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
