//! Completion I/O on io_uring for tidecast.
