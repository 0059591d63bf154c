//! Each measurement: who listens to what, how it is written, and what is looked at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::listeners::{Group, Listener, Wish};
use super::message;
use super::peer::{Peer, Running, Writer};
use super::receipts::{Receipts, histogram};
use super::report::{Flow, Report};
use super::{Arguments, Mode};
use crate::server::computed;

/// What all listeners listen to, if they listen to the same.
const SHARED: &str = "rooms/shared";

/// Before what counts begins.
const WARM_UP: Duration = Duration::from_secs(1);

/// Between writes at low load.
const PAUSE: Duration = Duration::from_millis(10);

/// Writers of other documents.
const WRITERS: usize = 16;

/// For what an idle server puts in order after it was spoken with.
const SETTLE: Duration = Duration::from_secs(2);

/// Parts into which the time is divided in which commits with listeners and without take turns.
const TURNS: u32 = 2;

pub async fn measure(
    arguments: &Arguments,
    mode: Mode,
    peer: Peer,
    count: usize,
    report: &mut Report,
) -> Result<()> {
    let running = Running::start(peer, &arguments.programs).await?;
    let bench = Bench {
        arguments,
        running: &running,
        count,
    };
    let measured = match mode {
        Mode::Hot => {
            let writers = arguments.writers.max(1);
            let behind = arguments.behind.div_ceil(writers as u64);
            let shared = (0..writers).map(|writer| format!("{SHARED}{writer}"));
            bench
                .flow(report, Some(shared.collect()), Pace::Closed(behind))
                .await
        }
        Mode::Paced => {
            let shared = Some(vec![SHARED.to_owned()]);
            bench.flow(report, shared, Pace::Rate(arguments.rate)).await
        }
        Mode::Quiet => {
            let shared = Some(vec![SHARED.to_owned()]);
            bench.flow(report, shared, Pace::Quiet).await
        }
        Mode::Distinct => bench.flow(report, None, Pace::Quiet).await,
        Mode::Memory => bench.memory(report).await,
        Mode::Commits => bench.commits(report).await,
        Mode::Storm => bench.storm(report).await,
    };
    measured.with_context(|| format!("{mode:?} of {peer:?} with {count} listeners"))
}

/// When the next write begins.
#[derive(Copy, Clone)]
enum Pace {
    /// When the last one is acknowledged, and nobody is more writes behind than this, unless it is 0.
    Closed(u64),
    /// So many in a second, whatever becomes of them. Their time is when they should have begun.
    Rate(u64),
    /// A while after the last one reached everybody.
    Quiet,
}

struct Bench<'a> {
    arguments: &'a Arguments,
    running: &'a Running,
    count: usize,
}

/// Listeners that stand.
struct Audience {
    receipts: Arc<Receipts>,
    wishes: watch::Sender<Wish>,
    groups: Vec<JoinHandle<Result<Vec<Listener>>>>,
}

impl Audience {
    /// Ends all, and hands them back.
    async fn end(self) -> Result<Vec<Listener>> {
        self.wishes.send_replace(Wish::End);
        let mut listeners = Vec::new();
        for group in self.groups {
            listeners.extend(group.await??);
        }
        Ok(listeners)
    }
}

