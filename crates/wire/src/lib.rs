//! The tidecast client protocol: commands and replies.
#![forbid(unsafe_code)]
