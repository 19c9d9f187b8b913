//! nexus-web's parser on the inputs of the bench `session` of ws-reactor, to be compared with it.
//!
//! The bytes of one read in, the bytes of one write out. As there, the time includes one copy of the
//! input, and leaves out system calls.

#[path = "../../frames.rs"]
mod frames;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use frames::frame;
use nexus_web::ws::{FrameReader, FrameWriter, Message, Role};

/// A server's side of a connection.
struct Socket {
    reader: FrameReader,
    writer: FrameWriter,
    /// Memory for the replies of a turn.
    out: Vec<u8>,
}

impl Socket {
    fn new() -> Self {
        let reader = FrameReader::builder()
            .role(Role::Server)
            .buffer_capacity(BUFFER_BYTES)
            .max_frame_size(MESSAGE_BYTES_MAX as u64)
            .max_message_size(MESSAGE_BYTES_MAX)
            .build();
        Self { reader, writer: FrameWriter::new(Role::Server), out: vec![0; BUFFER_BYTES] }
    }

    /// Handles one turn. Returns the length of the replies.
    fn serve(&mut self, input: &[u8]) -> usize {
        self.reader.compact();
        self.reader.read(input).expect("the buffer has room for a turn");
        let mut len = 0;
        while let Some(message) = self.reader.next().expect("the frames are valid") {
            let out = &mut self.out[len..];
            len += match message {
                Message::Text(text) => self.writer.encode_text(text.as_bytes(), out),
                Message::Binary(bytes) => self.writer.encode_binary(bytes, out),
                other => panic!("the input has only data frames, not {other:?}"),
            };
        }
        black_box(&self.out[..len]).len()
    }
}

fn nexus_web(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("nexus-web");
    for (kind, opcode) in [("text", 1), ("binary", 2)] {
        for (size, depth) in
            [(32, 1), (32, 32), (125, 32), (1024, 16), (16 << 10, 1), (64 << 10, 3)]
        {
            let input = frame(opcode, &frames::text("The quick brown fox. ", size)).repeat(depth);
            let mut socket = Socket::new();
            // A reply is a client's frame without the mask.
            assert_eq!(socket.serve(&input), input.len() - 4 * depth);
            group.throughput(Throughput::Elements(depth as u64));
            group
                .bench_function(BenchmarkId::new(kind, format!("{size} B x {depth}")), |bencher| {
                    bencher.iter(|| socket.serve(&input))
                });
        }
    }
    group.finish();
}

criterion_group!(benches, nexus_web);
criterion_main!(benches);

/// The default of ws-reactor.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// More than a turn's bytes.
const BUFFER_BYTES: usize = 260 << 10;
