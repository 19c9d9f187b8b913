//! A multi-threaded epoll reactor WebSocket server without an async runtime.
