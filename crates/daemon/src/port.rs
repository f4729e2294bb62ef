//! A TCP port that anybody may reach: bounded in connections, and nobody keeps one without using it.
//!
//! A request must be there, and an answer taken, within [`WITHIN`]; a connection that is quiet for so long ends. While all
//! places are taken the next wait in the kernel's queue, at most as long as that.

use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// Between the last bytes of an answer, or the begin of a connection, and the end of the next request.
const WITHIN: Duration = Duration::from_secs(10);
/// After an error of `accept` that is nobody's fault (no descriptors).
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// The listener.
pub(crate) struct Port {
    listener: TcpListener,
    places: Arc<Semaphore>,
    within: Duration,
}

impl Port {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self::with(listener, CONNECTIONS_MAX, WITHIN)
    }

    fn with(listener: TcpListener, places: usize, within: Duration) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(places)), within }
    }
}

impl Listener for Port {
    type Io = Guarded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guarded, SocketAddr) {
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { continue };
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    let until = Box::pin(sleep_until(Instant::now() + self.within));
                    return (Guarded { stream, until, within: self.within, _place: place }, from);
                }
                Err(error) => {
                    tracing::warn!("metrics: a connection was not taken: {error}");
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with its time.
pub(crate) struct Guarded {
    stream: TcpStream,
    until: Pin<Box<Sleep>>,
    within: Duration,
    _place: OwnedSemaphorePermit,
}

impl Guarded {
    /// What the stream says, unless the time is up.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, said: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if said.is_pending() {
            ready!(self.until.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        said
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Also for one that sends a byte now and then: only an answer gives it more time.
        if self.until.is_elapsed() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let said = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.in_time(cx, said)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.stream).poll_write(cx, buf);
        if matches!(said, Poll::Ready(Ok(_))) {
            let until = Instant::now() + self.within;
            self.until.as_mut().reset(until);
        }
        self.in_time(cx, said)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn asked(mut stream: TcpStream, text: &str) -> String {
        stream.write_all(text.as_bytes()).await.expect("it reads");
        let mut said = String::new();
        let _ = timeout(PATIENCE, stream.read_to_string(&mut said)).await.expect("it ends");
        said
    }

    #[test]
    fn silent_and_slow_ones_are_sent_away_and_the_next_is_served() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = Port::with(listener, 4, Duration::from_millis(300));
            let address = port.local_addr().expect("an address");
            tokio::spawn(axum::serve(port, Router::new().route("/", get(|| async { "here\n" }))).into_future());
            let connect = || async { TcpStream::connect(address).await.expect("a connection") };
            // More than there are places, and none of them says anything.
            let mut silent = Vec::new();
            for _ in 0..8 {
                silent.push(connect().await);
            }
            let whole = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            assert!(asked(connect().await, whole).await.ends_with("here\n"), "it waits, and is served");
            for stream in &mut silent {
                let mut byte = [0];
                let ended = timeout(PATIENCE, stream.read(&mut byte)).await.expect("it is sent away");
                assert!(matches!(ended, Ok(0) | Err(_)));
            }
            // A byte now and then is no request.
            let mut slow = connect().await;
            let drip = async {
                loop {
                    if slow.write_all(b"G").await.is_err() {
                        return;
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            };
            timeout(PATIENCE, drip).await.expect("it is sent away");
            assert!(asked(connect().await, whole).await.ends_with("here\n"));
        });
    }
}
