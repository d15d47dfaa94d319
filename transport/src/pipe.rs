//! One direction of a guarded link: bytes are read, measured and written on, in place.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffers::Buffers;
use crate::zmtp::{Frames, Violation};

/// Why no more bytes flow in this direction.
pub(crate) enum Stop {
    /// The reader is at its end, and all it gave was written and flushed.
    Ended,
    Read(io::Error),
    /// The writer takes nothing more.
    Write,
    Violation(Violation),
}

/// What passed at once.
pub(crate) struct Passed {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

pub(crate) struct Pipe {
    frames: Frames,
    held: Option<Held>,
    unflushed: bool,
    discard: bool,
}

/// Bytes that were read and measured but not yet written.
struct Held {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    messages: usize,
}

impl Pipe {
    pub(crate) fn new(max_message: usize) -> Self {
        Self {
            frames: Frames::new(max_message),
            held: None,
            unflushed: false,
            discard: false,
        }
    }

    /// From now on everything read is thrown away: the writer is gone, but the other direction still has bytes to send.
    pub(crate) fn discard(&mut self) {
        self.discard = true;
        self.held = None;
    }

    /// Whether the pipe waits for its writer, and so does not read.
    pub(crate) fn is_blocked(&self) -> bool {
        self.held.is_some()
    }

    /// Moves bytes until one side is not ready; `passed` hears of all that was read and, on `written`, sent on.
    pub(crate) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        buffers: &Buffers,
        mut passed: impl FnMut(Passed),
    ) -> Poll<Stop>
    where
        R: AsyncRead + Unpin + ?Sized,
        W: AsyncWrite + Unpin + ?Sized,
    {
        loop {
            if ready!(self.poll_write_held(cx, writer, buffers, &mut passed)).is_err() {
                return Poll::Ready(Stop::Write);
            }
            let mut buffer = buffers.take();
            let mut read = ReadBuf::new(&mut buffer);
            let result = Pin::new(&mut *reader).poll_read(cx, &mut read);
            let end = read.filled().len();
            match result {
                Poll::Ready(Ok(())) if end > 0 => {}
                Poll::Ready(Ok(())) => {
                    buffers.put(buffer);
                    return self
                        .poll_flush(cx, writer)
                        .map(|flushed| flushed.map_or(Stop::Write, |()| Stop::Ended));
                }
                Poll::Ready(Err(error)) => {
                    buffers.put(buffer);
                    return Poll::Ready(Stop::Read(error));
                }
                Poll::Pending => {
                    buffers.put(buffer);
                    if ready!(self.poll_flush(cx, writer)).is_err() {
                        return Poll::Ready(Stop::Write);
                    }
                    return Poll::Pending;
                }
            }
            if self.discard {
                buffers.put(buffer);
                continue;
            }
            match self.frames.advance(buffer.get(..end).unwrap_or_default()) {
                Ok(messages) => {
                    let held = Held {
                        buffer,
                        start: 0,
                        end,
                        messages,
                    };
                    self.held = Some(held);
                }
                Err(violation) => return Poll::Ready(Stop::Violation(violation)),
            }
        }
    }

    fn poll_write_held(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut (impl AsyncWrite + Unpin + ?Sized),
        buffers: &Buffers,
        passed: &mut impl FnMut(Passed),
    ) -> Poll<io::Result<()>> {
        let Some(held) = &mut self.held else {
            return Poll::Ready(Ok(()));
        };
        while held.start < held.end {
            let rest = held.buffer.get(held.start..held.end).unwrap_or_default();
            let written = ready!(Pin::new(&mut *writer).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            held.start += written;
            self.unflushed = true;
        }
        if let Some(held) = self.held.take() {
            passed(Passed {
                messages: held.messages,
                bytes: held.end,
            });
            buffers.put(held.buffer);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut (impl AsyncWrite + Unpin + ?Sized),
    ) -> Poll<io::Result<()>> {
        if self.unflushed && !self.discard {
            ready!(Pin::new(writer).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}
