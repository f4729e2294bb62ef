//! Names for payload bytes.
//!
//! Cores never hold payload. They say "the next 8192 bytes go into buffer 17 at 4096", and the driver moves them
//! straight into the final place. A buffer is owned by its driver until the last span of it was let go
//! (`buffer_outlives_its_last_use`).

/// A buffer of the driver. The number means something to the driver that gave it and to nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufId(pub u32);

/// A piece of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Which buffer.
    pub buf: BufId,
    /// First byte.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

impl Span {
    /// The piece of this span that starts `offset` bytes in and is `len` bytes long.
    ///
    /// # Panics
    /// If the piece leaves the span: offsets from a peer are checked against lengths before they come here.
    #[must_use]
    pub fn slice(self, offset: u32, len: u32) -> Self {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len),
            "slice {offset}+{len} leaves a span of {} bytes",
            self.len
        );
        Self { buf: self.buf, offset: self.offset + offset, len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Span = Span { buf: BufId(3), offset: 100, len: 50 };

    #[test]
    fn a_slice_is_relative_to_its_span() {
        assert_eq!(SPAN.slice(10, 40), Span { buf: BufId(3), offset: 110, len: 40 });
    }

    #[test]
    #[should_panic(expected = "leaves a span")]
    fn a_slice_cannot_leave_its_span() {
        let _ = SPAN.slice(11, 40);
    }
}
