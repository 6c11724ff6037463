//! Compressed messages that came before.
//!
//! A broker that deflates a message once sends the same octets to every subscriber. Inflating them for each would make the
//! generator slower than what it measures; so a frame that another connection has read is known by its octets.

use std::collections::VecDeque;

/// How many frames are remembered, and how many octets of them: more than is in flight at a time.
const FRAMES: usize = 1024;
const OCTETS: usize = 8 << 20;

/// How many frames ahead a frame is looked for.
const AHEAD: usize = 8;

/// The last frames that were read, in the order they came first, and what they say.
///
/// Each stands for itself: only frames that refer to nothing before them belong here.
#[derive(Debug, Default)]
pub(crate) struct Recall {
    frames: VecDeque<Frame>,
    /// The number of the oldest one.
    first: u64,
    octets: usize,
}

#[derive(Debug)]
struct Frame {
    octets: Box<[u8]>,
    message: Box<[u8]>,
}

impl Recall {
    /// What the frame says that `octets` begins with, and how long it is, if it is number `next` or one of the few behind
    /// it, as it most likely is for a connection that had the one before. Moves `next` behind it.
    #[inline]
    pub(crate) fn find(&self, next: &mut u64, octets: &[u8]) -> Option<(usize, &[u8])> {
        let frame = self.advance(next, |frame| octets.starts_with(&frame.octets))?;
        Some((frame.octets.len(), &frame.message))
    }

    /// Moves `next` behind the frame that says `message`, which came in two reads and so was not found.
    pub(crate) fn skip(&self, next: &mut u64, message: &[u8]) {
        self.advance(next, |frame| *frame.message == *message);
    }

    #[inline]
    fn advance(&self, next: &mut u64, is_it: impl Fn(&Frame) -> bool) -> Option<&Frame> {
        let index = usize::try_from(next.checked_sub(self.first)?).ok()?;
        let candidates = self.frames.iter().skip(index).take(AHEAD);
        let (skipped, frame) = candidates.enumerate().find(|(_, frame)| is_it(frame))?;
        *next += skipped as u64 + 1;
        Some(frame)
    }

    /// Remembers a frame that was not found, if whoever read it is ahead of all others. One that is behind may have read what
    /// the first one could not learn, because it came in two reads.
    pub(crate) fn learn(&mut self, next: &mut u64, octets: &[u8], message: &[u8]) {
        let end = self.first + self.frames.len() as u64;
        if (self.first..end).contains(next) {
            return;
        }
        self.octets += octets.len() + message.len();
        self.frames.push_back(Frame {
            octets: octets.into(),
            message: message.into(),
        });
        while self.frames.len() > FRAMES || self.octets > OCTETS {
            let Some(oldest) = self.frames.pop_front() else {
                break;
            };
            self.octets -= oldest.octets.len() + oldest.message.len();
            self.first += 1;
        }
        *next = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &[u8] = b"\xc1\x01x";
    const SECOND: &[u8] = b"\xc1\x01y";

    #[test]
    fn a_frame_is_known_again_by_whoever_had_the_one_before() {
        let (mut recall, mut ahead, mut behind) = (Recall::default(), 0, 0);
        assert_eq!(recall.find(&mut behind, FIRST), None);
        recall.learn(&mut ahead, FIRST, b"first");
        recall.learn(&mut ahead, SECOND, b"second");
        assert_eq!(recall.find(&mut behind, b"\xc1\x01x\xc1"), Some((3, &b"first"[..])));
        assert_eq!(recall.find(&mut behind, FIRST), None, "another frame");
        assert_eq!(recall.find(&mut behind, b"\xc1\x01"), None, "half a frame");
        assert_eq!(recall.find(&mut behind, SECOND), Some((3, &b"second"[..])));
        assert_eq!(recall.find(&mut behind, SECOND), None, "not known yet");
        assert_eq!(behind, ahead);
    }

    #[test]
    fn a_frame_that_was_not_learned_does_not_hold_up_those_behind_it() {
        let (mut recall, mut ahead, mut behind) = (Recall::default(), 0, 0);
        recall.learn(&mut ahead, FIRST, b"first");
        recall.learn(&mut ahead, SECOND, b"second");
        // Nobody learned this one: the first one got it in two reads.
        assert_eq!(recall.find(&mut behind, b"\xc1\x01z"), None);
        recall.learn(&mut behind, b"\xc1\x01z", b"between");
        assert_eq!(recall.find(&mut behind, FIRST), Some((3, &b"first"[..])));
        // Nor does one that never comes.
        let mut behind = 0;
        assert_eq!(recall.find(&mut behind, SECOND), Some((3, &b"second"[..])));
        assert_eq!(behind, ahead);
    }

    #[test]
    fn a_frame_that_came_in_two_reads_is_left_behind() {
        let (mut recall, mut ahead, mut behind) = (Recall::default(), 0, 0);
        recall.learn(&mut ahead, FIRST, b"first");
        recall.skip(&mut behind, b"first");
        assert_eq!(behind, ahead);
        recall.skip(&mut behind, b"first");
        assert_eq!(behind, ahead, "it is not there twice");
        // So this one goes on as the first to read.
        recall.learn(&mut behind, SECOND, b"second");
        assert_eq!(recall.find(&mut ahead, SECOND), Some((3, &b"second"[..])));
    }

    #[test]
    fn the_oldest_frames_are_forgotten_by_number_and_by_size() {
        let (mut recall, mut ahead) = (Recall::default(), 0);
        for number in 0..FRAMES as u64 + 10 {
            recall.learn(&mut ahead, &number.to_le_bytes(), b"");
            assert_eq!(ahead, number + 1);
        }
        assert_eq!(recall.find(&mut 9, &9_u64.to_le_bytes()), None);
        assert!(recall.find(&mut 10, &10_u64.to_le_bytes()).is_some());
        recall.learn(&mut ahead, b"large", &vec![0; OCTETS]);
        assert_eq!((recall.frames.len(), recall.octets), (0, 0));
        // Who fell behind what is remembered catches up.
        let mut behind = 9;
        recall.learn(&mut behind, b"small", b"");
        assert!(recall.find(&mut ahead, b"small").is_some());
        assert_eq!(ahead, behind);
    }
}
