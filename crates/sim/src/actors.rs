//! Those who act beside the server: clients, and whoever makes trouble.
//!
//! They outlive the server. Each is a future that is polled by hand, in the order in which they were woken, inside
//! whatever runtime the server has at the time; so a crash, which ends the runtime and every task in it, leaves them
//! as they are. Their timers are here for the same reason. They wait for each other and for the server through
//! channels, which belong to no runtime.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::time::Time;

type Actor = Pin<Box<dyn Future<Output = ()>>>;

/// All actors of a run.
pub struct Actors {
    actors: Vec<Option<Actor>>,
    ready: Arc<Mutex<Ready>>,
    timers: Timers,
}

#[derive(Default)]
struct Ready {
    /// Each at most once.
    queue: VecDeque<usize>,
    /// Wakes whoever polls the actors.
    parent: Option<Waker>,
}

struct ActorWaker {
    at: usize,
    ready: Arc<Mutex<Ready>>,
}

impl Wake for ActorWaker {
    fn wake(self: Arc<Self>) {
        let mut ready = lock(&self.ready);
        if !ready.queue.contains(&self.at) {
            ready.queue.push_back(self.at);
        }
        if let Some(parent) = &ready.parent {
            parent.wake_by_ref();
        }
    }
}

impl Actors {
    /// Nobody yet.
    #[must_use]
    pub fn new(timers: Timers) -> Self {
        Self {
            actors: Vec::new(),
            ready: Arc::default(),
            timers,
        }
    }

    /// Adds one, which is polled first when its turn comes.
    pub fn add(&mut self, actor: impl Future<Output = ()> + 'static) {
        self.actors.push(Some(Box::pin(actor)));
        lock(&self.ready).queue.push_back(self.actors.len() - 1);
    }

    /// Whether all have ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.actors.iter().all(Option::is_none)
    }

    /// Puts those who were woken into one order. Called when a runtime has ended: it drops its tasks in an order that
    /// depends on how many there were in the process before.
    pub fn sort_ready(&self) {
        let mut ready = lock(&self.ready);
        ready.queue.make_contiguous().sort_unstable();
        ready.parent = None;
    }

    /// When the next of their timers is due.
    #[must_use]
    pub fn next_micros(&self) -> Option<u64> {
        self.timers.next_micros()
    }

    /// Polls those who were woken, until nobody is or `stop` says so.
    pub fn poll(&mut self, context: &mut Context<'_>, stop: impl Fn() -> bool) {
        lock(&self.ready).parent = Some(context.waker().clone());
        loop {
            self.timers.wake_due();
            if stop() {
                return;
            }
            let Some(at) = lock(&self.ready).queue.pop_front() else {
                return;
            };
            let Some(slot) = self.actors.get_mut(at) else {
                continue;
            };
            let Some(actor) = slot else { continue };
            let waker = Waker::from(Arc::new(ActorWaker {
                at,
                ready: Arc::clone(&self.ready),
            }));
            if actor
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
            {
                *slot = None;
            }
        }
    }
}

/// What actors sleep by. Clones share it.
#[derive(Clone)]
pub struct Timers {
    time: Time,
    /// By the moment in microseconds, then in the order in which they were set.
    waiting: Rc<RefCell<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    wakers: BTreeMap<(u64, u64), Waker>,
    last: u64,
}

impl Timers {
    /// None yet.
    #[must_use]
    pub fn new(time: Time) -> Self {
        Self {
            time,
            waiting: Rc::default(),
        }
    }

    /// The time by which they go.
    #[must_use]
    pub fn time(&self) -> &Time {
        &self.time
    }

    /// Sleeps that long in simulated time; not at all for zero.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Sleep {
            at: self.time.now_micros().saturating_add(micros),
            key: None,
            timers: self.clone(),
        }
    }

    /// The future's output, or `None` when it takes longer.
    pub async fn timeout<T>(
        &self,
        duration: Duration,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        let sleep = self.sleep(duration);
        tokio::select! {
            biased;
            output = future => Some(output),
            () = sleep => None,
        }
    }

    /// When the next one is due.
    #[must_use]
    pub fn next_micros(&self) -> Option<u64> {
        let waiting = self.waiting.borrow();
        waiting.wakers.keys().next().map(|(at, _)| *at)
    }

    fn wake_due(&self) {
        let now = self.time.now_micros();
        loop {
            let due = {
                let mut waiting = self.waiting.borrow_mut();
                match waiting.wakers.first_entry() {
                    Some(entry) if entry.key().0 <= now => entry.remove(),
                    Some(_) | None => return,
                }
            };
            due.wake();
        }
    }
}

/// See `Timers::sleep`.
pub struct Sleep {
    at: u64,
    key: Option<(u64, u64)>,
    timers: Timers,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.timers.time.now_micros() >= self.at {
            return Poll::Ready(());
        }
        let timers = self.timers.clone();
        let mut waiting = timers.waiting.borrow_mut();
        let key = match self.key {
            Some(key) => key,
            None => {
                waiting.last += 1;
                (self.at, waiting.last)
            }
        };
        self.key = Some(key);
        waiting.wakers.insert(key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.timers.waiting.borrow_mut().wakers.remove(&key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
