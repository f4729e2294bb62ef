//! Choices, read from the bytes of a fuzzer.
//!
//! When the bytes are used up every choice is the first one: so each prefix of an input is an input, and what a body
//! does by default stands first.

use arbitrary::Unstructured;

/// What is left to choose from.
pub(crate) struct Input<'a>(Unstructured<'a>);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(Unstructured::new(bytes))
    }

    /// True if nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub(crate) fn word(&mut self) -> u16 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub(crate) fn dword(&mut self) -> u32 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub(crate) fn qword(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// Below `end`, which is at most 256 and not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(crate) fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// So many bytes, the last of them zero if there are not enough.
    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let len = N.min(self.0.len());
        out[..len].copy_from_slice(self.0.bytes(len).unwrap_or_default());
        out
    }

    /// At most `max` bytes, as many as the next byte says.
    pub(crate) fn some(&mut self, max: usize) -> &'a [u8] {
        let len = usize::from(self.byte()).min(max).min(self.0.len());
        self.0.bytes(len).unwrap_or_default()
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0.take_rest()
    }
}
