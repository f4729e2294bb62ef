//! One answer for all who ask the same at the same time.
//!
//! The status of thousands of controllers takes a turn of the reactor that moves data, and megabytes. A crowd that asks for it must
//! not multiply that: whoever asks while it is being made waits for the next one, which begins after all of them have asked and is
//! everybody's. Between two of them there is a pause as long as the last one took, so that it costs half of one thread at most.
//! Who went away while it waited has none made.

use crate::refusal::Refusal;
use crate::service::Service;
use crate::waiting::quick;
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use interlock_api::ProblemKind;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// The pause is never longer.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A document that many may ask for.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// How often it was asked for.
    asked: Arc<AtomicU64>,
    made: Arc<Mutex<Made>>,
}

#[derive(Debug, Default)]
struct Made {
    /// Who had asked when the last one began to be made: it answers all of these.
    of: u64,
    last: Option<Result<Bytes, Refusal>>,
    /// The next one does not begin before.
    not_before: Option<Instant>,
}

impl Shared {
    /// The document as it is at some moment after this was called. What was begun is made to its end, also if nobody waits for
    /// it any more: who asks and goes away must not begin the next one beside it.
    pub(crate) async fn get(
        &self,
        make: impl Future<Output = Result<Bytes, Refusal>> + Send + 'static,
    ) -> Result<Bytes, Refusal> {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        // In the order in which they asked.
        let mut made = Arc::clone(&self.made).lock_owned().await;
        if made.of >= mine
            && let Some(last) = made.last.clone()
        {
            // Nobody else is waiting for this one.
            if made.of == mine {
                made.last = None;
            }
            return last;
        }
        if let Some(at) = made.not_before {
            sleep_until(at).await;
        }
        let asked = Arc::clone(&self.asked);
        let making = tokio::spawn(async move {
            let begun = Instant::now();
            made.of = asked.load(Ordering::SeqCst);
            let answer = make.await;
            made.not_before = Some(Instant::now() + begun.elapsed().min(PAUSE_MAX));
            made.last = (made.of > mine).then(|| answer.clone());
            answer
        });
        making
            .await
            .unwrap_or_else(|_| Err(Refusal::new(ProblemKind::Internal, "the status was not made: internal error")))
    }

    /// The same, as an answer with JSON. It is made and written on a thread where that may take its time.
    pub(crate) async fn answer<T: Serialize + 'static>(
        &self,
        service: &Arc<Service>,
        make: impl FnOnce(&Arc<Service>) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<Response, Refusal> {
        let text = move |service: &Arc<Service>| {
            let text = serde_json::to_vec(&make(service)?);
            text.map(Bytes::from).map_err(|why| Refusal::new(ProblemKind::Internal, why))
        };
        let service = Arc::clone(service);
        let bytes = self.get(async move { quick(&service, text).await }).await?;
        let answer = Response::builder().header(CONTENT_TYPE, "application/json").body(Body::from(bytes));
        answer.map_err(|why| Refusal::new(ProblemKind::Internal, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Notify;
    use tokio::task::yield_now;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
    }

    /// Documents that say how many were made before, each when it is let go on.
    #[derive(Clone, Default)]
    struct Maker(Arc<(AtomicU64, Notify)>);

    impl Maker {
        fn make(&self) -> impl Future<Output = Result<Bytes, Refusal>> + Send + 'static {
            let Self(all) = self.clone();
            async move {
                let before = all.0.fetch_add(1, Ordering::SeqCst);
                all.1.notified().await;
                Ok(Bytes::from(vec![u8::try_from(before).expect("few")]))
            }
        }

        fn begun(&self) -> u64 {
            self.0.0.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn a_crowd_costs_one_and_nobody_gets_what_was_made_before_it_was_asked_for() {
        block_on(async {
            let (shared, maker) = (Shared::default(), Maker::default());
            let mut first = Box::pin(shared.get(maker.make()));
            assert!(look(&mut first).await.is_none());
            yield_now().await;
            let mut crowd: Vec<_> = (0..1_000).map(|_| Box::pin(shared.get(maker.make()))).collect();
            for one in &mut crowd {
                assert!(look(one).await.is_none());
            }
            assert_eq!(maker.begun(), 1);
            maker.0.1.notify_one();
            assert_eq!(first.await.expect("made")[..], [0]);
            maker.0.1.notify_one();
            for one in crowd {
                assert_eq!(one.await.expect("made")[..], [1]);
            }
            assert_eq!(maker.begun(), 2);
            assert!(shared.made.lock().await.last.is_none(), "nothing is kept that nobody waits for");
        });
    }

    #[test]
    fn who_asks_and_goes_away_begins_nothing_beside_what_is_being_made() {
        block_on(async {
            let (shared, maker) = (Shared::default(), Maker::default());
            for _ in 0..100 {
                let mut gone = Box::pin(shared.get(maker.make()));
                assert!(look(&mut gone).await.is_none());
                yield_now().await;
            }
            assert_eq!(maker.begun(), 1);
            let mut stays = Box::pin(shared.get(maker.make()));
            assert!(look(&mut stays).await.is_none());
            maker.0.1.notify_one();
            maker.0.1.notify_one();
            assert_eq!(stays.await.expect("made")[..], [1]);
            let failed = shared.get(async { Err(Refusal::new(ProblemKind::Internal, "no")) }).await;
            assert!(failed.is_err() && shared.get(async { Ok(Bytes::new()) }).await.is_ok());
        });
    }

    /// One look at a future.
    async fn look<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
                std::task::Poll::Ready(done) => Some(done),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
