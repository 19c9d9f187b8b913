//! Parses an input of the fuzzer. Zeros follow its end.

/// The bytes not taken yet.
pub(crate) struct Pieces<'i>(&'i [u8]);

impl<'i> Pieces<'i> {
    pub(crate) const fn new(input: &'i [u8]) -> Self {
        Self(input)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    pub(crate) fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[usize::from(self.byte()) % items.len()]
    }

    /// The next `len` bytes, or fewer at the end.
    pub(crate) fn bytes(&mut self, len: usize) -> &'i [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn rest(&mut self) -> &'i [u8] {
        self.bytes(usize::MAX)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Up to seven steps for [`cut`].
    pub(crate) fn steps(&mut self) -> Vec<u16> {
        (0..self.byte() % 8).map(|_| self.short()).collect()
    }
}

/// The length of a step: its low 15 bits, where 0 stands for the whole rest.
pub(crate) fn step_len(step: u16, left: usize) -> usize {
    match usize::from(step & 0x7FFF) {
        0 => left,
        len => len.min(left),
    }
}

/// `steps`, or if there are none a single step for the whole input.
pub(crate) const fn or_whole(steps: &[u16]) -> &[u16] {
    if steps.is_empty() { &[0] } else { steps }
}

/// Cuts `input` at these steps, which repeat. Without any it stays in one piece.
pub(crate) fn cut<'i>(mut input: &'i [u8], steps: &[u16]) -> Vec<&'i [u8]> {
    let mut pieces = Vec::new();
    for step in or_whole(steps).iter().cycle() {
        if input.is_empty() {
            break;
        }
        let (piece, rest) = input.split_at(step_len(*step, input.len()));
        pieces.push(piece);
        input = rest;
    }
    pieces
}
