// A server on Bun's WebSockets, which are uWebSockets inside. Without compression (the default). With `--broadcast`,
// messages go to everyone by topic, as in its guide to publish and subscribe.
const isBroadcast = process.argv.includes('--broadcast')

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  fetch(request, server) {
    if (!server.upgrade(request)) return new Response('', { status: 426 })
  },
  websocket: {
    maxPayloadLength: 64 << 20,
    // Never drop a message of a slow reader.
    backpressureLimit: 256 << 20,
    open(socket) {
      if (isBroadcast) socket.subscribe('all')
    },
    message(socket, message) {
      if (isBroadcast) server.publish('all', message)
      else socket.send(message)
    }
  }
})
console.log(`listening on 127.0.0.1:${server.port}`)
