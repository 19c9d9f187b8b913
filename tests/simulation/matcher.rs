//! Compares the output of a server to one peer with the model, while it is written.
//!
//! Between the frames that answer the peer's input there may be others: posted messages, pings, a
//! close frame on request of another thread. The matcher removes them between two frames (posted
//! messages only between two messages, so never inside a streamed one). The rest must equal the
//! model's bytes. Like the model, the matcher is written from the RFC.

use std::collections::VecDeque;

use crate::support::model::Model;

/// The payload of a keepalive ping, which the server chooses at random.
const PING_PAYLOAD_BYTES: u8 = 8;

/// The output that is allowed in addition to the model's bytes.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    /// The encoded messages of other threads, in order.
    pub(crate) posts: VecDeque<Post>,
    /// Length of the longest of them so far.
    pub(crate) longest_post: usize,
    /// The codes of close commands of other threads.
    pub(crate) close_codes: Vec<u16>,
    /// The number of allowed pings, one for each ping interval of silence.
    pub(crate) pings: usize,
    /// Code 1001 is allowed, because the peer is silent or the server is shutting down.
    pub(crate) may_go_away: bool,
    /// Statuses that may end a connection before it is open.
    pub(crate) statuses: Vec<u16>,
}

/// A posted message.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) bytes: Vec<u8>,
    /// It was posted before the connection was open, so the server may have dropped it.
    pub(crate) is_optional: bool,
}

/// How a server ended its side of the stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// With the close frame that the model expects.
    Close,
    /// With a close frame for an external reason: other replies are dropped, and only pings that
    /// the server reads afterwards are answered.
    CloseFromOutside,
}

/// The state of the comparison.
#[derive(Debug, Default)]
pub(crate) struct Matcher {
    /// Bytes of the model's output that have been written.
    pos: usize,
    /// Index of the model's frame at `pos`.
    frame: usize,
    /// `pos` is inside a frame.
    is_within_frame: bool,
    /// The model's last frame did not end a message.
    is_within_message: bool,
    /// Written bytes that are not identified yet.
    tail: Vec<u8>,
    /// Bytes of a response other than 101.
    refusal: Option<Vec<u8>>,
    /// Bytes that the server has written since the start.
    written: u64,
    /// The stream offsets of the ends of the last ping and of the close frame.
    pub(crate) ping_end: Option<u64>,
    pub(crate) close_end: Option<u64>,
    body: Body,
    pub(crate) end: Option<End>,
}

/// Whether a response other than 101 has a body.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Body {
    #[default]
    Due,
    Absent,
    /// Unknown, because the server may have answered before it read the method of a HEAD.
    Either,
}

impl Matcher {
    /// Compares bytes that the server has written.
    ///
    /// # Errors
    ///
    /// Describes the first wrong byte or frame.
    pub(crate) fn feed(
        &mut self,
        written: &[u8],
        model: &Model,
        outside: &mut Outside,
    ) -> Result<(), String> {
        self.tail.extend(written);
        self.written += written.len() as u64;
        while !self.tail.is_empty() {
            if let Some(refusal) = &mut self.refusal {
                refusal.append(&mut self.tail);
                break;
            }
            if self.end == Some(End::CloseFromOutside) {
                if !self.late_pong()? {
                    break;
                }
            } else if self.is_within_frame || self.end == Some(End::Close) {
                self.expected(model)?;
            } else if self.tail.starts_with(&[0x89, PING_PAYLOAD_BYTES]) {
                let len = 2 + usize::from(PING_PAYLOAD_BYTES);
                if self.tail.len() < len {
                    break;
                }
                outside.pings = outside.pings.checked_sub(1).ok_or("an unexpected ping")?;
                self.tail.drain(..len);
                self.ping_end = Some(self.offset());
            } else if !self.boundary(model, outside)? {
                break;
            }
        }
        Ok(())
    }

    /// The stream offset of the first byte that is not identified yet.
    const fn offset(&self) -> u64 {
        self.written - self.tail.len() as u64
    }

    /// Identifies the next frame, at a frame boundary. Returns `false` if this needs more bytes.
    fn boundary(&mut self, model: &Model, outside: &mut Outside) -> Result<bool, String> {
        let expected = &model.expected[self.pos..];
        match self.tail[0] {
            b'H' if self.pos == 0 => return self.response(model, outside),
            0x89 if self.tail.len() < 2 => return Ok(false),
            0x88 => {
                let end = 2 + self.tail.get(1).map_or(125, |len| usize::from(*len));
                let Some(frame) = self.tail.get(..end) else { return Ok(false) };
                if !expected.starts_with(frame) {
                    let code =
                        frame.get(2..4).map_or(0, |code| u16::from_be_bytes([code[0], code[1]]));
                    let is_requested = outside.close_codes.contains(&code)
                        || (code == 1001 && outside.may_go_away);
                    if !is_requested {
                        return Err(format!("an unexpected close frame: {frame:02x?}"));
                    }
                    self.end = Some(End::CloseFromOutside);
                    self.tail.drain(..end);
                    self.close_end = Some(self.offset());
                    return Ok(true);
                }
            }
            _ if !self.is_within_message => {
                let optional = outside.posts.iter().take_while(|post| post.is_optional).count();
                for at in 0..outside.posts.len().min(optional + 1) {
                    let post = &outside.posts[at].bytes;
                    if self.tail.starts_with(post) {
                        self.tail.drain(..post.len());
                        outside.posts.drain(..=at);
                        return Ok(true);
                    }
                    if post.starts_with(&self.tail) {
                        return Ok(false);
                    }
                }
            }
            _ => {}
        }
        self.is_within_frame = true;
        Ok(true)
    }

