//! Sends every case of the tables through a whole worker, in one piece and split at every byte.
//!
//! A server's answers must not depend on how the network splits its input: each case is sent as
//! one piece, byte by byte, cut in two at every position, with the handshake before it and in the
//! same read, joined with other cases, and cut at random. The same bytes come out, and the server
//! ends the connection or keeps it, as the case says.

mod support;
#[path = "support/kernel/mod.rs"]
mod kernel;
#[path = "support/scripted.rs"]
mod scripted;
#[path = "support/world.rs"]
mod world;

use support::cases::{Case, MESSAGE_MAX_DEFAULT, frame_cases};
use support::frames::CLOSE;
use support::requests::{GOOD_REQUEST, GOOD_RESPONSE, RequestCase, request_cases};
use support::rng::Rng;
use world::{DATE_LINE, World};
use ws_reactor::{Config, Echo};

#[test]
fn frames_as_one_piece() {
    for_each_frame_case(|world, exam, input| {
        exam.check(world, &[GOOD_REQUEST, input]);
        exam.check(world, &[&joined(&[GOOD_REQUEST, input])]);
    });
}

#[test]
fn frames_byte_by_byte() {
    for_each_frame_case(|world, exam, input| {
        if input.len() <= BYTES_SINGLY_MAX {
            let bytes: Vec<_> = input.chunks(1).collect();
            exam.check(world, &joined_chunks(&[GOOD_REQUEST], &bytes));
        }
        let pieces: Vec<_> = input.chunks(997).collect();
        exam.check(world, &joined_chunks(&[GOOD_REQUEST], &pieces));
    });
}

#[test]
fn frames_cut_in_two_everywhere() {
    for_each_frame_case(|world, exam, input| {
        for cut in cuts(input) {
            let (left, right) = input.split_at(cut);
            exam.check(world, &[GOOD_REQUEST, left, right]);
        }
    });
}

#[test]
fn frames_with_the_handshake_cut_in_two_everywhere() {
    for_each_frame_case(|world, exam, input| {
        let step = if input.len() <= ALL_CUTS_BYTES_MAX { 1 } else { 5 };
        for cut in cuts(input).into_iter().step_by(step) {
            let (left, right) = input.split_at(cut);
            exam.check(world, &[&joined(&[GOOD_REQUEST, left]), right]);
        }
    });
}

#[test]
fn requests_as_one_piece() {
    for case in request_cases() {
        let mut world = world(MESSAGE_MAX_DEFAULT);
        let (id, output) = world.open(&case.input);
        check_answer(&case, &output);
        assert!(!world.is_dropped(id), "{}", case.name);
    }
}

#[test]
fn requests_byte_by_byte() {
    for_each_request_case(|world, exam, input| {
        exam.check(world, &input.chunks(1).collect::<Vec<_>>());
    });
}

#[test]
fn requests_cut_in_two_everywhere() {
    for_each_request_case(|world, exam, input| {
        let all = input.len() <= 512;
        for cut in (1..input.len()).filter(|cut| all || cut % 89 == 0 || input.len() - cut < 8) {
            let (left, right) = input.split_at(cut);
            exam.check(world, &[left, right]);
        }
    });
}

#[test]
fn cases_joined_in_any_order() {
    let mut rng = Rng::new(1);
    let all = frame_cases();
    let fits = |case: &&Case| case.message_max == MESSAGE_MAX_DEFAULT && !case.is_big();
    let (ending, going): (Vec<_>, Vec<_>) = all.iter().filter(fits).partition(|case| case.ends);
    let mut going: Vec<_> = going.into_iter().filter(|case| is_complete(&case.input)).collect();
    assert!(going.len() > 50, "only {} cases can be joined", going.len());
    for round in 0..300 {
        rng.shuffle(&mut going);
        let count = if round == 0 { going.len() } else { 2 + rng.below(20) };
        let mut cases = going[..count].to_vec();
        if round % 2 == 1 {
            cases.push(ending[rng.below(ending.len())]);
        }
        let input = joined(&cases.iter().map(|case| &case.input[..]).collect::<Vec<_>>());
        let output = joined(&cases.iter().map(|case| &case.output[..]).collect::<Vec<_>>());
        let names: Vec<_> = cases.iter().map(|case| case.name).collect();
        let exam = Exam {
            name: format!("round {round}: {}", names.join(" + ")),
            output: joined(&[GOOD_RESPONSE, &output]),
            ends: round % 2 == 1,
        };
        let mut world = world(MESSAGE_MAX_DEFAULT);
        exam.check(&mut world, &[GOOD_REQUEST, &input]);
        exam.check(&mut world, &[&joined(&[GOOD_REQUEST, &input])]);
        for _ in 0..5 {
            exam.check(&mut world, &rng.cut(&joined(&[GOOD_REQUEST, &input])));
        }
    }
}

