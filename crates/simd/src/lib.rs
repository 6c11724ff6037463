//! SIMD kernels for tidecast: WebSocket unmasking.
