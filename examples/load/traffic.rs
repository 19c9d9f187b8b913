//! The messages that the connections of a run send and expect: echoes (`echo`) or broadcasts (`broadcast`).

use std::fmt::Debug;

use hdrhistogram::Histogram;

use crate::args::Options;
use crate::inbound::Event;
use crate::problem::Problem;
use crate::recorder::Recorder;
use crate::schedule::Schedule;

/// The messages of one upgraded connection.
///
/// The session calls `begin_read`, then `recv` for each event of the read, then `end_read`.
pub(crate) trait Traffic: Debug + Sized {
    /// The state that all connections use, one at a time.
    type Messages: Debug;

    /// Milliseconds between the last upgrade and the first message.
    const SETTLE_MS: u64 = 0;

    /// Whether an answer on one connection can make others idle.
    const ARE_ALL_IDLE_AT_ONCE: bool = false;

    fn messages(options: &Options) -> Self::Messages;

    fn new(connection: u32, messages: &mut Self::Messages) -> Self;

    fn begin_read(&mut self);

    /// Checks a part of a message. `rest` is the input after it.
    fn recv(
        &mut self,
        event: &Event<'_>,
        rest: &[u8],
        shared: &mut Shared<Self>,
        now: u64,
    ) -> Result<(), Problem>;

    /// Counts the messages that `recv` has completed since `begin_read`.
    fn end_read(&mut self, shared: &mut Shared<Self>, now: u64);

    /// Puts in flight the messages that the schedule allows.
    fn put_in_flight(&mut self, shared: &mut Shared<Self>, now: u64);

    /// Bytes to be written next, of as many messages as possible or at most to the end of the
    /// current frame.
    fn unwritten<'a>(&'a self, messages: &'a Self::Messages, extent: Extent) -> &'a [u8];

    fn wrote(&mut self, bytes: usize, messages: &Self::Messages);

    /// Whether a frame is written in part, so that no control frame may follow now.
    fn is_inside_frame(&self) -> bool;

    /// Whether every message sent has been answered.
    fn is_idle(&self, messages: &Self::Messages) -> bool;

    /// The number of the message expected next, counted from 1.
    fn message(&self) -> u64;

    /// Messages put in flight so far.
    fn sent(&self) -> u64;

    /// Messages of this connection that are not answered, or not delivered to all.
    fn unanswered(&self, messages: &Self::Messages) -> u64;

    /// Messages sent in the measured time that have been answered, or delivered to all.
    fn completed(shared: &Shared<Self>) -> u64;

    /// Accounts for the failure of the connection. Returns how many answers or deliveries are lost
    /// with it.
    fn abandon(&mut self, shared: &mut Shared<Self>) -> u64;

    /// Records the latency so far of the messages of this connection that are not answered, and
    /// returns their number.
    fn record_waiting(&self, shared: &mut Shared<Self>, now: u64) -> u64;

    /// The figures that only a broadcast has.
    fn fan_out(_: &Self::Messages) -> Option<FanOut<'_>> {
        None
    }
}

/// Messages that were delivered to all connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FanOut<'a> {
    pub(crate) published: u64,
    /// From sending a message to its last delivery.
    pub(crate) last_ns: &'a Histogram<u64>,
}

/// How much a write may contain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Extent {
    CurrentFrame,
    Everything,
}

/// State that all connections use, one at a time.
#[derive(Debug)]
pub(crate) struct Shared<T: Traffic> {
    pub(crate) messages: T::Messages,
    pub(crate) schedule: Schedule,
    pub(crate) recorder: Recorder,
    pub(crate) counts: ConnectionCounts,
    /// The masking key of this run.
    pub(crate) mask: [u8; 4],
    /// Messages that the server sends first on every connection.
    pub(crate) greetings: u64,
    /// Connections that may write more, although no event will follow: their turn ended before
    /// their socket was full, or an answer on another connection allows them to send.
    pub(crate) unfinished: Vec<u32>,
}

/// Numbers of connections that have reached each stage.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCounts {
    /// Upgraded and greeted.
    pub(crate) opened: u32,
    /// Failed at any stage.
    pub(crate) failed: u32,
    /// Failed after they had been opened.
    pub(crate) failed_open: u32,
    /// Have sent Close.
    pub(crate) closing: u32,
    /// The server answered our Close.
    pub(crate) closed: u32,
    /// The server ended the stream without answering our Close.
    pub(crate) unanswered: u32,
    /// Answers or deliveries that were missing when their connection failed.
    pub(crate) messages_lost: u64,
}

/// The messages of a failed connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Abandoned {
    pub(crate) sent: u64,
    pub(crate) unanswered: u64,
}
