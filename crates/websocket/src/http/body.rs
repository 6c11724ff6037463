//! The body of a request, as it comes: so many octets, or chunks (RFC 9112, sections 6 and 7).
//!
//! Two readers of a connection that do not agree where a body ends let a client hide a request from one of them. So nothing is
//! forgiven here: what is not exactly one length, or exactly `chunked`, is refused, and so is a line that ends without a CR.

use thiserror::Error;

use super::{HttpError, Only, Request};

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// So many octets.
    Octets(u64),
    /// Until the last chunk has come.
    Chunked,
}

impl BodyLength {
    /// No body.
    pub const NONE: BodyLength = BodyLength::Octets(0);
}

/// Why a body is not taken. The connection is to be closed after the answer: where the next request begins is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BodyError {
    /// The chunks are malformed.
    #[error(
        "the chunks of the body are malformed: each is its size in hexadecimal digits, CR LF, its octets and CR LF"
    )]
    Chunk,
    /// Chunk extensions and trailers, which nobody reads, are too long.
    #[error("chunk extensions and trailer fields may have {MAX_OVERHEAD} octets in all")]
    Overhead,
    /// It is longer than it may be.
    #[error("the body may have {limit} octets")]
    TooLarge {
        /// The longest body that is taken, in octets.
        limit: usize,
    },
}

impl BodyError {
    /// The status to answer with.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            BodyError::Chunk | BodyError::Overhead => 400,
            BodyError::TooLarge { .. } => 413,
        }
    }
}

/// The most octets of chunk extensions and trailer fields.
pub const MAX_OVERHEAD: usize = 1024;

/// The most digits of a chunk's size, leading zeros included.
const MAX_DIGITS: u8 = 16;

impl Request<'_> {
    /// How long the body is that follows the head.
    ///
    /// # Errors
    /// It is not said, or said in several ways.
    pub fn body_length(&self) -> Result<BodyLength, HttpError> {
        let fields = self.fields();
        let length = fields.only("Content-Length");
        if fields.all("Transfer-Encoding").next().is_some() {
            let mut codings = fields.list("Transfer-Encoding");
            return match (codings.next(), codings.next(), length) {
                (Some(coding), None, Only::Missing) if self.minor_version > 0 => {
                    if coding.eq_ignore_ascii_case("chunked") {
                        Ok(BodyLength::Chunked)
                    } else {
                        Err(HttpError::Coding)
                    }
                }
                (Some(_), Some(_), Only::Missing) if self.minor_version > 0 => Err(HttpError::Coding),
                _ => Err(HttpError::BodyLength),
            };
        }
        match length {
            Only::Missing => Ok(BodyLength::NONE),
            Only::One(digits) if !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                // More than can be counted is more than anybody takes.
                Ok(BodyLength::Octets(digits.parse().unwrap_or(u64::MAX)))
            }
            Only::One(_) | Only::Several => Err(HttpError::BodyLength),
        }
    }
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Octets of the body, or of a chunk.
    Octets,
    /// Digits of a chunk's size; so many have come.
    Size(u8),
    /// White space behind the size, which an extension may follow, or the end of the line.
    Space,
    /// The rest of the line with the size.
    Extension,
    /// The LF of that line.
    SizeLf,
    /// The CR after a chunk.
    ChunkCr,
    /// The LF after a chunk.
    ChunkLf,
    /// A trailer field, or the empty line after the last one.
    Line,
    /// The rest of a trailer field.
    Trailer,
    /// The LF of that line.
    TrailerLf,
    /// The LF of the empty line.
    LastLf,
    Done,
}

/// A body that comes in.
///
/// Invariant: `taken + left <= limit`
#[derive(Debug)]
pub struct Body {
    state: State,
    is_chunked: bool,
    limit: usize,
    /// Octets that were handed out.
    taken: usize,
    /// Octets that the body, or the chunk at hand, has left.
    left: usize,
    /// Octets of what nobody reads.
    overhead: usize,
}

