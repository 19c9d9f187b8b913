//! The WebSocket protocol of RFC 6455, server side: bytes in, events and bytes out.
//!
//! **Architecture invariant:** nothing here knows a socket, a clock, a thread or a log. It can be
//! used alone: in an event loop of your own, under a fuzzer, in a simulation.
//!
//! A connection is two machines in turn. [`HeadReader`] finds the request, [`Request`] checks it,
//! [`Accept`] or [`Response`] answers it. Then [`Session`] takes frames from a [`Window`] over each
//! read and yields [`Event`]s; replies are laid out in place, in the buffer that was read into:
//!
//! ```
//! use ws_reactor::protocol::*;
//!
//! /// What goes back for one read: `buf` holds `HEADROOM_BYTES` free bytes, then what was read.
//! fn echo(session: &mut Session, buf: &mut [u8], limits: &Limits) -> Vec<u8> {
//!     let mut out = OutBuffer::default();
//!     let mut window = session.window(buf);
//!     while let Ok(Some(event)) = session.next_event(&mut window, limits, &mut out) {
//!         match event {
//!             Event::Message(received) => match received.lend(&window) {
//!                 Ok(_message) => received.echo(&mut window, &mut out),
//!                 Err(error) => _ = session.fail(error, &mut window, &mut out),
//!             },
//!             // A pong, a close or a streamed part is in the run already.
//!             _ => {}
//!         }
//!     }
//!     window.move_run(&mut out);
//!     out.to_vec()
//! }
//!
//! let limits = Limits { message_bytes_max: 1 << 20, fragments_max: 1000 };
//! let mut session = Session::new(Delivery::Whole);
//! let mut buf = vec![0; HEADROOM_BYTES];
//! buf.extend(b"\x81\x82\x01\x02\x03\x04ik"); // "hi", masked
//! assert_eq!(echo(&mut session, &mut buf, &limits), b"\x81\x02hi");
//! ```

mod session;
mod event;
mod window;
mod partial;
mod message;
mod out;
mod limits;
mod utf8;
mod close;
mod frame;
mod opcode;
mod mask;
mod error;
mod head;
mod request;
mod request_line;
mod headers;
mod response;
mod handshake_error;

pub use close::CloseCode;
pub use error::{Closed, ProtocolError};
pub use event::{Event, Received};
pub use frame::{CONTROL_PAYLOAD_BYTES_MAX, FrameHeader, ServerHeader};
pub use handshake_error::HandshakeError;
pub use head::{Head, HeadReader};
pub use limits::Limits;
pub use mask::{MaskKey, unmask};
pub use message::{Message, Text};
pub use opcode::OpCode;
pub use out::OutBuffer;
pub use partial::HEADROOM_BYTES;
pub use request::{HEADERS_MAX, Request, WEBSOCKET_VERSION};
pub use request_line::Method;
pub use response::{Accept, Response, accept_value};
pub use session::{Delivery, STREAM_BYTES_MIN, Session};
pub use window::Window;
