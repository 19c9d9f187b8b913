//! The WebSocket protocol of RFC 6455, server side: bytes in, events and bytes out.
//!
//! **Architecture invariant:** nothing here knows a socket, a clock, a thread or a log. It can be
//! used alone: in an event loop of your own, under a fuzzer, in a simulation.
//!
//! A connection is two state machines, one after the other. [`HeadReader`] finds the request,
//! [`Request`] checks it, [`Accept`] or [`Response`] answers it. Then [`Session`] takes frames from
//! a [`Window`] over each read and yields [`Event`]s; replies are laid out in place, in the buffer
//! that was read into:
//!
//! ```
//! use ws_reactor::protocol::*;
//!
//! /// Echoes one read: `buf` holds `HEADROOM_BYTES` free bytes, then the bytes read.
//! fn echo(session: &mut Session, buf: &mut [u8], limits: &Limits) -> Vec<u8> {
//!     let mut workspace = Workspace::default();
//!     let mut window = session.window(buf);
//!     while let Ok(Some(event)) = session.next_event(&mut window, limits, &mut workspace) {
//!         match event {
//!             Event::Message(received) => received.echo(&mut window, &mut workspace),
//!             // The replies to other events are in the run already.
//!             _ => {}
//!         }
//!     }
//!     window.move_run(&mut workspace);
//!     workspace.out
//! }
//!
//! let limits = Limits { message_bytes_max: 1 << 20, fragments_max: 1000 };
//! let mut session = Session::new(Delivery::Whole);
//! let mut buf = vec![0; HEADROOM_BYTES];
//! buf.extend(b"\x81\x82\x01\x02\x03\x04ik"); // "hi", masked
//! assert_eq!(echo(&mut session, &mut buf, &limits), b"\x81\x02hi");
//! ```

mod encoded;
mod session;
mod handshake;
pub(crate) mod proxy;
#[cfg(feature = "deflate")]
mod deflate;
mod frame;
mod error;
mod close_code;

pub use close_code::CloseCode;
#[cfg(feature = "deflate")]
pub(crate) use deflate::offer::{Agreement, negotiate};
#[cfg(feature = "deflate")]
pub use deflate::parameters::{DeflateConfig, DeflateParameters};
pub use encoded::EncodedMessage;
pub use error::ProtocolError;
pub use frame::header::{CONTROL_PAYLOAD_BYTES_MAX, FrameHeader, ServerHeader};
pub use frame::mask::{MaskKey, unmask};
pub use frame::opcode::OpCode;
pub use handshake::error::HandshakeError;
pub use handshake::head::{Head, HeadReader};
pub use handshake::headers::WEBSOCKET_VERSION;
pub(crate) use handshake::headers::is_token;
pub use handshake::request::{HEADERS_MAX, Request};
pub use handshake::request_line::Method;
pub use handshake::response::{Accept, Response, accept_value};
pub(crate) use session::CloseFrame;
pub use session::Session;
pub use session::delivery::{Delivery, STREAM_BYTES_MIN};
pub use session::event::{Event, ReceivedMessage};
pub use session::in_progress::HEADROOM_BYTES;
pub use session::limits::Limits;
pub use session::message::{Message, Text};
pub(crate) use session::window::Run;
pub use session::window::Window;
pub use session::workspace::Workspace;
