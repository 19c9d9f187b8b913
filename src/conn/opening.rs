//! The opening handshake: the request is read, checked and put to the handler.

use super::guard::guarded;
use super::open::Open;
use super::turn::TurnContext;
use crate::config::Config;
use crate::connection_info::{Address, ConnectionInfo, Endpoint};
use crate::forwarding;
use crate::handler::{Handler, Upgrade};
use crate::protocol::{Accept, Delivery, HandshakeError, HeadReader, Request, Response, Session};
#[cfg(feature = "deflate")]
use crate::protocol::{Agreement, negotiate};
use crate::stats::handshake_failures::HandshakeFailure;

/// A connection whose request is incomplete.
#[derive(Debug)]
pub(super) struct Opening {
    peer: Address,
    reader: HeadReader,
}

/// The result of a request.
pub(super) enum HandshakeOutcome<H: Handler> {
    /// The connection of this peer is open; the 101 is in the workspace.
    Open(Open<H>, Address),
    /// Another response is in the workspace, and the connection ends after it.
    Responded,
}

/// The answer to a request.
enum Answer<H: Handler> {
    Open(Open<H>),
    /// The protocol or the handler rejects the request.
    Refuse(Response, HandshakeFailure),
    /// The handler answers a plain HTTP request.
    Http(Response),
}

impl Opening {
    pub(super) fn new(peer: Address) -> Self {
        Self { peer, reader: HeadReader::default() }
    }

    pub(super) const fn peer(&self) -> &Address {
        &self.peer
    }

    /// Takes the bytes of a read. Once the request is complete, returns the result and the number
    /// of bytes up to the end of the request; those behind it are the first frames.
    pub(super) fn receive<H: Handler>(
        &mut self,
        input: &[u8],
        endpoint: &dyn Endpoint,
        turn: &mut TurnContext<'_, H>,
    ) -> Option<(HandshakeOutcome<H>, usize)> {
        let (answer, consumed) = match self.reader.read(input, turn.config.request_bytes_max) {
            Ok(Some(head)) => (judge(head.bytes, &mut self.peer, endpoint, turn), head.consumed),
            Ok(None) => return None,
            Err(error) => (refuse(error, &self.peer), input.len()),
        };
        let response = match answer {
            Answer::Open(open) => {
                return Some((HandshakeOutcome::Open(open, self.peer.clone()), consumed));
            }
            Answer::Refuse(response, reason) => {
                turn.counters.refused.add(1);
                turn.counters.handshake_failures.count(reason);
                response
            }
            Answer::Http(response) => {
                turn.counters.answered.add(1);
                response
            }
        };
        self.write_response(&response, turn);
        Some((HandshakeOutcome::Responded, consumed))
    }

    /// Answers a client whose address has too many connections or handshakes. `input` may begin with
    /// its request.
    pub(super) fn refuse_address<H>(&mut self, input: &[u8], turn: &mut TurnContext<'_, H>) {
        // Shows whether the response may have a body.
        let _ = self.reader.read(input, turn.config.request_bytes_max);
        turn.counters.refused.add(1);
        turn.counters.handshake_failures.count(HandshakeFailure::AddressLimit);
        self.write_response(&address_limit_response(), turn);
    }

    /// Puts a response into the workspace, without its body if the request is a HEAD.
    pub(super) fn write_response<H>(&self, response: &Response, turn: &mut TurnContext<'_, H>) {
        let date = turn.dates.now();
        if self.reader.is_head_request() {
            response.write_head(date, &mut turn.workspace.out);
        } else {
            response.write(date, &mut turn.workspace.out);
        }
    }
}

/// The response to a client whose address has too many connections or handshakes (RFC 6585 4).
fn address_limit_response() -> Response {
    Response::text(429, "too many connections from this address")
}

/// The client that a trusted proxy names in a request.
fn forwarded_client(request: &Request<'_>, peer: &Address, config: &Config) -> Option<Address> {
    if config.trusted_proxies.is_empty() {
        return None;
    }
    let header = &config.client_ip_header;
    let lines = request.headers().filter(|(name, _)| name.eq_ignore_ascii_case(header));
    let values: Vec<_> = lines.map(|(_, value)| value).collect();
    forwarding::client(peer, header, values.into_iter(), &config.trusted_proxies)
}

/// Checks a request and asks the handler. The client that the request names replaces `peer`.
fn judge<H: Handler>(
    head: &[u8],
    peer: &mut Address,
    endpoint: &dyn Endpoint,
    turn: &mut TurnContext<'_, H>,
) -> Answer<H> {
    let request = match Request::parse(head) {
        Ok(request) => request,
        Err(error) => return refuse(error, peer),
    };
    if let Some(client) = forwarded_client(&request, peer, turn.config) {
        *peer = client;
        if !forwarding::is_trusted(peer, &turn.config.trusted_proxies)
            && turn.take_place(peer).is_err()
        {
            return Answer::Refuse(address_limit_response(), HandshakeFailure::AddressLimit);
        }
    }
    let info = ConnectionInfo::new(peer, endpoint);
    let failed = || {
        let response = Response::text(500, "the server failed to answer");
        Answer::Refuse(response, HandshakeFailure::HandlerError)
    };
    if !request.is_upgrade() {
        match guarded(turn.guard(), || turn.handler.on_http(&request, info)) {
            Some(Some(response)) => return Answer::Http(response),
            // Without an answer the client gets 426: `upgrade_key` fails below.
            Some(None) => {}
            None => return failed(),
        }
    }
    let key = match request.upgrade_key() {
        Ok(key) => key,
        Err(error) => return refuse(error, info.peer_address()),
    };
    let upgrade = guarded(turn.guard(), || {
        (turn.handler.on_request(&request, info), turn.handler.delivery())
    });
    match upgrade {
        Some((Upgrade::Accept(accept, state), delivery)) => {
            let protocol = accept.chosen_protocol();
            if protocol.is_some_and(|chosen| request.protocols().all(|offered| offered != chosen)) {
                if let Some(suppressed) = turn.throttles.protocols.admit(turn.now) {
                    let peer = info.peer_address();
                    log::error!(
                        "the handler chose {protocol:?}, which {peer} did not offer: 500{suppressed}"
                    );
                }
                // The state's destructor is the handler's code.
                let _ = guarded(turn.guard(), || drop(state));
                return failed();
            }
            let session = accept_upgrade(&request, key, &accept, delivery, turn);
            Answer::Open(Open::new(session, state))
        }
        Some((Upgrade::Reject(response), _)) => {
            Answer::Refuse(response, HandshakeFailure::Rejected)
        }
        None => failed(),
    }
}

/// Puts the 101 into the workspace, and starts the session.
fn accept_upgrade<H>(
    request: &Request<'_>,
    key: &str,
    accept: &Accept,
    delivery: Delivery,
    turn: &mut TurnContext<'_, H>,
) -> Session {
    let session = Session::new(delivery);
    #[cfg(feature = "deflate")]
    if let Some(config) = &turn.config.deflate
        && accept.allows_deflate()
        && let Some(Agreement { parameters, answer }) = negotiate(request.extensions(), config)
    {
        turn.counters.deflate_opened.add(1);
        accept.write_with(key, Some(&answer), &mut turn.workspace.out);
        return session.with_deflate(parameters);
    }
    #[cfg(not(feature = "deflate"))]
    let _ = request;
    accept.write(key, &mut turn.workspace.out);
    session
}

fn refuse<H: Handler>(error: HandshakeError, peer: &Address) -> Answer<H> {
    log::debug!("{peer} is refused with {}: {error}", error.http_status());
    Answer::Refuse(error.into(), error.into())
}
