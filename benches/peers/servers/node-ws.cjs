// An echo server on Node's `ws`, with what its README says about speed: no compression (its default for a server), and
// `bufferutil`, which it picks up by itself, for masking. It sets TCP_NODELAY by itself and checks UTF-8 with Node's own
// native function.
'use strict'
const { WebSocketServer } = require('ws')

const server = new WebSocketServer({
  host: '127.0.0.1', port: 0, perMessageDeflate: false, clientTracking: false, maxPayload: 64 << 20
})
server.on('listening', () => console.log(`listening on 127.0.0.1:${server.address().port}`))
server.on('connection', socket => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
  socket.on('error', () => {})  // ends this connection only
})
