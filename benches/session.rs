//! A session without sockets: the bytes of one read in, the bytes of one write out.
//!
//! Held constant: the work of a turn (a read of `depth` frames, all echoed). Left out: system
//! calls, the reactor. The copy of the input into the buffer is part of the figure, as the kernel's
//! copy is part of a `recv`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ws_reactor::protocol::{Delivery, Event, HEADROOM_BYTES, Limits, OutBuffer, Session, unmask};

const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
const LIMITS: Limits = Limits { message_bytes_max: 1 << 20, fragments_max: 1000 };

/// A client's frame.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(KEY);
    let start = frame.len();
    frame.extend(payload);
    unmask(&mut frame[start..], ws_reactor::protocol::MaskKey(KEY));
    frame
}

/// Serves one read; returns the length of the reply.
fn serve(session: &mut Session, buf: &mut [u8], out: &mut OutBuffer) -> usize {
    let mut window = session.window(buf);
    while let Ok(Some(event)) = session.next_event(&mut window, &LIMITS, out) {
        if let Event::Message(received) = event {
            black_box(received.lend(&window).expect("the text is valid"));
            received.echo(&mut window, out);
        }
    }
    let len = out.len() + window.run().len();
    out.clear();
    len
}

fn session(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session");
    for (kind, opcode) in [("text", 1), ("binary", 2)] {
        for (size, depth) in
            [(32, 1), (32, 32), (125, 32), (1024, 16), (16 << 10, 1), (64 << 10, 3)]
        {
            let payload: Vec<u8> =
                b"The quick brown fox. ".iter().copied().cycle().take(size).collect();
            let input = frame(opcode, &payload).repeat(depth);
            let mut buf = vec![0; HEADROOM_BYTES + input.len()];
            let mut out = OutBuffer::default();
            let mut session = Session::new(Delivery::StreamedEcho);
            group.throughput(Throughput::Elements(depth as u64));
            group.bench_function(
                BenchmarkId::new(kind, format!("{size} B x {depth}")),
                |bencher| {
                    bencher.iter(|| {
                        buf[HEADROOM_BYTES..].copy_from_slice(&input);
                        serve(&mut session, &mut buf, &mut out)
                    });
                },
            );
        }
    }
    group.finish();
}

criterion_group!(benches, session);
criterion_main!(benches);