impl Bench<'_> {
    /// Listeners of a document each, of which one is written.
    fn listeners(&self) -> Vec<Listener> {
        let of = |number: usize| {
            let follows = number == self.count / 2;
            Listener::on([document(number)].into(), follows)
        };
        (0..self.count).map(of).collect()
    }

    /// Has them listen to what so many writers write.
    async fn open(&self, listeners: Vec<Listener>, writers: usize) -> Result<Audience> {
        let of_group = match self.running.peer {
            Peer::Redis => 1,
            Peer::Watchfire | Peer::Hidane | Peer::Emulator => {
                self.arguments.streams_per_connection.max(1)
            }
        };
        let count = listeners.len();
        let receipts = Arc::new(Receipts::new(count.div_ceil(of_group), writers));
        let (wishes, wished) = watch::channel(Wish::Listen);
        let mut groups = Vec::new();
        let mut listeners = listeners.into_iter();
        for index in 0..count.div_ceil(of_group) {
            let group = Group {
                address: self.running.address.clone(),
                index,
                listeners: listeners.by_ref().take(of_group).collect(),
                receipts: Arc::clone(&receipts),
                wishes: wished.clone(),
            };
            groups.push(match self.running.peer {
                Peer::Redis => tokio::spawn(group.subscribe()),
                Peer::Watchfire | Peer::Hidane | Peer::Emulator => tokio::spawn(group.listen()),
            });
        }
        receipts.standing(count).await?;
        Ok(Audience {
            receipts,
            wishes,
            groups,
        })
    }

    /// Writes to what is listened to, and looks at how it arrives. One writer for each of the documents to which all
    /// listen, or for one of those that have a listener each.
    async fn flow(
        &self,
        report: &mut Report,
        shared: Option<Vec<String>>,
        pace: Pace,
    ) -> Result<()> {
        let heard_by = if shared.is_some() { self.count } else { 1 };
        let (written, listeners) = match shared {
            Some(paths) => {
                let paths: Arc<[String]> = paths.into();
                let listener = Listener::on(Arc::clone(&paths), true);
                (paths, vec![listener; self.count])
            }
            None => ([document(self.count / 2)].into(), self.listeners()),
        };
        let mut writers = Vec::new();
        for (index, path) in written.iter().enumerate() {
            let mut writer = self.running.writer().await?;
            let text = message::text(message::number_of(index, 0), 0, self.arguments.size);
            writer.write(path, &text).await?;
            writers.push(Writes {
                writer,
                index,
                path: path.clone(),
                size: self.arguments.size,
                count: 0,
                latency: histogram(),
            });
        }
        let audience = self.open(listeners, writers.len()).await?;
        let receipts = &audience.receipts;
        writers = write_all(writers, receipts, pace, WARM_UP).await?;
        receipts.take();
        let before: u64 = writers.iter().map(|writes| writes.count).sum();
        writers.iter_mut().for_each(|writes| writes.latency.reset());
        let (ours, theirs) = (computed("self")?, self.running.computed()?);
        let begin = receipts.now();
        writers = write_all(writers, receipts, pace, self.arguments.length()).await?;
        let sums = receipts.take();
        let mut commit = histogram();
        for writes in &writers {
            commit += &writes.latency;
        }
        let after: u64 = writers.iter().map(|writes| writes.count).sum();
        let took = Duration::from_nanos(sums.last_at.saturating_sub(begin));
        if sums.fallen > 0 {
            bail!("{} numbers did not rise", sums.fallen);
        }
        report.flow(Flow {
            peer: self.running.peer,
            listeners: self.count,
            heard_by,
            writes: after - before,
            delivered: sums.delivered,
            took,
            latency: sums.latency,
            commit,
            generator: computed("self")?.saturating_sub(ours),
            server: self.running.computed()?.saturating_sub(theirs),
        });
        audience.end().await?;
        Ok(())
    }

    async fn memory(&self, report: &mut Report) -> Result<()> {
        let mut writer = self.running.writer().await?;
        for number in 0..self.count {
            writer
                .write(&document(number), "a document to listen to")
                .await?;
        }
        writer.write(SHARED, "a document to listen to").await?;
        drop(writer);
        tokio::time::sleep(SETTLE).await;
        let without = self.running.memory_kib()?;
        let audience = self.open(self.listeners(), 1).await?;
        tokio::time::sleep(SETTLE).await;
        let with = self.running.memory_kib()?;
        let each = |more: f64| more / self.count as f64;
        let further = if self.running.peer == Peer::Redis {
            None
        } else {
            audience.wishes.send_replace(Wish::Further(SHARED));
            audience.receipts.standing(2 * self.count).await?;
            tokio::time::sleep(SETTLE).await;
            Some(each(self.running.memory_kib()? - with))
        };
        report.memory(self.running.peer, self.count, each(with - without), further);
        audience.end().await?;
        Ok(())
    }

    async fn commits(&self, report: &mut Report) -> Result<()> {
        self.others(WARM_UP).await?;
        let turn = self.arguments.length() / TURNS;
        let (mut without, mut with) = (0.0, 0.0);
        for _ in 0..TURNS {
            without += self.others(turn).await?;
            let audience = self.open(self.listeners(), 1).await?;
            with += self.others(turn).await?;
            audience.end().await?;
            tokio::time::sleep(SETTLE).await;
        }
        let turns = f64::from(TURNS);
        report.commits(self.running.peer, self.count, without / turns, with / turns);
        Ok(())
    }

    /// Commits per second of writers to whom nobody listens.
    async fn others(&self, length: Duration) -> Result<f64> {
        let begin = Instant::now();
        let mut tasks = Vec::new();
        for number in 0..WRITERS {
            let mut writer = self.running.writer().await?;
            let text = message::text(0, 0, self.arguments.size);
            tasks.push(tokio::spawn(async move {
                let mut done = 0_u64;
                while begin.elapsed() < length {
                    writer
                        .write(&format!("others/w{number}-{done}"), &text)
                        .await?;
                    done += 1;
                }
                anyhow::Ok(done)
            }));
        }
        let mut done = 0;
        for task in tasks {
            done += task.await??;
        }
        Ok(done as f64 / begin.elapsed().as_secs_f64())
    }

    async fn storm(&self, report: &mut Report) -> Result<()> {
        let mut writer = self.running.writer().await?;
        for number in 0..self.count {
            writer
                .write(&document(number), &message::text(1, 0, self.arguments.size))
                .await?;
        }
        let audience = self.open(self.listeners(), 1).await?;
        let before = self.committed(&mut writer, WARM_UP).await?;
        let listeners: Vec<Listener> = audience.end().await?;
        let begin = Instant::now();
        let (stop, stopped) = watch::channel(false);
        let meanwhile = async {
            let mut latency = histogram();
            while !*stopped.borrow() {
                latency += self.committed(&mut writer, PAUSE).await?;
            }
            anyhow::Ok(latency)
        };
        let returning = async {
            let audience = self.open(listeners, 1).await?;
            let took = begin.elapsed();
            stop.send_replace(true);
            anyhow::Ok((audience, took))
        };
        let (during, (audience, took)) = tokio::try_join!(meanwhile, returning)?;
        let again = audience.receipts.take().delivered;
        report.storm(self.running.peer, self.count, took, again, &before, &during);
        audience.end().await?;
        Ok(())
    }

    /// Commits of a document to which nobody listens, at the rate, for a while.
    async fn committed(&self, writer: &mut Writer, length: Duration) -> Result<Histogram<u64>> {
        let mut latency = histogram();
        let begin = Instant::now();
        let text = message::text(0, 0, self.arguments.size);
        while begin.elapsed() < length {
            tokio::time::sleep(Duration::from_secs(1) / self.arguments.rate.max(1) as u32).await;
            let start = Instant::now();
            writer.write("others/meanwhile", &text).await?;
            latency.saturating_record(start.elapsed().as_micros() as u64);
        }
        Ok(latency)
    }
}

