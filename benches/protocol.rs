//! The parts of a session, each alone: mask, frame header, handshake, UTF-8.

mod frames;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use frames::{KEY, frame, text};
use ws_reactor::protocol::{
    Accept, Delivery, Event, FrameHeader, HEADROOM_BYTES, HeadReader, Limits, Request, Session,
    Workspace, unmask,
};

/// Unmasking in place, as at depth 1.
fn mask(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mask");
    for size in [7, 32, 125, 1024, 16 << 10, 64 << 10] {
        let mut payload = text("The quick brown fox. ", size);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| unmask(black_box(&mut payload), KEY));
        });
    }
    group.finish();
}

/// Decoding a client's header, by the size of its length field.
fn frame_header(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame header");
    for size in [125, 126, 65_536] {
        let bytes = frame(1, &text("a", size));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| FrameHeader::decode(black_box(&bytes)));
        });
    }
    group.finish();
}

/// A browser's request, without cookies.
const REQUEST: &[u8] = b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n\
    Accept: */*\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Sec-WebSocket-Version: 13\r\nOrigin: http://example.com\r\n\
    Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Connection: keep-alive, Upgrade\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n\
    Upgrade: websocket\r\n\r\n";

/// Parsing a request and writing the 101.
fn handshake(criterion: &mut Criterion) {
    let mut out = Vec::new();
    criterion.bench_function("handshake", |bencher| {
        bencher.iter(|| {
            out.clear();
            let mut reader = HeadReader::default();
            let head = reader.read(black_box(REQUEST), 8192).expect("a well-formed head");
            let head = head.expect("a complete head");
            let request = Request::parse(head.bytes).expect("a valid request");
            Accept::default().write(request.upgrade_key().expect("an upgrade"), &mut out);
            out.len()
        });
    });
}

/// Text that is not ASCII, in one read and in two that split a character. The difference to
/// `session/binary` is the cost of validation.
fn utf8(criterion: &mut Criterion) {
    let limits = Limits { message_bytes_max: 1 << 20, fragments_max: 1000 };
    let mut group = criterion.benchmark_group("utf8");
    for size in [30, 1020, 16_380] {
        // Three bytes per character.
        let input = frame(1, &text("\u{20ac}", size));
        for (name, cut) in [("whole", input.len()), ("cut", input.len() - size / 2 - 1)] {
            let mut session = Session::new(Delivery::Whole);
            let mut workspace = Workspace::default();
            let mut buf = vec![0; HEADROOM_BYTES + input.len()];
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| {
                    let mut messages = 0;
                    for read in [&input[..cut], &input[cut..]] {
                        let buf = &mut buf[..HEADROOM_BYTES + read.len()];
                        buf[HEADROOM_BYTES..].copy_from_slice(read);
                        let mut window = session.window(buf);
                        while let Ok(Some(event)) =
                            session.next_event(&mut window, &limits, &mut workspace)
                        {
                            messages += usize::from(matches!(event, Event::Message(_)));
                        }
                    }
                    assert_eq!(messages, 1);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, mask, frame_header, handshake, utf8);
criterion_main!(benches);
