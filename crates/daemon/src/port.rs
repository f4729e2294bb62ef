//! Listeners for HTTP that nobody can block: the control socket, and the port for metrics.
//!
//! A connection carries one request. Until that is whole, head and body, the connection is silent: it has [`WITHIN`] for it,
//! and it makes room earlier if all places are taken ([`table`]). Afterwards it may wait for its answer as long as the verb
//! does; whoever takes nothing of an answer for [`TAKES_WITHIN`] is cut off.
//!
//! Whoever connects again and again waits for its turn before anything is read: the threads that answer, and the processor, are for
//! everybody.

mod table;

use self::table::{Admission, Id, Table};
use crate::budget::Peer;
use crate::refusal::Refusal;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use interlock_api::ProblemKind;
use interlock_export::{Comer, Comers, Pace, Turns};
use interlock_ring::now;
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

/// Connections to a port of metrics at once.
const METRICS_MAX: usize = 64;
/// Connections to the control socket at once, at most.
const CONTROL_MAX: usize = 2_048;
/// A request is whole so long after its connection began, or the connection ends.
const WITHIN: Duration = Duration::from_secs(10);
/// An answer of which nothing is taken for so long is cut off.
const TAKES_WITHIN: Duration = Duration::from_secs(30);
/// After an error of `accept` that is nobody's fault (no descriptors).
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// A request's body: ours have a few hundred bytes.
const BODY_MAX: usize = 64 << 10;
/// How often one process may connect to the control socket.
const PROCESS: Pace = Pace { burst: 512, each: Duration::from_millis(5) };
/// How often one user may, with all of its processes.
const USER: Pace = Pace { burst: 512, each: Duration::from_millis(10) };
/// How often connections are taken from the kernel at all, those included that are sent away: the others wait there.
const ALL: Pace = Pace { burst: 512, each: Duration::from_millis(2) };
/// A connection whose turn is later is sent away.
const TURN_WITHIN: Duration = Duration::from_secs(5);
/// Connections that are told at once that there is no place; those beyond are closed.
const REFUSALS: usize = 16;
/// Whoever is refused says what is asked for, and takes the answer, in this time.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);

/// How many connections the control socket may have: half of the descriptors of this process, so that the other half is left
/// for paths and exports.
pub(crate) fn control_places() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(CONTROL_MAX, |limit| usize::try_from(limit / 2).unwrap_or(CONTROL_MAX).min(CONTROL_MAX))
}

/// A kind of socket.
pub(crate) trait Socket: Send + 'static {
    /// Its connections.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Who is at the other end, where the kernel says so.
    fn peer(stream: &Self::Stream) -> Option<Peer>;
}

impl Socket for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }

    fn peer(_: &TcpStream) -> Option<Peer> {
        None
    }
}

impl Socket for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }

    fn peer(stream: &UnixStream) -> Option<Peer> {
        let peer = stream.peer_cred().ok()?;
        Some(Peer { uid: peer.uid(), pid: peer.pid().unwrap_or(0) })
    }
}

/// Serves metrics until the runtime ends: a scrape that is cut is scraped again.
pub(crate) async fn serve_metrics(listener: TcpListener, app: Router) -> io::Result<()> {
    Port::new(listener, METRICS_MAX, WITHIN, TAKES_WITHIN).serve(app).await
}

/// Serves the control socket, for `places` connections at once.
pub(crate) async fn serve_control(listener: UnixListener, places: usize, app: Router) -> io::Result<()> {
    Port::new(listener, places, WITHIN, TAKES_WITHIN).serve(app).await
}

/// A listener with its connections.
struct Port<L> {
    listener: L,
    crowd: Arc<Mutex<Crowd>>,
    within: Duration,
    takes_within: Duration,
    refusals: Arc<Semaphore>,
    comers: Comers,
    taken: Turns<()>,
}

/// The connections, and how each is told that it has to end.
struct Crowd {
    table: Table,
    all: BTreeMap<Id, Weak<Connection>>,
}

impl Crowd {
    /// Ends one. What is given back must be let go of outside the lock, which its end takes.
    #[must_use]
    fn end(&mut self, id: Id) -> Option<Arc<Connection>> {
        let connection = self.all.remove(&id)?.upgrade()?;
        connection.set(State::Over);
        Some(connection)
    }

