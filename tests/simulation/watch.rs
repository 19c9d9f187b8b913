//! Checks the server's treatment of one connection, from outside.
//!
//! After each turn of its worker, the output must be the model's ([`Watch::look`]), and the worker
//! must neither sleep while it has work nor make a ready peer wait ([`Watch::check_progress`]). In
//! each round, no deadline may have passed ([`Watch::check_deadlines`]). When the server drops the
//! connection, it must have a reason ([`Watch::check_drop`]).

use std::time::Duration;

use ws_reactor::Config;

use crate::handler::SEND_BYTES_MAX;
use crate::matcher::{Matcher, Outside, Post};
use crate::net::Socket;
use crate::support::model::{Model, Opening, Rules};

/// The longest wait of a ready peer, in turns of its worker: a read of 260 KiB may hold 43 000
/// frames without a reply, and a turn takes 4096.
const TURNS_MAX: usize = 16;

/// How late a worker may have its turn here.
pub(crate) const STALL_MAX: Duration = Duration::from_millis(300);

/// A deadline may be as late as two ticks of 50 ms and a stalled worker, and some have three steps.
const SLACK: Duration = Duration::from_millis(3 * (100 + 300) + 50);

/// Looks at acknowledgements in one timeout.
const LOOKS_PER_TIMEOUT: u32 = 32;

/// The state of the server at this moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment<'m> {
    pub(crate) now: Duration,
    pub(crate) config: &'m Config,
    /// When the server has been asked to end, and when it has to have.
    pub(crate) drain: Option<(Duration, Duration)>,
    /// 503 may be answered although the handshake has time left.
    pub(crate) may_turn_away: bool,
    /// The worker wants its next turn at once.
    pub(crate) is_busy: bool,
    /// The worker has read all posted commands.
    pub(crate) has_read_mail: bool,
}

/// The state of a connection.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) model: Model,
    matcher: Matcher,
    pub(crate) outside: Outside,
    consumed_at: Duration,
    /// The last time that a ping became due.
    ping_due_at: Option<Duration>,
    pinged_at: Option<Duration>,
    acknowledged: u64,
    /// The last acknowledgement of bytes that were written before the ping, if there is one, and
    /// before the close frame.
    progress_at: Duration,
    /// The last acknowledgement of any bytes.
    acknowledged_at: Duration,
    is_all_acknowledged: bool,
    /// The first time that there was a reason for a close frame.
    closing_since: Option<Duration>,
    /// The close frame has been written.
    ended_at: Option<Duration>,
    waiting_turns: usize,
    /// Its end has been looked at.
    is_done: bool,
}

impl Watch {
    pub(crate) fn new(rules: Rules, opening: Opening, now: Duration) -> Self {
        Self {
            model: Model::new(rules, opening),
            matcher: Matcher::default(),
            outside: Outside::default(),
            consumed_at: now,
            ping_due_at: None,
            pinged_at: None,
            acknowledged: 0,
            progress_at: now,
            acknowledged_at: now,
            is_all_acknowledged: true,
            closing_since: None,
            ended_at: None,
            waiting_turns: 0,
            is_done: false,
        }
    }

    /// Another thread has posted a message, which is `bytes` on the wire.
    pub(crate) fn posted(&mut self, bytes: Vec<u8>) {
        self.outside.longest_post = self.outside.longest_post.max(bytes.len());
        let is_optional = !self.model.is_open();
        self.outside.posts.push_back(Post { bytes, is_optional });
    }

    /// Another thread has asked for a close.
    pub(crate) fn close_asked(&mut self, code: u16, now: Duration) {
        self.outside.close_codes.push(code);
        self.closing_since.get_or_insert(now);
    }

