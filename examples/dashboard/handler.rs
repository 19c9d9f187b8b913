//! The handler: access, the history for newcomers, and a sample with each tick.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use ws_reactor::{
    CloseCode, ConnectionInfo, Context, Handler, Message, Peer, Reply, Request, Response,
    SlowConsumer, TickEvent, Upgrade,
};

use crate::access::Access;
use crate::samples::{self, HISTORY_MAX, History, Sampler};

const PAGE: &str = include_str!("page.html");

/// The path of the WebSocket.
const PATH: &str = "/samples";

/// The topic of the samples.
const TOPIC: &str = "samples";

/// The handler of one worker.
///
/// A client receives lines of JSON. First comes `hello`, with the name of the machine, the number of
/// its cores, the seconds between two samples, and the number of samples in a full history. Then
/// come the samples of the history, the oldest first, and then each new one.
///
/// ```text
/// {"type": "hello", "host": "server-1", "cores": 2, "interval": 1.0, "history": 60}
/// {"type": "sample", "number": 7, "time": 1764093600123, "load": 0.52, "cpu": 0.113,
///  "memory_used": 1503238553, "memory_total": 4105601024, "received": 1520.0, "sent": 810.5}
/// ```
///
/// The time is in milliseconds since 1970, `load` the average over a minute, `cpu` the busy part of
/// all cores from 0 to 1, memory in bytes, and `received` and `sent` in bytes per second, all
/// interfaces together except loopback. A client that does not keep up gets the latest sample only.
/// Samples of the history may arrive again from the topic. So a client drops a sample whose number
/// is not greater than the last one.
///
/// A client sends nothing. A message ends its connection with 1008, or with 1009 if it has more than
/// a byte.
pub(crate) struct Dashboard {
    pub(crate) access: Arc<Access>,
    /// The last samples, shared by all workers.
    pub(crate) history: Arc<Mutex<History>>,
    /// Only the first worker has one.
    pub(crate) sampler: Option<Sampler>,
    pub(crate) interval: Duration,
}

impl Dashboard {
    /// Locks the history, also after a callback has panicked: that must not end all connections.
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler for Dashboard {
    type State = ();

    fn on_request(&mut self, request: &Request<'_>, _: ConnectionInfo<'_>) -> Upgrade<()> {
        if request.path() != PATH {
            return Upgrade::reject(404, "the samples are at /samples");
        }
        match self.access.check(request) {
            Ok(()) => Upgrade::accept(()),
            Err(refusal) => Upgrade::Reject(refusal),
        }
    }

    /// The page, which has no secrets, and the health check. A browser does not show a page why its
    /// WebSocket was refused, so the page then asks for the same URL here, and gets the same
    /// refusal.
    fn on_http(&mut self, request: &Request<'_>, _: ConnectionInfo<'_>) -> Option<Response> {
        Some(match request.path() {
            "/" => Response::new(200)
                .header("Content-Type", "text/html; charset=utf-8")
                // A page of another origin must not show this one as its own.
                .header("Content-Security-Policy", "frame-ancestors 'none'")
                .body(PAGE),
            "/healthz" => Response::text(200, "ok"),
            PATH => match self.access.check(request) {
                Ok(()) => Response::text(200, "the samples are for a WebSocket"),
                Err(refusal) => refusal,
            },
            _ => Response::text(404, "the page is at /"),
        })
    }

    fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
        // Before the history is read, so that no sample is missing between the two.
        peer.subscribe_with(TOPIC, SlowConsumer::Latest).expect("one topic, with a short name");
        let hello = json!({
            "type": "hello", "host": samples::host(), "cores": samples::cores(),
            "interval": self.interval.as_secs_f64(), "history": HISTORY_MAX,
        });
        peer.send(&hello.to_string());
        for sample in self.history().samples() {
            peer.send_encoded(sample);
        }
    }

    fn on_message(&mut self, peer: &mut Peer<'_, ()>, _: Message<'_>) -> Reply {
        peer.close(CloseCode::POLICY_VIOLATION, "this server only sends");
        Reply::None
    }

    /// Takes a sample. This needs no thread: the kernel makes the files of `/proc` in memory, so
    /// reading them does not wait for a disk.
    fn on_tick(&mut self, context: &mut Context<'_>, _: TickEvent) {
        let Some(sampler) = &mut self.sampler else { return };
        match sampler.sample() {
            Ok(sample) => {
                self.history().push(sample.clone());
                context.publish(TOPIC, sample);
            }
            Err(error) => log::error!("{error}"),
        }
    }
}