    /// Ends the one that has been silent for longest.
    #[must_use]
    fn evict(&mut self) -> Option<Arc<Connection>> {
        let oldest = self.table.evict()?;
        self.end(oldest)
    }
}

/// What the reader, the writer and the request of one connection know of it.
struct Connection {
    id: Id,
    peer: Option<Peer>,
    crowd: Arc<Mutex<Crowd>>,
    state: Mutex<(State, Option<Waker>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its request is not whole.
    Silent,
    /// Its request is whole.
    Asks,
    /// It has to make room.
    Over,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    fn set(&self, state: State) {
        let mut now = lock(&self.state);
        now.0 = state;
        if let Some(waker) = now.1.take() {
            waker.wake();
        }
    }

    /// The state; a change of it wakes this task.
    fn state(&self, cx: &Context<'_>) -> State {
        let mut now = lock(&self.state);
        if !now.1.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            now.1 = Some(cx.waker().clone());
        }
        now.0
    }

    /// Its request is whole. False: it has to make room instead.
    fn asks(&self) -> bool {
        let asks = lock(&self.crowd).table.asks(self.id);
        if asks {
            self.set(State::Asks);
        }
        asks
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut crowd = lock(&self.crowd);
        crowd.table.ended(self.id);
        crowd.all.remove(&self.id);
    }
}

impl<L: Socket> Port<L> {
    fn new(listener: L, places: usize, within: Duration, takes_within: Duration) -> Self {
        let crowd = Crowd { table: Table::new(places), all: BTreeMap::new() };
        let refusals = Arc::new(Semaphore::new(REFUSALS));
        let (comers, taken) = (Comers::new(PROCESS, USER, TURN_WITHIN), Turns::new(ALL, TURN_WITHIN));
        Self { listener, crowd: Arc::new(Mutex::new(crowd)), within, takes_within, refusals, comers, taken }
    }

    async fn serve(self, app: Router) -> io::Result<()> {
        let app = app.layer(middleware::from_fn(whole));
        axum::serve(self, app.into_make_service_with_connect_info::<Who>()).await
    }

    /// How long one that was taken waits for its turn; `None`: it is sent away. Who comes from elsewhere is not told apart.
    fn turn(&mut self, peer: Option<Peer>) -> Option<Duration> {
        let Some(Peer { uid, pid }) = peer else { return Some(Duration::ZERO) };
        let now = now();
        let comer = Comer { pid: (pid != 0).then_some(pid), uid: Some(uid) };
        self.comers.take(comer, now).map(|turn| turn.since(now))
    }

    /// The next connection, when it is time to take one.
    async fn next(&mut self) -> io::Result<L::Stream> {
        let now = now();
        let wait = self.taken.look((), now).map_or(TURN_WITHIN, |turn| turn.since(now));
        if !wait.is_zero() {
            sleep(wait).await;
        }
        let stream = self.listener.next().await?;
        self.taken.take((), interlock_ring::now());
        Ok(stream)
    }

    /// A place for a connection; `None`: there is none.
    fn seat(&self, peer: Option<Peer>) -> Option<Arc<Connection>> {
        let mut crowd = lock(&self.crowd);
        let (id, ended) = match crowd.table.admit() {
            Admission::Full => return None,
            Admission::Taken(id) => (id, None),
            Admission::Instead(id, oldest) => (id, crowd.end(oldest)),
        };
        let state = Mutex::new((State::Silent, None));
        let connection = Arc::new(Connection { id, peer, crowd: Arc::clone(&self.crowd), state });
        crowd.all.insert(id, Arc::downgrade(&connection));
        drop(crowd);
        drop(ended);
        Some(connection)
    }
}

impl<L: Socket> Listener for Port<L> {
    type Io = Guarded<L::Stream>;
    type Addr = ();

