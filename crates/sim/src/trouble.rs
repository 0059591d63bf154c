//! Whoever makes trouble: kills the server, stops it, fills the disk, sets the clock.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::chance::Chance;
use crate::client::Shared;
use crate::disk::{Disk, Faults};
use crate::history::Incident;
use crate::network::Quality;
use crate::weather::Weather;

/// How long calls in flight may take when the server is stopped.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// How long closing may take after that.
const CLOSE_MAX: Duration = Duration::from_secs(4);

/// What a runtime ends with.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The server is killed: nobody serves.
    Crash,
    /// The server has ended: nobody serves.
    Stopped,
    /// A server is started.
    Boot,
}

/// What is shared with whoever turns the runtimes over.
#[derive(Clone, Default)]
pub struct Turns(Rc<Cell<Option<Turn>>>);

impl Turns {
    /// Ends the runtime.
    pub fn ask(&self, turn: Turn) {
        self.0.set(Some(turn));
    }

    /// Whether the runtime is to end.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.get().is_some()
    }

    /// What was asked for.
    #[must_use]
    pub fn take(&self) -> Option<Turn> {
        self.0.take()
    }
}

/// Makes trouble.
pub struct Trouble {
    pub shared: Rc<Shared>,
    pub disk: Disk,
    pub turns: Turns,
    pub weather: Weather,
    pub chance: Chance,
}

impl Trouble {
    /// Makes trouble as long as clients work. Then heals everything and makes sure that a server serves.
    pub async fn make(&mut self) {
        self.disk.set_faults(self.weather.faults);
        self.shared.network.set_quality(self.weather.quality);
        let calm = u64::try_from(self.weather.calm.as_millis()).unwrap_or(1_000);
        while self.shared.working.get() > 0 {
            let pause = self.chance.within(20, calm);
            self.pause(pause).await;
            self.report_faults();
            let trouble = self.weather.trouble;
            let weights = [
                trouble.crashes,
                trouble.restarts,
                trouble.full_disks,
                trouble.clock_steps,
                trouble.peace,
            ];
            match self.chance.weighted(&weights) {
                0 => self.crash().await,
                1 => self.restart().await,
                2 => self.fill().await,
                3 => self.step_clock(),
                _ => {}
            }
        }
        self.disk.set_faults(Faults::default());
        self.shared.network.set_quality(Quality::default());
        self.disk.free().await;
        self.report_faults();
    }

    async fn pause(&self, millis: u64) {
        let timers = &self.shared.timers;
        timers.sleep(Duration::from_millis(millis)).await;
    }

    async fn crash(&mut self) {
        self.turns.ask(Turn::Crash);
        let down = self.chance.below(400);
        self.pause(1 + down).await;
        self.turns.ask(Turn::Boot);
        self.pause(1).await;
    }

    async fn restart(&mut self) {
        self.stop().await;
        self.turns.ask(Turn::Stopped);
        let down = self.chance.below(200);
        self.pause(1 + down).await;
        self.turns.ask(Turn::Boot);
        self.pause(1).await;
    }

    /// As the server does at the order to stop.
    pub async fn stop(&mut self) {
        let network = &self.shared.network;
        let Some(server) = network.server() else {
            return;
        };
        network.set_server(None);
        server.shutdown.cancel();
        for _ in 0..DRAIN_MAX.as_millis() / 10 {
            if !network.is_busy() {
                break;
            }
            self.pause(10).await;
        }
        let close = server.databases.close();
        match self.shared.timers.timeout(CLOSE_MAX, close).await {
            // A disk that fails now does no harm: everything that was acknowledged is on it.
            Some(Ok(()) | Err(_)) => {}
            None => self.shared.recorder.violation(
                "a server stops",
                "closing took longer than 4 s of simulated time".to_owned(),
            ),
        }
    }

    async fn fill(&mut self) {
        let recorder = &self.shared.recorder;
        recorder.incident(Incident::Fault("the disk is full".to_owned()));
        self.disk.fill();
        let full = self.chance.within(10, 2_000);
        self.pause(full).await;
        self.disk.free().await;
        let recorder = &self.shared.recorder;
        recorder.incident(Incident::Fault("the disk has room".to_owned()));
    }

    fn step_clock(&mut self) {
        let size = match self.chance.weighted(&[5, 4, 2, 1]) {
            0 => self.chance.within(1, 50_000),
            1 => self.chance.within(50_000, 3_000_000),
            2 => self.chance.within(3_000_000, 60_000_000),
            _ => self.chance.within(60_000_000, 900_000_000),
        };
        let size = i64::try_from(size).unwrap_or(1);
        let micros = if self.chance.happens(500) {
            size
        } else {
            -size
        };
        self.shared.timers.time().step_clock(micros);
        self.shared
            .recorder
            .incident(Incident::ClockStepped { micros });
    }

    fn report_faults(&self) {
        for text in self.disk.take_told() {
            self.shared.recorder.incident(Incident::Fault(text));
        }
    }
}
