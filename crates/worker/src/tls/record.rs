//! Records: cut out of what comes, opened where they lie, and sealed from where their content lies.
//!
//! ```text
//!                  ┌ header ┬ explicit nonce ┬ content ┬ type ┬ zeros ┬ tag ┐
//!   TLS 1.3        │   5    │       -        │    n    │  1   │   *   │ 16  │     RFC 8446, section 5.2
//!   1.2, AES-GCM   │   5    │       8        │    n    │  -   │   -   │ 16  │     RFC 5246, section 6.2.3.3; RFC 5288
//!   1.2, ChaCha20  │   5    │       -        │    n    │  -   │   -   │ 16  │     RFC 7905
//!                  └────────┴────────────────┴─ ─ ─ ─ sealed ─ ─ ─ ─┴─────┘
//! ```

use std::ops::Range;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, TlsProtocolId,
    TlsRecordSealingKey, UnboundKey,
};
use rustls::{AlertDescription, ConnectionTrafficSecrets, ContentType};

use super::session::Fault;

/// Bytes before the content of every record.
pub(super) const HEADER: usize = 5;
/// The most content that a record may have.
pub(super) const LARGEST: usize = 1 << 14;
/// The most that protection may add to it: what RFC 5246 allows; RFC 8446 allows less.
const MOST_EXPANSION: usize = 2048;
/// More than protection adds in fact, header included.
pub(super) const OVERHEAD: usize = HEADER + EXPLICIT_NONCE + 1 + TAG;
const EXPLICIT_NONCE: usize = 8;
const TAG: usize = 16;
/// The version that records say they have, be it 1.2 or 1.3.
const VERSION: [u8; 2] = [3, 3];

/// The length of the record that `bytes` begin with, once its header is there.
fn record_len(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let Some(&[_, _, _, high, low]) = bytes.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let body = usize::from(u16::from_be_bytes([high, low]));
    if body > LARGEST + MOST_EXPANSION {
        return Err(Fault::Broken(AlertDescription::RecordOverflow));
    }
    Ok(Some(HEADER + body))
}

/// Whole records of what was received, one after the other. Those that came in one piece are given where they lie.
#[derive(Debug)]
pub(crate) struct Records<'b> {
    /// The beginning of a record that came before.
    kept: Vec<u8>,
    /// `kept` was completed and given out.
    is_given: bool,
    fresh: &'b mut [u8],
    at: usize,
}

impl<'b> Records<'b> {
    /// Of `fresh`, which follows `kept`: a part of a record, or nothing.
    pub(crate) fn new(kept: Vec<u8>, fresh: &'b mut [u8]) -> Records<'b> {
        Records {
            kept,
            is_given: false,
            fresh,
            at: 0,
        }
    }

    /// The next record, if it is there to its end.
    pub(crate) fn next(&mut self) -> Result<Option<&mut [u8]>, Fault> {
        if std::mem::take(&mut self.is_given) {
            self.kept = Vec::new();
        }
        if !self.kept.is_empty() {
            if !self.fill(HEADER) {
                return Ok(None);
            }
            let whole = match record_len(&self.kept)? {
                Some(len) => self.fill(len),
                None => false,
            };
            self.is_given = whole;
            return Ok(whole.then_some(&mut self.kept[..]));
        }
        let rest = &mut self.fresh[self.at..];
        match record_len(rest)? {
            Some(len) if len <= rest.len() => {
                self.at += len;
                Ok(Some(&mut rest[..len]))
            }
            _ => Ok(None),
        }
    }

    /// Moves to `kept` what it lacks to be `len` bytes; whether it is now.
    fn fill(&mut self, len: usize) -> bool {
        let missing = len.saturating_sub(self.kept.len());
        let taken = missing.min(self.fresh.len() - self.at);
        self.kept.extend_from_slice(&self.fresh[self.at..self.at + taken]);
        self.at += taken;
        taken == missing
    }

    /// The beginning of a record whose end has not come yet. It has no memory of its own if it is empty.
    pub(crate) fn into_rest(self) -> Vec<u8> {
        if self.kept.is_empty() || self.is_given {
            self.fresh[self.at..].to_vec()
        } else {
            self.kept
        }
    }
}

/// How the records of a connection are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// TLS 1.3.
    V13,
    /// TLS 1.2 with AES-GCM.
    V12Gcm,
    /// TLS 1.2 with ChaCha20-Poly1305.
    V12ChaCha,
}