impl Body {
    /// A body of this length, of which nothing has come, and which may have `limit` octets.
    ///
    /// # Errors
    /// It is known to have more.
    pub fn new(length: BodyLength, limit: usize) -> Result<Body, BodyError> {
        let (state, left) = match length {
            BodyLength::Octets(0) => (State::Done, 0),
            BodyLength::Octets(octets) => match usize::try_from(octets) {
                Ok(octets) if octets <= limit => (State::Octets, octets),
                _ => return Err(BodyError::TooLarge { limit }),
            },
            BodyLength::Chunked => (State::Size(0), 0),
        };
        Ok(Body {
            state,
            is_chunked: length == BodyLength::Chunked,
            limit,
            taken: 0,
            left,
            overhead: 0,
        })
    }

    /// Whether all of it has come.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes what belongs to the body from the start of `input`, appends its octets to `out`, and gives how many octets of
    /// `input` that were. What is behind them is the next request, once the body [is done](Body::is_done).
    ///
    /// # Errors
    /// The body is malformed, or longer than it may be.
    pub fn read(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, BodyError> {
        let mut at = 0;
        while at < input.len() && !self.is_done() {
            if self.state == State::Octets {
                let part = &input[at..][..self.left.min(input.len() - at)];
                out.extend_from_slice(part);
                self.taken += part.len();
                self.left -= part.len();
                at += part.len();
                if self.left == 0 {
                    self.state = if self.is_chunked { State::ChunkCr } else { State::Done };
                }
            } else {
                self.state = self.step(input[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// What comes after an octet between chunks.
    fn step(&mut self, octet: u8) -> Result<State, BodyError> {
        match (self.state, octet) {
            (State::Size(digits), _) if octet.is_ascii_hexdigit() => {
                let digit = char::from(octet).to_digit(16).unwrap_or_default() as usize;
                if digits == MAX_DIGITS {
                    return Err(BodyError::Chunk);
                }
                let left = self.left.checked_mul(16).and_then(|left| left.checked_add(digit));
                let too_large = BodyError::TooLarge { limit: self.limit };
                self.left = left.filter(|left| *left <= self.limit - self.taken).ok_or(too_large)?;
                Ok(State::Size(digits + 1))
            }
            (State::Size(1..) | State::Space | State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Size(1..) | State::Space, b' ' | b'\t') => self.skip(State::Space),
            (State::Size(1..) | State::Space, b';') => Ok(State::Extension),
            (State::Extension, _) if octet != b'\n' => self.skip(State::Extension),
            (State::SizeLf, b'\n') if self.left == 0 => Ok(State::Line),
            (State::SizeLf, b'\n') => Ok(State::Octets),
            (State::ChunkCr, b'\r') => Ok(State::ChunkLf),
            (State::ChunkLf, b'\n') => Ok(State::Size(0)),
            (State::Line, b'\r') => Ok(State::LastLf),
            (State::Trailer, b'\r') => Ok(State::TrailerLf),
            (State::Line | State::Trailer, _) if octet != b'\n' => self.skip(State::Trailer),
            (State::TrailerLf, b'\n') => Ok(State::Line),
            (State::LastLf, b'\n') => Ok(State::Done),
            _ => Err(BodyError::Chunk),
        }
    }

    fn skip(&mut self, next: State) -> Result<State, BodyError> {
        self.overhead += 1;
        if self.overhead > MAX_OVERHEAD {
            return Err(BodyError::Overhead);
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(headers: &str) -> Result<BodyLength, HttpError> {
        let head = format!("POST / HTTP/1.1\r\n{headers}\r\n");
        Request::parse(head.as_bytes(), 8192).unwrap().unwrap().0.body_length()
    }

    /// The octets of a body that comes in one piece, and how much of the input that was.
    fn read(length: BodyLength, limit: usize, input: &[u8]) -> Result<(Vec<u8>, usize, bool), BodyError> {
        let mut body = Body::new(length, limit)?;
        let mut out = Vec::new();
        let count = body.read(input, &mut out)?;
        Ok((out, count, body.is_done()))
    }

    #[test]
    fn a_body_has_one_length_or_chunks_and_all_else_is_refused() {
        for (headers, expected) in [
            ("", Ok(BodyLength::NONE)),
            ("Content-Length: 0\r\n", Ok(BodyLength::NONE)),
            ("content-length: 12\r\n", Ok(BodyLength::Octets(12))),
            (
                "Content-Length: 99999999999999999999\r\n",
                Ok(BodyLength::Octets(u64::MAX)),
            ),
            ("Transfer-Encoding: Chunked\r\n", Ok(BodyLength::Chunked)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(HttpError::Coding)),
            ("Transfer-Encoding: identity\r\n", Err(HttpError::Coding)),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                Err(HttpError::Coding),
            ),
            ("Transfer-Encoding:\r\n", Err(HttpError::BodyLength)),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
                Err(HttpError::BodyLength),
            ),
            ("Content-Length: 3\r\nContent-Length: 4\r\n", Err(HttpError::BodyLength)),
            ("Content-Length: 3, 3\r\n", Err(HttpError::BodyLength)),
            ("Content-Length: +3\r\n", Err(HttpError::BodyLength)),
            ("Content-Length: 0x3\r\n", Err(HttpError::BodyLength)),
            ("Content-Length: \r\n", Err(HttpError::BodyLength)),
            // White space to some, and part of the value to others.
            ("Content-Length: 3\u{a0}\r\n", Err(HttpError::BodyLength)),
            ("Transfer-Encoding: chunked\u{a0}\r\n", Err(HttpError::Coding)),
            ("Transfer-Encoding: chunked,\u{3000}\r\n", Err(HttpError::Coding)),
        ] {
            assert_eq!(length(headers), expected, "{headers}");
        }
        let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (request, _) = Request::parse(old, 8192).unwrap().unwrap();
        assert_eq!(request.body_length(), Err(HttpError::BodyLength));
    }

    #[test]
    fn a_body_is_the_same_however_it_is_cut_and_ends_where_it_ends() {
        let chunked = b"3\r\nabc\r\n0A \t;x=\"y\" \r\n0123456789\r\n1 \r\n!\r\n000\r\nTrailer: x\r\nB: y\r\n\r\nGET /";
        let plain = b"abc0123456789!GET /";
        let end = |input: &[u8]| input.len() - b"GET /".len();
        for (kind, input) in [
            (BodyLength::Chunked, &chunked[..]),
            (BodyLength::Octets(14), &plain[..]),
        ] {
            for cut in 0..=input.len() {
                let mut body = Body::new(kind, 14).unwrap();
                let mut out = Vec::new();
                let first = body.read(&input[..cut], &mut out).unwrap();
                assert!(body.is_done() || first == cut);
                let all = first + body.read(&input[first..], &mut out).unwrap();
                assert!(body.is_done());
                assert_eq!((&out[..], all), (&b"abc0123456789!"[..], end(input)), "cut at {cut}");
            }
        }
    }

    #[test]
    fn chunks_that_break_the_rules_are_refused() {
        let long = format!("1;{}\r\n", "x".repeat(MAX_OVERHEAD + 1));
        for (input, error) in [
            ("\r\n", BodyError::Chunk),
            ("g\r\n", BodyError::Chunk),
            ("-1\r\n", BodyError::Chunk),
            ("0x1\r\n", BodyError::Chunk),
            ("1\n", BodyError::Chunk),
            ("1\rx", BodyError::Chunk),
            ("1;a\nb", BodyError::Chunk),
            ("1 5\r\n", BodyError::Chunk),
            ("1 \t;\n", BodyError::Chunk),
            ("1\r\nab", BodyError::Chunk),
            ("1\r\na\n", BodyError::Chunk),
            ("0\r\nA: b\n", BodyError::Chunk),
            ("0\r\n\n", BodyError::Chunk),
            ("0\r\n\r\r", BodyError::Chunk),
            ("00000000000000001\r\n", BodyError::Chunk),
            (&long, BodyError::Overhead),
            ("b\r\n", BodyError::TooLarge { limit: 10 }),
            ("a\r\n0123456789\r\n1", BodyError::TooLarge { limit: 10 }),
            ("ffffffffffffffff", BodyError::TooLarge { limit: 10 }),
        ] {
            assert_eq!(read(BodyLength::Chunked, 10, input.as_bytes()), Err(error), "{input:?}");
        }
    }

    #[test]
    fn what_is_known_to_be_too_long_is_refused_before_it_comes() {
        let limit = 10;
        assert!(Body::new(BodyLength::Octets(10), limit).is_ok());
        for octets in [11, u64::MAX] {
            let error = Body::new(BodyLength::Octets(octets), limit).unwrap_err();
            assert_eq!((error, error.status()), (BodyError::TooLarge { limit }, 413));
        }
        assert_eq!(read(BodyLength::NONE, 0, b"GET"), Ok((vec![], 0, true)));
    }
}