    /// The worker has had a turn.
    ///
    /// # Errors
    ///
    /// Describes the worker's first mistake.
    pub(crate) fn look(&mut self, socket: &mut Socket, moment: &Moment<'_>) -> Result<(), String> {
        if self.is_done {
            return Ok(());
        }
        if let Some(mistake) = socket.client.mistake {
            return Err(mistake.into());
        }
        self.permit(socket, moment);
        let consumed = std::mem::take(&mut socket.client.consumed);
        let written = std::mem::take(&mut socket.client.written);
        self.model.feed(&consumed);
        let pings = self.outside.pings;
        self.matcher.feed(&written, &self.model, &mut self.outside)?;
        let now = moment.now;
        if self.outside.pings < pings {
            self.pinged_at = Some(now);
        }
        if !consumed.is_empty() {
            self.consumed_at = now;
        }
        self.note_acknowledgements(socket, now);
        if self.matcher.end.is_some() {
            self.ended_at.get_or_insert(now);
        }
        // The handler's close frame may wait behind replies that the peer does not take.
        let has_ended = self.model.is_over || socket.has_read_end || self.ended_at.is_some();
        // A refusal may come before the end of the request, and wait like a close frame.
        let is_refused =
            self.matcher.has_refusal() || (self.matcher.has_begun() && !self.model.is_open());
        if has_ended || is_refused || self.model.is_closing {
            self.closing_since.get_or_insert(now);
        }
        if socket.is_dropped() {
            self.is_done = true;
            return self.check_drop(socket, moment);
        }
        if socket.token.is_some() {
            let is_idle = consumed.is_empty() && written.is_empty();
            self.check_progress(socket, moment, is_idle)?;
        }
        Ok(())
    }

    /// Notes the bytes that the peer's TCP has acknowledged.
    fn note_acknowledgements(&mut self, socket: &Socket, now: Duration) {
        let progress = socket.send_progress();
        let ping_end = self.matcher.ping_end.filter(|_| self.is_pinged());
        let ends = ping_end.into_iter().chain(self.matcher.close_end);
        let end = ends.min().unwrap_or(u64::MAX);
        if progress.acknowledged > self.acknowledged && self.acknowledged < end {
            self.progress_at = now;
        }
        if progress.acknowledged > self.acknowledged {
            self.acknowledged_at = now;
        }
        self.acknowledged = progress.acknowledged;
        self.is_all_acknowledged = progress.acknowledged == progress.written;
    }

    /// Whether a ping has gone out since the last byte was received.
    fn is_pinged(&self) -> bool {
        self.pinged_at.is_some_and(|at| at >= self.consumed_at)
    }

    /// Whether the peer has shown no sign of life for as long as the settings say. Without pings
    /// acknowledgements count while others are outstanding, which depends on when the server looks:
    /// tests/worker says when they do.
    fn is_idle(&self, moment: &Moment<'_>) -> bool {
        let Moment { now, config, .. } = *moment;
        let (_, unanswered) = silences(config);
        now >= self.consumed_at + config.idle_timeout
            && (config.ping_interval.is_zero() || now >= self.progress_at + unanswered)
    }

    /// Allows the pings, closes and responses that are due by now without a cause in the input.
    fn permit(&mut self, socket: &Socket, moment: &Moment<'_>) {
        let (now, config) = (moment.now, moment.config);
        let is_silent = now >= self.consumed_at + silences(config).0;
        let was_due = self.ping_due_at.is_some_and(|at| at > self.consumed_at);
        if is_silent && !was_due && !config.ping_interval.is_zero() {
            self.ping_due_at = Some(now);
            self.outside.pings += 1;
        }
        if self.is_idle(moment) {
            self.outside.may_go_away = true;
        }
        if let Some((since, _)) = moment.drain {
            self.outside.may_go_away = true;
            self.closing_since.get_or_insert(since);
        }
        let accepted_at = socket.accepted_at.unwrap_or(now);
        if now - accepted_at >= config.handshake_timeout {
            self.outside.statuses.push(408);
        }
        let is_closed = !self.outside.close_codes.is_empty();
        if moment.may_turn_away || moment.drain.is_some() || is_closed {
            self.outside.statuses.push(503);
        }
        self.outside.statuses.dedup();
    }

    /// A worker may sleep only without work, and a busy one may not make a peer wait for long.
    fn check_progress(
        &mut self,
        socket: &Socket,
        moment: &Moment<'_>,
        is_idle: bool,
    ) -> Result<(), String> {
        let unsent = self.matcher.unsent(&self.model);
        self.check_backpressure(socket, moment.config, unsent)?;
        let is_readable = socket.is_readable();
        let is_held_up = !socket.is_writable() && (unsent > 0 || self.may_be_queued());
        let has_work = (socket.is_writable() && unsent > 0) || (is_readable && !is_held_up);
        if !has_work || socket.is_moving() || !is_idle {
            self.waiting_turns = 0;
        } else {
            self.waiting_turns += 1;
        }
        if self.waiting_turns > TURNS_MAX {
            return Err(format!("a ready peer has waited for {TURNS_MAX} turns"));
        }
        if moment.is_busy || socket.is_moving() {
            return Ok(());
        }
        if has_work {
            let input = if is_readable { "input" } else { "no input" };
            return Err(format!(
                "the worker sleeps: {unsent} bytes are unsent, and there is {input}"
            ));
        }
        let is_lost = self.outside.posts.iter().any(|post| !post.is_optional)
            && self.matcher.takes_posts()
            && self.closing_since.is_none()
            && socket.is_writable();
        if is_lost && moment.has_read_mail {
            return Err("a posted message has not gone out".into());
        }
        Ok(())
    }

