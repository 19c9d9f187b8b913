// Test the echo server with `ws`.   usage: URL=ws://... SERVER_PID=N node client.cjs exact|prefix
'use strict';
const assert = require('node:assert/strict');
const { on, once } = require('node:events');
const { test } = require('node:test');
const WebSocket = require('ws');

const MIB = 1024 * 1024;
const UNICODE = 'Grüße, 世界 👋🏽 \u0000 \u{10FFFF}';
const bytes = (length) => Buffer.from({ length }, (_, i) => (i * 31) % 251);

/** One connection: `echo` is the next message, and throws once the connection is closed. */
async function connect(t) {
  const ws = new WebSocket(process.env.URL); // it offers permessage-deflate
  t.after(() => ws.terminate());
  const messages = on(ws, 'message');
  ws.on('close', (code, reason) => messages.throw(new Error(`closed: ${code} ${reason}`)));
  await once(ws, 'open');
  const echo = async (binary = false) => {
    const [data, isBinary] = (await messages.next()).value;
    assert.equal(isBinary, binary, 'opcode');
    return binary ? data : data.toString();
  };
  return { ws, echo };
}

function check(name, body) {
  test(name, { timeout: 20_000 }, async (t) => body(t, await connect(t)));
}

const suites = {
  exact() {
    check('the offered permessage-deflate is not accepted', (t, { ws }) => {
      assert.equal(ws.extensions, '');
    });

    for (const text of ['', 'Hello, server!', UNICODE]) {
      check(`text ${JSON.stringify(text)}`, async (t, { ws, echo }) => {
        ws.send(text);
        assert.equal(await echo(), text);
      });
    }

    for (const length of [0, 1, 125, 126, 127, 65535, 65536, MIB]) {
      check(`text and binary of ${length} bytes`, async (t, { ws, echo }) => {
        const text = 'x'.repeat(length);
        ws.send(text);
        assert.ok((await echo()) === text);
        ws.send(bytes(length));
        assert.ok((await echo(true)).equals(bytes(length)));
      });
    }

    check('a message of 1 MiB and one byte is refused with 1009', async (t, { ws }) => {
      ws.send(bytes(MIB + 1));
      const [code] = await once(ws, 'close');
      assert.equal(code, 1009);
    });

    check('fragments that split a character, with a ping between them', async (t, { ws, echo }) => {
      const pieces = [...Buffer.from(UNICODE)].map((byte) => Buffer.of(byte));
      const pong = once(ws, 'pong');
      pieces.forEach((piece, i) => {
        if (i === 8) ws.ping('between');
        ws.send(piece, { binary: false, fin: i === pieces.length - 1 });
      });
      assert.equal((await pong)[0].toString(), 'between');
      assert.equal(await echo(), UNICODE);
    });

    check('binary fragments, one of them empty', async (t, { ws, echo }) => {
      const pieces = [bytes(70_000), Buffer.alloc(0), bytes(126)];
      pieces.forEach((piece, i) => ws.send(piece, { fin: i === pieces.length - 1 }));
      assert.ok((await echo(true)).equals(Buffer.concat(pieces)));
    });

    check('pings of 0 and 125 bytes, and an unsolicited pong', async (t, { ws, echo }) => {
      for (const payload of [bytes(0), bytes(125)]) {
        const pong = once(ws, 'pong');
        ws.ping(payload);
        assert.deepEqual((await pong)[0], payload);
      }
      ws.pong('unasked');
      ws.send('still here');
      assert.equal(await echo(), 'still here');
    });

    check('2000 pipelined messages come back in order', async (t, { ws, echo }) => {
      for (let i = 0; i < 2000; i++) ws.send(i % 2 ? bytes(i) : `message ${i}`);
      for (let i = 0; i < 2000; i++) {
        if (i % 2) assert.ok((await echo(true)).equals(bytes(i)), `message ${i}`);
        else assert.equal(await echo(), `message ${i}`);
      }
    });

    test('three connections at once', { timeout: 20_000 }, async (t) => {
      const peers = await Promise.all([connect(t), connect(t), connect(t)]);
      await Promise.all(peers.map(async ({ ws, echo }, peer) => {
        for (let i = 0; i < 100; i++) {
          ws.send(`peer ${peer}, message ${i}`);
          assert.equal(await echo(), `peer ${peer}, message ${i}`);
        }
      }));
    });

    for (const [code, reason] of [[1000, 'done'], [1001, ''], [3000, ''], [4999, 'r'.repeat(123)]]) {
      check(`close ${code} with a reason of ${reason.length} bytes`, async (t, { ws }) => {
        ws.close(code, reason);
        assert.equal((await once(ws, 'close'))[0], code);
      });
    }

    check('close without a code', async (t, { ws }) => {
      ws.close();
      assert.equal((await once(ws, 'close'))[0], 1005);
    });

    // Must be the last: with-server checks that the server then exits with 0.
    check('SIGTERM closes open connections with 1001', async (t, { ws, echo }) => {
      ws.send('before');
      assert.equal(await echo(), 'before');
      process.kill(Number(process.env.SERVER_PID), 'SIGTERM');
      assert.equal((await once(ws, 'close'))[0], 1001);
    });
  },

  prefix() {
    for (const text of ['Hello, server!', '', UNICODE, 'x'.repeat(119), 'x'.repeat(120), 'x'.repeat(65530)]) {
      check(`prefixed text of ${text.length} characters`, async (t, { ws, echo }) => {
        ws.send(text);
        assert.equal(await echo(), `Echo: ${text}`);
      });
    }

    check('prefixed fragments and pipelined messages, in order', async (t, { ws, echo }) => {
      for (let i = 0; i < 500; i++) {
        ws.send('half ', { fin: false });
        ws.send(`and half ${i}`, { fin: true });
        ws.send(`whole ${i}`);
      }
      for (let i = 0; i < 500; i++) {
        assert.equal(await echo(), `Echo: half and half ${i}`);
        assert.equal(await echo(), `Echo: whole ${i}`);
      }
    });
  },
};

suites[process.argv[2]]();