fn document(number: usize) -> String {
    format!("rooms/d{number:05}")
}

/// Has all of them write for a while, side by side.
async fn write_all(
    writers: Vec<Writes>,
    receipts: &Arc<Receipts>,
    pace: Pace,
    length: Duration,
) -> Result<Vec<Writes>> {
    let mut tasks = Vec::new();
    for mut writes in writers {
        let receipts = Arc::clone(receipts);
        tasks.push(tokio::spawn(async move {
            writes.run(&receipts, pace, length).await?;
            anyhow::Ok(writes)
        }));
    }
    let mut writers = Vec::new();
    for task in tasks {
        writers.push(task.await??);
    }
    Ok(writers)
}

/// The writes of one writer to what is listened to.
struct Writes {
    writer: Writer,
    index: usize,
    path: String,
    size: usize,
    count: u64,
    /// From the start of a write to its acknowledgement, in microseconds.
    latency: Histogram<u64>,
}

impl Writes {
    /// Writes for a while, and waits until the last one has reached everybody.
    async fn run(&mut self, receipts: &Receipts, pace: Pace, length: Duration) -> Result<()> {
        let begin = receipts.now();
        let end = begin + length.as_nanos() as u64;
        let first = self.count;
        loop {
            let at = match pace {
                Pace::Closed(_) | Pace::Quiet => receipts.now(),
                Pace::Rate(rate) => {
                    let at = begin + (self.count - first) * 1_000_000_000 / rate.max(1);
                    tokio::time::sleep_until(receipts.instant(at).into()).await;
                    at
                }
            };
            if at >= end {
                break;
            }
            self.count += 1;
            let number = message::number_of(self.index, self.count);
            let text = message::text(number, at, self.size);
            self.writer.write(&self.path, &text).await?;
            let latency = (receipts.now() - at) / 1_000;
            self.latency.saturating_record(latency);
            receipts.check()?;
            match pace {
                Pace::Closed(0) | Pace::Rate(_) => {}
                Pace::Closed(behind) => {
                    let count = self.count.saturating_sub(behind);
                    receipts.reached(self.index, count).await?;
                }
                Pace::Quiet => {
                    receipts.reached(self.index, self.count).await?;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        receipts.reached(self.index, self.count).await
    }
}