    /// A peer that does not take its replies is not read from.
    fn check_backpressure(
        &self,
        socket: &Socket,
        config: &Config,
        unsent: usize,
    ) -> Result<(), String> {
        let is_open = self.matcher.is_open()
            && self.closing_since.is_none()
            && !self.outside.may_go_away
            && !self.model.handler_has_sent;
        let most = self.replies_max(socket, config);
        if is_open && unsent > most {
            return Err(format!(
                "{unsent} bytes are unsent, more than {most}, and reading continues"
            ));
        }
        Ok(())
    }

    /// Whether the server may have something from outside for the peer that it cannot write.
    fn may_be_queued(&self) -> bool {
        let has_control = self.outside.pings > 0 || self.outside.may_go_away;
        let is_closing = self.closing_since.is_some();
        has_control || is_closing || self.matcher.is_undecided() || self.posted_bytes() > 0
    }

    /// An upper bound of the program's bytes in the queue, with `unsent` bytes of replies.
    /// Echoes do not count, and unless the handler has sent a message, all replies are echoes.
    fn program_bytes(&self, unsent: usize) -> usize {
        self.posted_bytes() + if self.model.handler_has_sent { unsent } else { 0 }
    }

    fn posted_bytes(&self) -> usize {
        self.outside.posts.iter().map(|post| post.bytes.len()).sum()
    }

    /// No deadline has passed.
    ///
    /// # Errors
    ///
    /// Names the first that has.
    pub(crate) fn check_deadlines(
        &self,
        socket: &Socket,
        moment: &Moment<'_>,
    ) -> Result<(), String> {
        let (Some(accepted_at), false) = (socket.accepted_at, socket.is_dropped()) else {
            return Ok(());
        };
        let Moment { now, config, .. } = *moment;
        let (silence, unanswered) = silences(config);
        let is_answered = self.model.is_open() || self.matcher.has_begun();
        let waits_for_answer = !is_answered && socket.is_writable() && !socket.is_moving();
        let is_open = self.matcher.is_open() && self.closing_since.is_none();
        let waits_for_ping = !config.ping_interval.is_zero()
            && !self.is_pinged()
            && !self.matcher.is_within_frame()
            && socket.is_writable()
            && !socket.is_moving();
        let late = |timeout: Duration| timeout + timeout / LOOKS_PER_TIMEOUT;
        // The last sign of life before the server had to begin to wait for the next. Whether an
        // acknowledgement behind the ping counts depends on whether reading is paused, which is
        // invisible from outside: tests/worker covers it.
        let alive_at = (self.consumed_at.max(accepted_at) + silence)
            .max(self.acknowledged_at)
            .max(self.pinged_at.unwrap_or_default());
        let closing_at = self.ended_at.max(socket.shutdown_at);
        // Bytes queued soon after the close frame may extend the wait as if they preceded it.
        let is_quiet = self.is_all_acknowledged && self.consumed_at <= self.acknowledged_at;
        let lingers =
            late(config.idle_timeout) + config.handshake_timeout + 2 * config.close_timeout;
        let after = |since: Option<Duration>, limit: Duration| {
            since.is_some_and(|since| now > since + limit + SLACK)
        };
        let overdue = [
            (
                "an answer",
                after(Some(accepted_at).filter(|_| waits_for_answer), config.handshake_timeout),
            ),
            (
                "the end after the close",
                after(
                    closing_at
                        .max(Some(self.acknowledged_at))
                        .filter(|_| closing_at.is_some() && is_quiet),
                    config.close_timeout + config.idle_timeout / LOOKS_PER_TIMEOUT,
                ),
            ),
            (
                "a ping",
                after(Some(self.consumed_at).filter(|_| is_open && waits_for_ping), silence),
            ),
            (
                "the end of an idle connection",
                after(Some(alive_at).filter(|_| is_open), late(unanswered)),
            ),
            // A reason to close, such as the end of the stream, may come after a long silence.
            (
                "the end",
                after(Some(alive_at.max(self.acknowledged_at)).max(self.closing_since), lingers),
            ),
        ];
        match overdue.iter().find(|(_, is_overdue)| *is_overdue) {
            Some((deadline, _)) => Err(format!("{deadline} is overdue")),
            None => Ok(()),
        }
    }

