//! Retry policy as plain data and a pure, bounded sequence of delays.