    async fn accept(&mut self) -> (Self::Io, ()) {
        loop {
            match self.next().await {
                Ok(stream) => match self.turn(L::peer(&stream)).map(|wait| (wait, self.seat(L::peer(&stream)))) {
                    None => {}
                    Some((wait, Some(connection))) => {
                        let until = Box::pin(sleep_until(Instant::now() + wait + self.within));
                        let turn = (!wait.is_zero()).then(|| Box::pin(sleep(wait)));
                        let takes_within = self.takes_within;
                        return (Guarded { stream, connection, turn, until, takes_within, stalled: None }, ());
                    }
                    Some((_, None)) => {
                        if let Ok(turn) = Arc::clone(&self.refusals).try_acquire_owned() {
                            tokio::spawn(async move {
                                // Whoever does not take it learns it from the end of the connection.
                                let _ = timeout(REFUSED_WITHIN, refuse(stream)).await;
                                drop(turn);
                            });
                        }
                    }
                },
                Err(error) => {
                    tracing::warn!("a connection was not taken: {error}");
                    let ended = lock(&self.crowd).evict();
                    drop(ended);
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Says that there is no place. What was asked is read before: an end with something unread could take the answer along.
async fn refuse(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let _ = stream.read(&mut [0; 4096]).await?;
    let Refusal(problem) = too_many();
    let text = serde_json::to_string(&problem).unwrap_or_default();
    let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n";
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{text}", text.len()).as_bytes()).await?;
    stream.shutdown().await
}

fn too_many() -> Refusal {
    Refusal::new(ProblemKind::InUse, "too many requests wait for their answers")
        .hint("end some of them, or try again when they have ended")
}

/// Which connection a request came on.
#[derive(Clone)]
struct Who(Arc<Connection>);

impl<L: Socket> Connected<IncomingStream<'_, Port<L>>> for Who {
    fn connect_info(stream: IncomingStream<'_, Port<L>>) -> Self {
        Self(Arc::clone(&stream.io().connection))
    }
}

/// Reads the whole request before anything is done for it, and answers it as the only one of its connection.
async fn whole(ConnectInfo(Who(connection)): ConnectInfo<Who>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    if let Some(peer) = connection.peer {
        head.extensions.insert(peer);
    }
    let mut answer = match axum::body::to_bytes(body, BODY_MAX).await {
        Err(why) => {
            // What could not be read in time is answered to nobody: its connection has ended.
            let why = format!("the request's body: {why}; it may have {BODY_MAX} bytes");
            Refusal::new(ProblemKind::BadRequest, why).into_response()
        }
        Ok(_) if !connection.asks() => too_many().into_response(),
        // The stream keeps the connection; the request must not, or a verb that goes on would hold its place.
        Ok(body) => {
            drop(connection);
            next.run(Request::from_parts(head, Body::from(body))).await
        }
    };
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// A connection with its time.
struct Guarded<S> {
    stream: S,
    connection: Arc<Connection>,
    /// Nothing is read before.
    turn: Option<Pin<Box<Sleep>>>,
    /// The request is whole by then.
    until: Pin<Box<Sleep>>,
    takes_within: Duration,
    /// Nothing was taken since a while: it ends then.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.connection.state(cx) {
            State::Asks => return Pin::new(&mut self.stream).poll_read(cx, buf),
            State::Over => return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            State::Silent => {}
        }
        if let Some(turn) = &mut self.turn {
            ready!(turn.as_mut().poll(cx));
            self.turn = None;
        }
        // Also for one that sends a byte now and then.
        if self.until.is_elapsed() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let said = Pin::new(&mut self.stream).poll_read(cx, buf);
        if said.is_pending() {
            ready!(self.until.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        said
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.stream).poll_write(cx, buf);
        if said.is_ready() {
            self.stalled = None;
            return said;
        }
        let within = self.takes_within;
        ready!(self.stalled.get_or_insert_with(|| Box::pin(sleep(within))).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
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
    use axum::routing::{get, post};

    const PATIENCE: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(300);
    const WHOLE: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    async fn asked(mut stream: TcpStream, text: &str) -> String {
        stream.write_all(text.as_bytes()).await.expect("it reads");
        let mut said = String::new();
        let _ = timeout(PATIENCE, stream.read_to_string(&mut said)).await.expect("it ends");
        said
    }

    async fn begun(places: usize, within: Duration) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let app = Router::new()
            .route("/", get(|| async { "here\n" }))
            .route("/echo", post(|body: String| async { body }))
            .route("/wait", get(|| async { std::future::pending::<&str>().await }))
            .route("/much", get(|| async { vec![0_u8; 64 << 20] }));
        tokio::spawn(Port::new(listener, places, within, SHORT).serve(app));
        address
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
    }

    async fn connect(address: std::net::SocketAddr) -> TcpStream {
        TcpStream::connect(address).await.expect("a connection")
    }

    async fn is_sent_away(stream: &mut TcpStream) {
        let mut byte = [0];
        let ended = timeout(PATIENCE, stream.read(&mut byte)).await.expect("it is sent away");
        assert!(matches!(ended, Ok(0) | Err(_)));
    }

    #[test]
    fn silent_and_slow_ones_are_sent_away_and_the_next_is_served() {
        block_on(async {
            let address = begun(4, SHORT).await;
            let mut silent = connect(address).await;
            is_sent_away(&mut silent).await;
            // A byte now and then is no request, and a head without its body is none.
            for begin in ["G", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx"] {
                let mut slow = connect(address).await;
                slow.write_all(begin.as_bytes()).await.expect("it reads");
                let drip = async {
                    while slow.write_all(b"x").await.is_ok() {
                        sleep(Duration::from_millis(20)).await;
                    }
                };
                timeout(PATIENCE, drip).await.expect("it is sent away");
            }
            assert!(asked(connect(address).await, WHOLE).await.ends_with("here\n"));
            let post = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nback";
            assert!(asked(connect(address).await, post).await.ends_with("back"));
        });
    }

    #[test]
    fn who_connects_again_and_again_waits_for_its_turn_and_nobody_else_does() {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let mut port = Port::new(listener, 4, SHORT, SHORT);
            let hostile = |pid| Some(Peer { uid: 4_000_000_000, pid });
            let waits: Vec<_> = (0..2_000).map(|pid| port.turn(hostile(pid % 3))).collect();
            assert!(waits[..PROCESS.burst as usize].iter().all(|wait| *wait == Some(Duration::ZERO)));
            assert!(waits.iter().flatten().all(|wait| *wait <= TURN_WITHIN));
            assert!(waits.iter().any(|wait| wait.is_some_and(|wait| wait > TURN_WITHIN / 2)), "it waits");
            assert!(waits.contains(&None), "and is sent away");
            assert_eq!(port.turn(Some(Peer { uid: 4_000_000_001, pid: 7 })), Some(Duration::ZERO));
        });
    }

    #[test]
    fn a_crowd_that_says_nothing_delays_nobody() {
        block_on(async {
            // Nobody is sent away for the time that it takes.
            let address = begun(4, 10 * PATIENCE).await;
            let mut silent = Vec::new();
            for _ in 0..40 {
                silent.push(connect(address).await);
            }
            assert!(asked(connect(address).await, WHOLE).await.ends_with("here\n"));
            for stream in &mut silent[..36] {
                is_sent_away(stream).await;
            }
        });
    }

    #[test]
    fn whoever_asks_keeps_the_place_and_the_next_is_told() {
        block_on(async {
            let address = begun(2, SHORT).await;
            let mut waiting = Vec::new();
            for _ in 0..2 {
                let mut stream = connect(address).await;
                stream.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("it reads");
                waiting.push(stream);
            }
            // Until both requests are whole, a new connection takes the place of one.
            let refused = loop {
                let said = asked(connect(address).await, WHOLE).await;
                if !said.ends_with("here\n") {
                    break said;
                }
                waiting.clear();
                for _ in 0..2 {
                    let mut stream = connect(address).await;
                    stream.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("it reads");
                    waiting.push(stream);
                }
            };
            assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("\"in-use\""), "{refused}");
            // They wait longer than a request may take to come.
            for stream in &mut waiting {
                let early = timeout(3 * SHORT, stream.read(&mut [0])).await;
                assert!(early.is_err(), "{early:?}");
            }
            waiting.pop();
            loop {
                if asked(connect(address).await, WHOLE).await.ends_with("here\n") {
                    return;
                }
            }
        });
    }

    #[test]
    fn an_answer_that_nobody_takes_is_cut_off() {
        block_on(async {
            let address = begun(1, PATIENCE).await;
            let mut greedy = connect(address).await;
            greedy.write_all(b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("it reads");
            greedy.read_exact(&mut [0; 12]).await.expect("the answer begins");
            let told = asked(connect(address).await, WHOLE).await;
            assert!(told.starts_with("HTTP/1.1 503"), "{told}");
            let served = async { while !asked(connect(address).await, WHOLE).await.ends_with("here\n") {} };
            timeout(PATIENCE, served).await.expect("its place is given to another");
        });
    }
}
