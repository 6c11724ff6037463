//! A cursor over received octets.

use std::mem;

/// The octets of one read, used up from the front. What was used may have been changed: unmasking is done in place.
#[derive(Debug)]
pub struct Input<'b> {
    rest: &'b mut [u8],
    consumed: usize,
}

impl<'b> Input<'b> {
    /// A cursor at the start of `octets`.
    #[inline]
    #[must_use]
    pub fn new(octets: &'b mut [u8]) -> Self {
        Self {
            rest: octets,
            consumed: 0,
        }
    }

    /// How many octets are used up. Whoever stops before the end feeds the rest again, from there on.
    #[inline]
    #[must_use]
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// Whether all octets are used up.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(crate) fn rest(&self) -> &[u8] {
        self.rest
    }

    /// What is not used up, to be changed in place.
    pub(crate) fn rest_mut(&mut self) -> &mut [u8] {
        self.rest
    }

    /// Uses up the next `count` octets, or all there are if they are fewer.
    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> &'b mut [u8] {
        let count = count.min(self.rest.len());
        let (taken, rest) = mem::take(&mut self.rest).split_at_mut(count);
        self.rest = rest;
        self.consumed += count;
        taken
    }
}
