//! devd lines on a Unix socket: whoever connects hears what happens from then on.
//!
//! A listener that does not read loses its connection after a while, and nobody else notices.

use crate::events::{Follower, Told};
use interlock_observe::devd::line;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// The socket's name beside the control socket.
pub(crate) const SOCKET: &str = "devd.pipe";
/// Listeners at once.
const LISTENERS: usize = 64;
/// A listener that takes nothing for so long is gone.
const TAKES_WITHIN: Duration = Duration::from_secs(30);

/// Serves listeners for as long as the runtime lives.
pub(crate) async fn serve(told: Arc<Told>, listener: UnixListener) {
    let room = Arc::new(Semaphore::new(LISTENERS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: it is tried again when one may be free.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let follower = told.follow(told.last());
        tokio::spawn(async move {
            hear(follower, stream).await;
            drop(permit);
        });
    }
}

async fn hear(mut follower: Follower, mut stream: UnixStream) {
    let mut silence = [0];
    loop {
        let events = tokio::select! {
            events = follower.next() => events.unwrap_or_default(),
            // A listener has nothing to say: what comes is its end.
            _ = stream.readable() => {
                match stream.try_read(&mut silence) {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                    Ok(read) if read > 0 => continue,
                    _ => return,
                }
            }
        };
        if events.is_empty() {
            return;
        }
        let text: String = events.iter().map(|event| line(event) + "\n").collect();
        match tokio::time::timeout(TAKES_WITHIN, stream.write_all(text.as_bytes())).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}