#[test]
fn random_cuts_of_handshake_and_frames() {
    let cases: Vec<_> =
        frame_cases().into_iter().filter(|case| case.input.len() < 70_000).collect();
    for seed in 0..4000 {
        let mut rng = Rng::new(seed);
        let case = &cases[rng.below(cases.len())];
        let exam = Exam::of_frames(case).named(&format!("seed {seed}"));
        let input = joined(&[GOOD_REQUEST, &case.input]);
        exam.check(&mut world(case.message_max), &rng.cut(&input));
    }
}

#[test]
fn random_cuts_of_requests() {
    let cases = request_cases();
    for seed in 0..2000 {
        let mut rng = Rng::new(seed);
        let case = &cases[rng.below(cases.len())];
        let mut world = world(MESSAGE_MAX_DEFAULT);
        let exam = Exam::of_request(case, &mut world).named(&format!("seed {seed}"));
        exam.check(&mut world, &rng.cut(&case.input));
    }
}

/// The expected result of an input, however it is split.
struct Exam {
    name: String,
    output: Vec<u8>,
    ends: bool,
}

impl Exam {
    fn of_frames(case: &Case) -> Self {
        let name = format!("{} ({})", case.name, case.rfc);
        Self { name, output: joined(&[GOOD_RESPONSE, &case.output]), ends: case.ends }
    }

    /// Sends a request in one piece, checks the answer, and expects the same for every split.
    fn of_request(case: &RequestCase, world: &mut World<Echo>) -> Self {
        let name = format!("{} ({})", case.name, case.rfc);
        let (id, output) = world.open(&case.input);
        check_answer(case, &output);
        world.finish(id);
        world.run_until_quiet();
        let closes = headers(&case.frames).iter().any(|header| header.opcode == CLOSE);
        Self { name, output, ends: case.status != 101 || closes }
    }

    fn named(mut self, more: &str) -> Self {
        self.name = format!("{}, {more}", self.name);
        self
    }

    /// Sends each chunk in a read of its own, and compares the output with the table.
    fn check(&self, world: &mut World<Echo>, chunks: &[&[u8]]) {
        let id = world.connect();
        for chunk in chunks {
            world.send(id, chunk);
        }
        world.run_until_quiet();
        self.compare(chunks, &world.received(id));
        let shutdowns = world.socket(id).calls(scripted::Call::Shutdown);
        let sizes = sizes(chunks);
        assert_eq!(shutdowns == 1, self.ends, "{}: ended, reads of {sizes}", self.name);
        assert!(!world.is_dropped(id), "{}: reset, reads of {sizes}", self.name);
        world.finish(id);
        world.run_until_quiet();
        self.compare(chunks, &world.take_received(id));
        assert!(world.is_dropped(id), "{}: left open, reads of {sizes}", self.name);
    }

    fn compare(&self, chunks: &[&[u8]], output: &[u8]) {
        if output != self.output {
            let at = output.iter().zip(&self.output).take_while(|(a, b)| a == b).count();
            let piece =
                |bytes: &[u8]| bytes[at..bytes.len().min(at + 40)].escape_ascii().to_string();
            panic!(
                "{}: reads of {}: {} bytes, expected {}; from byte {at} \"{}\", expected \"{}\"",
                self.name,
                sizes(chunks),
                output.len(),
                self.output.len(),
                piece(output),
                piece(&self.output),
            );
        }
    }
}

