//! The request: read, checked, put to the handler, answered.

use std::net::SocketAddr;

use super::connection::{Connection, Phase, Turn};
use super::guard::guarded;
use super::transport::Transport;
use crate::handler::{Answer, CloseCause, Handler};
use crate::peer::{Outbox, Peer};
use crate::protocol::{
    Delivery, HEADROOM_BYTES, HandshakeError, Request, Response, Session, Window,
};

/// What becomes of a request.
enum Verdict<S> {
    Open(S, Delivery),
    Refuse(Response),
    Answer(Response),
}

impl<T: Transport, S> Connection<T, S> {
    /// Takes what was read of the request; bytes behind its end are the first frames.
    pub(super) fn receive_request<H: Handler<State = S>>(
        &mut self,
        read: &mut [u8],
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        let Phase::Handshake(opening) = &mut self.phase else { return Ok(()) };
        let address = opening.address;
        let input = &read[HEADROOM_BYTES..];
        let (verdict, consumed) = match opening.reader.read(input, turn.config.request_bytes_max) {
            Ok(Some(head)) => (judge(head.bytes, address, turn), head.consumed),
            Ok(None) => return Ok(()),
            Err(error) => (refuse(error, address), input.len()),
        };
        match verdict {
            Verdict::Open(state, delivery) => {
                self.phase = Phase::Open { session: Session::new(delivery), state };
                self.since = turn.now;
                self.flags.deadline_moved = true;
                turn.counters.opened.add(1);
                // Before the callback, which may pass the id to other threads.
                turn.peers.insert(turn.id);
                self.call_open(address, turn)?;
                self.serve(Window::new(read, HEADROOM_BYTES + consumed), turn)
            }
            Verdict::Refuse(response) => {
                turn.counters.refused.add(1);
                self.respond(&response, turn)
            }
            Verdict::Answer(response) => {
                turn.counters.answered.add(1);
                self.respond(&response, turn)
            }
        }
    }

    /// Tells the handler that the connection is open.
    fn call_open<H: Handler<State = S>>(
        &mut self,
        address: SocketAddr,
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        let Phase::Open { session, state } = &mut self.phase else { return Ok(()) };
        let backlog_bytes_max = turn.config.backlog_bytes_max;
        let (guard, backlog) = (turn.guard(), self.backlog.bytes());
        let tally = &mut turn.tally;
        let outbox = Outbox::new(session, &[], turn.workspace, backlog, backlog_bytes_max, tally);
        let mut peer = Peer::new(turn.id, state, outbox);
        let opened = guarded(guard, || turn.handler.on_open(&mut peer, address));
        if opened.is_none() {
            self.close_for_panic(turn);
        } else if !session.is_open() {
            self.close_sent(turn.now);
        }
        turn.tally.run_moved = false;
        if turn.tally.overflowed { Err(CloseCause::BacklogOverflow) } else { Ok(()) }
    }

    /// Sends a response instead of opening the connection, and ends it.
    pub(super) fn respond<H: Handler<State = S>>(
        &mut self,
        response: &Response,
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        let date = turn.dates.now();
        match &self.phase {
            Phase::Handshake(opening) if opening.reader.is_head_request() => {
                response.write_head(date, &mut turn.workspace.out);
            }
            _ => response.write(date, &mut turn.workspace.out),
        }
        self.linger(turn.now);
        self.flush(&[], turn)
    }
}

/// Checks a request and asks the handler; the 101 of one that is accepted goes to the out buffer.
fn judge<H: Handler>(
    head: &[u8],
    address: SocketAddr,
    turn: &mut Turn<'_, H>,
) -> Verdict<H::State> {
    let request = match Request::parse(head) {
        Ok(request) => request,
        Err(error) => return refuse(error, address),
    };
    let failed = || Verdict::Refuse(Response::text(500, "the server failed to answer"));
    if !request.is_upgrade() {
        match guarded(turn.guard(), || turn.handler.on_http(&request, address)) {
            Some(Some(response)) => return Verdict::Answer(response),
            Some(None) => {}
            None => return failed(),
        }
    }
    let key = match request.upgrade_key() {
        Ok(key) => key,
        Err(error) => return refuse(error, address),
    };
    let answer = guarded(turn.guard(), || {
        (turn.handler.on_request(&request, address), turn.handler.delivery())
    });
    match answer {
        Some((Answer::Accept(accept, state), delivery)) => {
            let protocol = accept.chosen_protocol();
            if protocol.is_some_and(|chosen| request.protocols().all(|offered| offered != chosen)) {
                if let Some(suppressed) = turn.throttles.protocols.admit(turn.now) {
                    log::error!(
                        "the handler chose {protocol:?}, which {address} did not offer: 500{suppressed}"
                    );
                }
                let _ = guarded(turn.guard(), || drop(state));
                return failed();
            }
            accept.write(key, &mut turn.workspace.out);
            Verdict::Open(state, delivery)
        }
        Some((Answer::Reject(response), _)) => Verdict::Refuse(response),
        None => failed(),
    }
}

fn refuse<S>(error: HandshakeError, address: SocketAddr) -> Verdict<S> {
    log::debug!("{address} is refused with {}: {error}", error.http_status());
    Verdict::Refuse(error.into())
}
