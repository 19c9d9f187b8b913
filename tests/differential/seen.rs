//! The events that a server reports for a frame.

/// An event of a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    /// The end of a binary message of this length that was echoed while it arrived.
    Streamed(usize),
    Ping,
    Pong(Vec<u8>),
    /// The peer's close frame: its code and its reason.
    Close(Option<u16>, String),
    /// The frame is invalid, and the connection fails with this code.
    Failed(u16),
}

impl Seen {
    /// Whether no event may follow.
    pub(crate) const fn is_last(&self) -> bool {
        matches!(self, Self::Close(..) | Self::Failed(_))
    }
}

/// Whether both servers report the same events. A streamed message is compared by its length only,
/// because the check of the replies compares its bytes.
pub(crate) fn alike(ours: &[Seen], theirs: &[Seen]) -> bool {
    let is_alike = |(ours, theirs): (&Seen, &Seen)| match (ours, theirs) {
        (Seen::Streamed(len), Seen::Binary(bytes)) => *len == bytes.len(),
        _ => ours == theirs,
    };
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(is_alike)
}