impl Layout {
    pub(super) fn of(is_13: bool, secrets: &ConnectionTrafficSecrets) -> Layout {
        match secrets {
            _ if is_13 => Layout::V13,
            ConnectionTrafficSecrets::Chacha20Poly1305 { .. } => Layout::V12ChaCha,
            _ => Layout::V12Gcm,
        }
    }

    fn explicit_nonce(self) -> usize {
        if self == Layout::V12Gcm { EXPLICIT_NONCE } else { 0 }
    }

    fn inner_type(self) -> usize {
        usize::from(self == Layout::V13)
    }
}

/// What is authenticated besides the content.
struct Associated {
    bytes: [u8; 13],
    len: usize,
}

impl Associated {
    /// Of the record with this header, number `sequence`, whose content without protection has `content` bytes.
    fn new(layout: Layout, header: [u8; HEADER], sequence: u64, content: usize) -> Associated {
        let mut bytes = [0; 13];
        if layout == Layout::V13 {
            bytes[..HEADER].copy_from_slice(&header);
            return Associated { bytes, len: HEADER };
        }
        bytes[..8].copy_from_slice(&sequence.to_be_bytes());
        bytes[8..11].copy_from_slice(&header[..3]);
        bytes[11..].copy_from_slice(&(content as u16).to_be_bytes());
        Associated { bytes, len: 13 }
    }
}

impl AsRef<[u8]> for Associated {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// RFC 8446, section 5.3: the number of the record, into the end of what the keys came with.
fn nonce(iv: &[u8; NONCE_LEN], sequence: u64) -> [u8; NONCE_LEN] {
    let mut nonce = *iv;
    for (byte, number) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
        *byte ^= number;
    }
    nonce
}

fn algorithm(secrets: &ConnectionTrafficSecrets) -> Result<(&'static Algorithm, &[u8], [u8; NONCE_LEN]), Fault> {
    let (algorithm, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
        _ => return Err(Fault::Broken(AlertDescription::InternalError)),
    };
    let iv = iv.as_ref().try_into().map_err(internal)?;
    Ok((algorithm, key.as_ref(), iv))
}

fn internal<E>(_: E) -> Fault {
    Fault::Broken(AlertDescription::InternalError)
}

/// Opens what the peer has sealed.
#[derive(Debug)]
pub(super) struct Opening {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
    layout: Layout,
}

impl Opening {
    pub(super) fn new(layout: Layout, sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Opening, Fault> {
        let (algorithm, key, iv) = algorithm(secrets)?;
        Ok(Opening {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key).map_err(internal)?),
            iv,
            sequence,
            layout,
        })
    }

    /// Opens a whole record where it lies: the type of its content, and where that is.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<(ContentType, Range<usize>), Fault> {
        let Some((header, body)) = record.split_first_chunk_mut::<HEADER>() else {
            return Err(Fault::Broken(AlertDescription::DecodeError));
        };
        let outer = ContentType::from(header[0]);
        if self.layout == Layout::V13 && outer != ContentType::ApplicationData {
            return Err(Fault::Broken(AlertDescription::UnexpectedMessage));
        }
        let explicit = self.layout.explicit_nonce();
        let Some(content) = body.len().checked_sub(explicit + TAG) else {
            return Err(Fault::Broken(AlertDescription::BadRecordMac));
        };
        let mut nonce = nonce(&self.iv, self.sequence);
        nonce[NONCE_LEN - explicit..].copy_from_slice(&body[..explicit]);
        let associated = Associated::new(self.layout, *header, self.sequence, content);
        let opened = self
            .key
            .open_in_place(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated),
                &mut body[explicit..],
            )
            .map_err(|_| Fault::Broken(AlertDescription::BadRecordMac))?;
        self.sequence += 1;
        let (kind, len) = if self.layout == Layout::V13 {
            let Some(last) = opened.iter().rposition(|byte| *byte != 0) else {
                return Err(Fault::Broken(AlertDescription::UnexpectedMessage));
            };
            (ContentType::from(opened[last]), last)
        } else {
            (outer, opened.len())
        };
        if len > LARGEST {
            return Err(Fault::Broken(AlertDescription::RecordOverflow));
        }
        let start = HEADER + explicit;
        Ok((kind, start..start + len))
    }
}

