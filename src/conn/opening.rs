//! The request: read, checked, put to the handler, answered.

use std::net::SocketAddr;

use super::connection::{Connection, Phase, Turn, guarded};
use super::transport::Transport;
use crate::handler::{Answer, CloseCause, Handler};
use crate::protocol::{Delivery, HEADROOM_BYTES, Request, Response, Session, Window};

/// What becomes of a request.
enum Verdict<S> {
    Open(S, Delivery),
    Refuse(Response),
    Answer(Response),
}

impl<T: Transport, S: Default> Connection<T, S> {
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
            Err(error) => (Verdict::Refuse(error.into()), input.len()),
        };
        match verdict {
            Verdict::Open(state, delivery) => {
                self.phase = Phase::Open { session: Session::new(delivery), state };
                self.since = turn.now;
                turn.counters.opened.add(1);
                self.call(&[], turn, |handler, peer| handler.open(peer, address))?;
                self.serve(Window::new(read, HEADROOM_BYTES + consumed), turn)
            }
            Verdict::Refuse(response) => {
                turn.counters.refused.add(1);
                log::debug!("{address} is refused with {}", response.status());
                self.respond(&response, turn)
            }
            Verdict::Answer(response) => {
                turn.counters.answered.add(1);
                self.respond(&response, turn)
            }
        }
    }

    /// Sends a response instead of opening the connection, and ends it.
    pub(super) fn respond<H: Handler<State = S>>(
        &mut self,
        response: &Response,
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        response.write(turn.out);
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
        Err(error) => return Verdict::Refuse(error.into()),
    };
    let failed = || Verdict::Refuse(Response::text(500, "the server failed to answer"));
    if !request.is_upgrade() {
        match guarded(turn.id, turn.counters, || turn.handler.http(&request, address)) {
            Some(Some(response)) => return Verdict::Answer(response),
            Some(None) => {}
            None => return failed(),
        }
    }
    let key = match request.upgrade_key() {
        Ok(key) => key,
        Err(error) => return Verdict::Refuse(error.into()),
    };
    let answer = guarded(turn.id, turn.counters, || {
        (turn.handler.request(&request, address), turn.handler.delivery())
    });
    match answer {
        Some((Answer::Accept(accept, state), delivery)) => {
            let protocol = accept.chosen_protocol();
            if protocol.is_some_and(|chosen| request.protocols().all(|offered| offered != chosen)) {
                log::error!("the handler chose a subprotocol that the client did not offer");
                return failed();
            }
            accept.write(key, turn.out);
            Verdict::Open(state, delivery)
        }
        Some((Answer::Reject(response), _)) => Verdict::Refuse(response),
        None => failed(),
    }
}
