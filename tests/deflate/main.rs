//! permessage-deflate (RFC 7692) in a whole worker over scripted sockets. The client's side is
//! miniz_oxide, which shares no code with the library.

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/kernel/mod.rs"]
mod kernel;
#[path = "../support/scripted.rs"]
mod scripted;
#[path = "../support/world.rs"]
mod world;
mod client;

mod negotiation;
mod messages;
mod faults;
mod load;