/// Seals what is sent.
#[derive(Debug)]
pub(super) struct Sealing {
    key: SealingKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
    layout: Layout,
}

#[derive(Debug)]
enum SealingKey {
    /// Refuses by itself to use a nonce twice.
    Gcm(TlsRecordSealingKey),
    ChaCha(LessSafeKey),
}

impl Sealing {
    pub(super) fn new(layout: Layout, sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Sealing, Fault> {
        let (algorithm, key, iv) = algorithm(secrets)?;
        let key = if algorithm == &CHACHA20_POLY1305 {
            SealingKey::ChaCha(LessSafeKey::new(UnboundKey::new(algorithm, key).map_err(internal)?))
        } else {
            // Of 1.3, also for 1.2: the nonces of both are counted in the same way.
            let mut key = TlsRecordSealingKey::new(algorithm, TlsProtocolId::TLS13, key).map_err(internal)?;
            if sequence > 0 {
                // The key takes its first nonce for that of record 0, which rustls has sealed. This one is seen by nobody.
                let first = Nonce::assume_unique_for_key(iv);
                let _ = key
                    .seal_in_place_separate_tag(first, Aad::empty(), &mut [])
                    .map_err(internal)?;
            }
            SealingKey::Gcm(key)
        };
        Ok(Sealing {
            key,
            iv,
            sequence,
            layout,
        })
    }

    /// The number of the next record.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Writes the record of this content, at most [`LARGEST`] bytes, to the beginning of `out`, where there is room for
    /// [`OVERHEAD`] more; how long it is.
    pub(super) fn seal(&mut self, kind: ContentType, content: &[u8], out: &mut [u8]) -> Result<usize, Fault> {
        debug_assert!(content.len() <= LARGEST, "larger contents are cut into several records");
        let explicit = self.layout.explicit_nonce();
        let inner = self.layout.inner_type();
        let body = explicit + content.len() + inner + TAG;
        let outer = if self.layout == Layout::V13 {
            ContentType::ApplicationData
        } else {
            kind
        };
        let [high, low] = (body as u16).to_be_bytes();
        let header = [u8::from(outer), VERSION[0], VERSION[1], high, low];
        let nonce = nonce(&self.iv, self.sequence);
        let associated = Aad::from(Associated::new(self.layout, header, self.sequence, content.len()));
        out[..HEADER].copy_from_slice(&header);
        out[HEADER..HEADER + explicit].copy_from_slice(&nonce[NONCE_LEN - explicit..]);
        let sealed = &mut out[HEADER + explicit..HEADER + body];
        let nonce = Nonce::assume_unique_for_key(nonce);
        let inner_type = &[u8::from(kind)][..inner];
        match &mut self.key {
            SealingKey::Gcm(key) => {
                let (text, tail) = sealed.split_at_mut(content.len());
                key.seal_out_of_place_scatter(nonce, associated, content, text, inner_type, tail)
                    .map_err(internal)?;
            }
            SealingKey::ChaCha(key) => {
                let (text, tag) = sealed.split_at_mut(content.len() + inner);
                text[..content.len()].copy_from_slice(content);
                text[content.len()..].copy_from_slice(inner_type);
                let sealed = key.seal_in_place_separate_tag(nonce, associated, text);
                tag.copy_from_slice(sealed.map_err(internal)?.as_ref());
            }
        }
        self.sequence += 1;
        Ok(HEADER + body)
    }
}
