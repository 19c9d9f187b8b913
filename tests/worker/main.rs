//! A whole worker over scripted sockets, in made-up time: what it does, what it costs, and what no
//! peer can make it do.

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/scripted.rs"]
mod scripted;
#[path = "../support/world.rs"]
mod world;
mod probe;

mod calls;
mod backpressure;
mod deadlines;
mod closing;
mod accepting;
mod from_outside;
mod context;
mod ending;
mod handlers;
mod plain;
mod log_lines;