fn check_answer(case: &RequestCase, output: &[u8]) {
    let text = String::from_utf8_lossy(output);
    let name = case.name;
    let (head, _) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{name}: {text}"));
    assert!(head.starts_with(&format!("HTTP/1.1 {} ", case.status)), "{name}: {head}");
    for (header, value) in case.headers {
        let line = format!("{header}: {value}");
        assert!(head.split("\r\n").any(|found| found == line), "{name}: {line} in {head}");
    }
    let rest = &output[head.len() + 4..];
    if case.status == 101 {
        assert_eq!(rest, case.frames, "{name}: frames after the head");
        return;
    }
    // RFC 9110 6.6.1.
    assert!(head.split("\r\n").any(|found| found == DATE_LINE), "{name}: no date in {head}");
    let length = head.split("\r\n").find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length.and_then(|length| length.parse().ok()).expect("a length");
    assert!(length > 0, "{name}: no description of the error");
    let is_head = case.input.trim_ascii_start().starts_with(b"HEAD ");
    // RFC 9110 9.3.2: the response to a HEAD has the length of the body but no body.
    assert_eq!(rest.len(), if is_head { 0 } else { length }, "{name}: bytes of the body");
}

fn for_each_frame_case(mut act: impl FnMut(&mut World<Echo>, &Exam, &[u8])) {
    for case in frame_cases() {
        act(&mut world(case.message_max), &Exam::of_frames(&case), &case.input);
    }
}

fn for_each_request_case(mut act: impl FnMut(&mut World<Echo>, &Exam, &[u8])) {
    for case in request_cases() {
        let mut world = world(MESSAGE_MAX_DEFAULT);
        let exam = Exam::of_request(&case, &mut world);
        act(&mut world, &exam, &case.input);
    }
}

fn world(message_bytes_max: usize) -> World<Echo> {
    World::new(Echo, Config { message_bytes_max, ..Config::default() })
}

/// Longer inputs are cut in two only at selected positions.
const ALL_CUTS_BYTES_MAX: usize = 2048;

/// Longer inputs are not sent byte by byte, which would take minutes.
const BYTES_SINGLY_MAX: usize = 70_000;

/// The positions to cut an input in two: all of them, or for a long input the boundaries of frames
/// and headers, and a few others.
fn cuts(input: &[u8]) -> Vec<usize> {
    let frames_max = match input.len() {
        0..=ALL_CUTS_BYTES_MAX => return (1..input.len()).collect(),
        _ if input.len() <= BYTES_SINGLY_MAX => 4,
        _ => 1,
    };
    let borders: Vec<_> = headers(input)
        .iter()
        .take(frames_max)
        .flat_map(|header| {
            let head = header.start.saturating_sub(1)..header.payload_start + 2;
            head.chain(header.end.saturating_sub(1)..header.end.saturating_add(2))
        })
        .collect();
    let sampled = (1..4).map(|part| input.len() * part / 4);
    let mut cuts: Vec<_> = borders.into_iter().chain(sampled).collect();
    cuts.retain(|cut| (1..input.len()).contains(cut));
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

/// The positions of a frame: its start, its payload, and its end, which may be beyond the input.
struct Header {
    start: usize,
    payload_start: usize,
    end: usize,
    opcode: u8,
    fin: bool,
}

/// The headers in `bytes`, found by following the lengths.
fn headers(bytes: &[u8]) -> Vec<Header> {
    let mut headers = Vec::new();
    let mut start = 0;
    while let Some(&[first, second]) = bytes.get(start..).and_then(<[u8]>::first_chunk) {
        let extended = match second & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(length) = bytes.get(start + 2..start + 2 + extended) else { break };
        let payload_len = match extended {
            0 => u64::from(second & 0x7F),
            _ => length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        let key = if second & 0x80 == 0 { 0 } else { 4 };
        let payload_start = start + 2 + extended + key;
        let end = payload_start.saturating_add(payload_len as usize);
        headers.push(Header { start, payload_start, end, opcode: first & 0xF, fin: first >= 0x80 });
        start = end;
    }
    headers
}

/// Whether `input` ends with neither a frame nor a message incomplete.
fn is_complete(input: &[u8]) -> bool {
    let headers = headers(input);
    let data = headers.iter().rfind(|header| header.opcode < CLOSE);
    headers.last().is_none_or(|header| header.end == input.len())
        && data.is_none_or(|header| header.fin)
}

fn joined(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.concat()
}

fn joined_chunks<'c>(first: &[&'c [u8]], rest: &[&'c [u8]]) -> Vec<&'c [u8]> {
    [first, rest].concat()
}

fn sizes(chunks: &[&[u8]]) -> String {
    let sizes: Vec<_> = chunks.iter().take(20).map(|chunk| chunk.len().to_string()).collect();
    sizes.join(", ")
}
