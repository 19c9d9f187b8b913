// An echo server on Node's `ws`, set up for speed as its README says: no compression (the default for a server), and
// `bufferutil` for masking, which it loads if installed. It sets TCP_NODELAY, and validates UTF-8 with Node's native
// function.
'use strict'
const { WebSocketServer } = require('ws')

const server = new WebSocketServer({
  host: '127.0.0.1', port: 0, perMessageDeflate: false, clientTracking: false, maxPayload: 64 << 20
})
server.on('listening', () => console.log(`listening on 127.0.0.1:${server.address().port}`))
server.on('connection', socket => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
  socket.on('error', () => {})  // ends only this connection
})
