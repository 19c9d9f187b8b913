//! What a server makes of a frame.

/// Something that came of a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    /// The end of a binary message of so many bytes, which was echoed as it came.
    Streamed(usize),
    Ping,
    Pong(Vec<u8>),
    /// The peer's close frame: its code and its reason.
    Close(Option<u16>, String),
    /// The frame is at fault, and the connection ends with this code.
    Failed(u16),
}

impl Seen {
    /// Whether nothing comes after it.
    pub(crate) const fn is_last(&self) -> bool {
        matches!(self, Self::Close(..) | Self::Failed(_))
    }
}

/// Whether both servers made the same of a frame. What we stream is compared by its length here;
/// the replies show its bytes.
pub(crate) fn alike(ours: &[Seen], theirs: &[Seen]) -> bool {
    let is_alike = |(ours, theirs): (&Seen, &Seen)| match (ours, theirs) {
        (Seen::Streamed(len), Seen::Binary(bytes)) => *len == bytes.len(),
        _ => ours == theirs,
    };
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(is_alike)
}
