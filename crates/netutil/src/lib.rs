//! Address resolution, private addresses and listening sockets.
