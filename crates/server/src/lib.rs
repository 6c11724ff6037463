//! Boot, configuration and control plane of the tidecast broker.
#![forbid(unsafe_code)]