    /// Takes a complete pong after a close frame for an external reason. The model cannot know
    /// which pings are answered, because it does not know how much input the server had read
    /// before.
    fn late_pong(&mut self) -> Result<bool, String> {
        let len = match self.tail[..] {
            [0x8A] => return Ok(false),
            [0x8A, len @ 0..=125, ..] => usize::from(len),
            _ => return Err(format!("{} bytes after a close frame", self.tail.len())),
        };
        if self.tail.len() < 2 + len {
            return Ok(false);
        }
        self.tail.drain(..2 + len);
        Ok(true)
    }

    /// Identifies the response to the request: a 101, or another status.
    fn response(&mut self, model: &Model, outside: &Outside) -> Result<bool, String> {
        let Some(status) = self.tail.get(9..12) else { return Ok(false) };
        if status == b"101" {
            self.is_within_frame = true;
            return Ok(true);
        }
        let status = std::str::from_utf8(status).ok().and_then(|status| status.parse().ok());
        let status: u16 = status.ok_or("a response without a status")?;
        let may = outside.statuses.contains(&status);
        if !may && model.refusal != Some(status) {
            return Err(format!("status {status}, not {:?}", model.refusal));
        }
        self.body = match model.is_head {
            false => Body::Due,
            true if may => Body::Either,
            true => Body::Absent,
        };
        self.refusal = Some(std::mem::take(&mut self.tail));
        Ok(true)
    }

    /// Takes bytes of the frame that the model expects.
    fn expected(&mut self, model: &Model) -> Result<(), String> {
        let end = model.ends.get(self.frame).map(|end| end.0);
        let expected = &model.expected[self.pos..end.unwrap_or(model.expected.len())];
        let count = expected.len().min(self.tail.len());
        if let Some(at) = (0..count).find(|&at| expected[at] != self.tail[at]) {
            let (is, should) = (&self.tail[at..], &expected[at..]);
            return Err(format!(
                "byte {} of the replies is wrong: {:02x?}, not {:02x?}",
                self.pos + at,
                &is[..is.len().min(12)],
                &should[..should.len().min(12)]
            ));
        }
        if count == 0 {
            return Err(format!("{} unexpected bytes", self.tail.len()));
        }
        let is_close = self.tail[0] == 0x88 && self.pos == self.frame_start(model);
        self.tail.drain(..count);
        self.pos += count;
        if Some(self.pos) == end {
            self.is_within_frame = false;
            self.is_within_message = !model.ends[self.frame].1;
            self.frame += 1;
            if is_close {
                self.end = Some(End::Close);
                self.close_end = Some(self.offset());
            }
        }
        Ok(())
    }

    fn frame_start(&self, model: &Model) -> usize {
        self.frame.checked_sub(1).map_or(0, |before| model.ends[before].0)
    }

    /// The number of the model's bytes that the server has not written, although it could.
    pub(crate) fn unsent(&self, model: &Model) -> usize {
        if self.end == Some(End::CloseFromOutside) {
            return 0;
        }
        if let Some(refusal) = &self.refusal {
            return refusal_rest(refusal, self.body);
        }
        let refusal = usize::from(model.is_refused);
        (model.expected.len() + refusal - self.pos).saturating_sub(self.tail.len())
    }

    /// Whether a posted message could be sent now: the last message is complete, and no close frame
    /// has been sent.
    pub(crate) fn takes_posts(&self) -> bool {
        self.end.is_none() && self.is_open() && !self.is_within_frame && !self.is_within_message
    }

    /// Whether the server has answered the request, and opened the connection.
    pub(crate) fn is_open(&self) -> bool {
        self.frame > 0
    }

    /// Whether a part of a frame has been written.
    pub(crate) const fn is_within_frame(&self) -> bool {
        self.is_within_frame
    }

    /// Whether the last written bytes cannot be identified without the following ones.
    pub(crate) const fn is_undecided(&self) -> bool {
        !self.tail.is_empty()
    }

    /// Whether anything has been written.
    pub(crate) fn has_begun(&self) -> bool {
        self.pos > 0 || !self.tail.is_empty() || self.refusal.is_some()
    }

    /// Whether a response other than 101 has begun.
    pub(crate) const fn has_refusal(&self) -> bool {
        self.refusal.is_some()
    }

    /// Checks a complete response other than 101.
    ///
    /// # Errors
    ///
    /// Shows the response.
    pub(crate) fn check_refusal(&self) -> Result<(), String> {
        let Some(refusal) = &self.refusal else { return Ok(()) };
        let text = String::from_utf8_lossy(refusal);
        let is_whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let is_absent = body.is_empty() && content_length(head).is_some();
            let is_there = content_length(head) == Some(body.len());
            match self.body {
                Body::Due => is_there,
                Body::Absent => is_absent,
                Body::Either => is_there || is_absent,
            }
        });
        let has_date = text.contains("\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n");
        let connection = match text.contains("\r\nUpgrade: ") {
            true => "\r\nConnection: Upgrade, close\r\n",
            false => "\r\nConnection: close\r\n",
        };
        if !is_whole || !has_date || !text.contains(connection) {
            return Err(format!("an invalid response: {text:?}"));
        }
        Ok(())
    }
}

/// Minimum number of missing bytes of a response.
fn refusal_rest(refusal: &[u8], body_is: Body) -> usize {
    let text = String::from_utf8_lossy(refusal);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return 1 };
    if body_is != Body::Due && body.is_empty() {
        return 0;
    }
    content_length(head).map_or(0, |length| length.saturating_sub(body.len()))
}

fn content_length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| line.strip_prefix("Content-Length: "))?.parse().ok()
}
