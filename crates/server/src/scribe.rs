//! What a process says on its standard output and error, written by a thread of its own: a pipe that nobody reads blocks whoever
//! writes to it, and whoever has something to say here also hears signals and stops the broker.
//!
//! ```text
//!   say, tracing ── a line ──▶ so many wait ──▶ thread "log" ──▶ standard output or error
//!                     └── no room: it is counted
//! ```

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

/// Lines that may wait: those of a few seconds, if there are as many as log_rate lets through.
const LINES: usize = 4096;

/// Where a line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Output,
    Error,
}

enum Item {
    Line(Stream, Vec<u8>),
    /// All before it is written: this is dropped then.
    Mark(Sender<()>),
}

/// Takes lines and has them written.
#[derive(Debug)]
pub(crate) struct Scribe {
    items: Sender<Item>,
    lost: AtomicU64,
}

impl Scribe {
    /// Writes to `output` and `error` as long as the process lives.
    ///
    /// # Errors
    /// There can be no thread.
    pub(crate) fn start(output: impl Write + Send + 'static, error: impl Write + Send + 'static) -> io::Result<Scribe> {
        let (items, taken) = bounded(LINES);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(&taken, output, error))?;
        Ok(Scribe {
            items,
            lost: AtomicU64::new(0),
        })
    }

    /// Has `line` written, unless too many wait already.
    pub(crate) fn write(&self, stream: Stream, line: Vec<u8>) {
        if self.items.try_send(Item::Line(stream, line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines there was no room for since this was asked last; none, as long as there is no room to tell that either.
    pub(crate) fn take_lost(&self) -> u64 {
        if self.items.is_full() {
            return 0;
        }
        self.lost.swap(0, Ordering::Relaxed)
    }

    /// Waits until all is written, at most this long twice.
    pub(crate) fn flush(&self, limit: Duration) {
        let (mark, reached) = bounded(0);
        if self.items.send_timeout(Item::Mark(mark), limit).is_ok() {
            // It is dropped, and nothing is sent.
            let _ = reached.recv_timeout(limit);
        }
    }
}

fn write(items: &Receiver<Item>, mut output: impl Write, mut error: impl Write) {
    for item in items {
        // That nobody reads any more is no reason to do anything else.
        let _ = match item {
            Item::Line(Stream::Output, line) => output.write_all(&line).and_then(|()| output.flush()),
            Item::Line(Stream::Error, line) => error.write_all(&line),
            Item::Mark(mark) => {
                drop(mark);
                Ok(())
            }
        };
    }
}

/// For whoever writes each line to standard error in one piece.
impl Write for &Scribe {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        Scribe::write(self, Stream::Error, line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_pipe_that_nobody_reads_holds_nobody_up_and_what_is_lost_is_counted() {
        let (reader, writer) = io::pipe().unwrap();
        let scribe = Scribe::start(io::sink(), writer).unwrap();
        // A pipe holds 64 KiB, which is a thousand of these.
        let (long, count) = (63, 2 * LINES as u64);
        let mut line = vec![b'x'; long];
        line.push(b'\n');
        for _ in 0..count {
            scribe.write(Stream::Error, line.clone());
        }
        assert_eq!(scribe.take_lost(), 0, "there is no room to tell it");
        let begun = Instant::now();
        scribe.flush(Duration::from_millis(10));
        assert!(begun.elapsed() < Duration::from_secs(5));
        let mut lines = BufReader::new(reader).lines();
        let mut written = 0;
        while written < LINES {
            assert_eq!(lines.next().unwrap().unwrap().len(), long);
            written += 1;
        }
        scribe.write(Stream::Error, b"last\n".to_vec());
        let lost = scribe.take_lost();
        let rest = lines.map_while(Result::ok).take_while(|line| line != "last").count();
        assert_eq!((written + rest) as u64 + lost, count);
        assert_eq!(scribe.take_lost(), 0, "it is told once");
    }

    #[test]
    fn all_is_written_in_order_once_it_was_waited_for_and_a_stream_that_is_gone_takes_nothing_with_it() {
        let (reader, output) = io::pipe().unwrap();
        let (gone, error) = io::pipe().unwrap();
        drop(gone);
        let scribe = Scribe::start(output, error).unwrap();
        for number in 0..100 {
            (&mut &scribe).write_all(b"to nobody\n").unwrap();
            scribe.write(Stream::Output, format!("{number}\n").into_bytes());
        }
        scribe.flush(Duration::from_secs(30));
        drop(scribe);
        let lines: Vec<_> = BufReader::new(reader).lines().map(Result::unwrap).collect();
        assert_eq!(lines, (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
    }
}
