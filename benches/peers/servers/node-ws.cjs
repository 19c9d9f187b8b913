// A server on Node's `ws`, set up for speed as its README says: no compression (the default for a server), and `bufferutil`
// for masking, which it loads if installed. It sets TCP_NODELAY, and validates UTF-8 with Node's native function. With
// `--broadcast` it loops over its clients, as in its README.
'use strict'
const { WebSocket, WebSocketServer } = require('ws')

const isBroadcast = process.argv.includes('--broadcast')
const server = new WebSocketServer({
  host: '127.0.0.1', port: 0, perMessageDeflate: false, clientTracking: isBroadcast, maxPayload: 64 << 20
})
server.on('listening', () => console.log(`listening on 127.0.0.1:${server.address().port}`))
server.on('connection', socket => {
  socket.on('message', isBroadcast ? sendToAll : (data, isBinary) => socket.send(data, { binary: isBinary }))
  socket.on('error', () => {})  // ends only this connection
})

function sendToAll(data, isBinary) {
  for (const client of server.clients) {
    if (client.readyState === WebSocket.OPEN) client.send(data, { binary: isBinary })
  }
}