    /// The server has dropped the connection: it needs a reason, and must have sent all replies.
    fn check_drop(&self, socket: &Socket, moment: &Moment<'_>) -> Result<(), String> {
        let Moment { now, config, .. } = *moment;
        let unsent = self.matcher.unsent(&self.model);
        if socket.has_failed || socket.accepted_at.is_none() {
            return Ok(());
        }
        if socket.token.is_none() {
            // Turned away at once, with as much of a 503 as there was room for.
            let may = self.outside.statuses.contains(&503);
            return if may { Ok(()) } else { Err("turned away for no reason".into()) };
        }
        if socket.has_read_end && unsent == 0 {
            return self.matcher.check_refusal();
        }
        let since = |at: Option<Duration>, limit: Duration| at.is_some_and(|at| now >= at + limit);
        // A close that waits for the end of a streamed frame does not wait for acknowledgements.
        let close_waits = self.matcher.is_within_frame() || self.model.is_within_streamed_frame();
        let timed_out_at = accepted_at(socket) + config.handshake_timeout;
        let refused_at = Some(timed_out_at).filter(|_| !self.matcher.is_open());
        let closing_at =
            [self.closing_since, socket.shutdown_at, refused_at].into_iter().flatten().min();
        let is_close_acknowledged = match self.matcher.close_end {
            Some(end) => self.acknowledged >= end,
            None => self.is_all_acknowledged && unsent == 0 && !self.matcher.is_undecided(),
        };
        let limit = if is_close_acknowledged { config.close_timeout } else { config.idle_timeout };
        let reasons = [
            close_waits && since(self.closing_since, config.close_timeout),
            closing_at.is_some() && since(closing_at.max(Some(self.progress_at)), limit),
            self.is_idle(moment),
            self.program_bytes(unsent) > config.backlog_bytes_max,
            moment.drain.is_some_and(|(_, deadline)| now >= deadline),
        ];
        if reasons.contains(&true) {
            return Ok(());
        }
        Err(format!("dropped for no reason, with {unsent} bytes unsent"))
    }

    /// The memory that the documentation of `Config` allows the connection, and a little for itself.
    pub(crate) fn bytes_max(&self, socket: &Socket, config: &Config) -> usize {
        const ITSELF_BYTES: usize = 1024;
        const GROWTH_FACTOR: usize = 4;
        let request = if self.model.is_open() { 0 } else { config.request_bytes_max };
        let incomplete = GROWTH_FACTOR * (self.model.incomplete_bytes() + HEADER_BYTES_MAX);
        let handler_sends = if self.model.handler_has_sent { SEND_BYTES_MAX } else { 0 };
        let posts = match self.outside.longest_post {
            0 => 0,
            longest => config.backlog_bytes_max + longest,
        };
        ITSELF_BYTES
            + request
            + incomplete
            + self.replies_max(socket, config)
            + handler_sends
            + posts
    }

    /// The limit of unsent bytes of replies: those to one read, or the high mark and one small
    /// read, and one message that needed several reads.
    fn replies_max(&self, socket: &Socket, config: &Config) -> usize {
        const READ_BYTES_MIN: usize = 16 * 1024;
        let most = socket.client.read_max.max(config.backlog_bytes_high + READ_BYTES_MIN);
        most + self.model.reply_bytes_max
    }
}

/// The longest header of a frame that a server sends.
const HEADER_BYTES_MAX: usize = 10;

/// How long a server waits for a byte before it pings or looks for acknowledgements, and how long a
/// peer then has for a sign of life.
fn silences(config: &Config) -> (Duration, Duration) {
    if config.ping_interval.is_zero() {
        return (config.idle_timeout / 8, config.idle_timeout);
    }
    let silence = config.ping_interval.min(config.idle_timeout / 2);
    (silence, config.idle_timeout - silence)
}

/// When the server accepted a connection.
fn accepted_at(socket: &Socket) -> Duration {
    socket.accepted_at.unwrap_or_default()
}
