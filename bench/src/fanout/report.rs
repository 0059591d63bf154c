//! What was measured, as tables, with the budgets beside it.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::Mode;
use super::peer::Peer;
use crate::budgets::{at_least, at_most};

/// Of one run of writes to what is listened to.
pub struct Flow {
    pub peer: Peer,
    pub listeners: usize,
    /// Listeners of what is written.
    pub heard_by: usize,
    pub writes: u64,
    pub delivered: u64,
    /// From the first write to the last receipt.
    pub took: Duration,
    /// Of messages, in microseconds.
    pub latency: Histogram<u64>,
    /// Of acknowledgements, in microseconds.
    pub commit: Histogram<u64>,
    /// What both computed meanwhile.
    pub generator: Duration,
    pub server: Duration,
}

impl Flow {
    fn rate(&self) -> f64 {
        self.delivered as f64 / self.took.as_secs_f64()
    }
}

/// Of one mode, all servers.
pub struct Report {
    mode: Mode,
    flows: Vec<Flow>,
    /// Of the modes that have a table of their own: the head first.
    rows: Vec<String>,
    /// Figures that have a budget.
    limits: Vec<(String, f64, f64)>,
}

impl Report {
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            flows: Vec::new(),
            rows: Vec::new(),
            limits: Vec::new(),
        }
    }

    pub fn flow(&mut self, flow: Flow) {
        eprintln!(
            "{:?}, {:?}, {} listeners: {:.0} messages/s, p99 {:.2} ms",
            self.mode,
            flow.peer,
            flow.listeners,
            flow.rate(),
            ms(&flow.latency, 0.99)
        );
        self.flows.push(flow);
    }

    pub fn memory(&mut self, peer: Peer, count: usize, stream: f64, further: Option<f64>) {
        self.head("peer | streams | KiB for a stream with a target | KiB for a further target");
        let shown = further.map_or("-".to_owned(), |further| format!("{further:.1}"));
        self.rows
            .push(format!("{peer:?} | {count} | {stream:.1} | {shown}"));
        if peer == Peer::Watchfire {
            self.limits
                .push(("KiB of an idle stream".to_owned(), stream, 32.0));
        }
    }

    pub fn commits(&mut self, peer: Peer, count: usize, without: f64, with: f64) {
        self.head("peer | idle listeners | commits/s without | commits/s with | ratio");
        let ratio = with / without;
        self.rows.push(format!(
            "{peer:?} | {count} | {without:.0} | {with:.0} | {ratio:.2}"
        ));
    }

    pub fn storm(
        &mut self,
        peer: Peer,
        count: usize,
        took: Duration,
        again: u64,
        before: &Histogram<u64>,
        during: &Histogram<u64>,
    ) {
        self.head(
            "peer | listeners | all stand again | documents sent again | commit p50 / p99 before | commit p50 / p99 / max meanwhile",
        );
        self.rows.push(format!(
            "{peer:?} | {count} | {took:.2?} | {again} | {:.2} / {:.2} ms | {:.2} / {:.2} / {:.2} ms",
            ms(before, 0.5),
            ms(before, 0.99),
            ms(during, 0.5),
            ms(during, 0.99),
            ms(during, 1.0),
        ));
    }

    fn head(&mut self, head: &str) {
        if self.rows.is_empty() {
            self.rows.push(head.to_owned());
            let columns = head.split(" | ").count();
            self.rows.push(vec!["---"; columns].join(" | "));
        }
    }

    pub fn print(mut self) {
        println!("\n{:?}; load average {}\n", self.mode, load());
        let flows = std::mem::take(&mut self.flows);
        for flow in &flows {
            self.head(
                "peer | listeners | writes/s | messages/s | of Watchfire's | of all versions | p50 | p99 | max | commit p50 | commit p99 | server us/message | generator us/message",
            );
            let ours = middle_of(&flows, Peer::Watchfire, flow.listeners);
            let each = |computed: Duration| computed.as_secs_f64() * 1e6 / flow.delivered as f64;
            self.rows.push(format!(
                "{:?} | {} | {:.0} | {:.0} | {} | {:.0} % | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} | {:.2}",
                flow.peer,
                flow.listeners,
                flow.writes as f64 / flow.took.as_secs_f64(),
                flow.rate(),
                ours.map_or("-".to_owned(), |ours| format!("{:.2}", flow.rate() / ours.rate())),
                share(flow) * 100.0,
                ms(&flow.latency, 0.5),
                ms(&flow.latency, 0.99),
                ms(&flow.latency, 1.0),
                ms(&flow.commit, 0.5),
                ms(&flow.commit, 0.99),
                each(flow.server),
                each(flow.generator),
            ));
        }
        for row in &self.rows {
            println!("| {row} |");
        }
        println!();
        self.judge(&flows);
    }

    fn judge(&self, flows: &[Flow]) {
        for (name, figure, budget) in &self.limits {
            at_most(name, *figure, *budget);
        }
        let of = |peer, count| middle_of(flows, peer, count);
        match self.mode {
            Mode::Hot => {
                for (count, milliseconds) in [(1_000, 150.0), (5_000, 500.0)] {
                    let Some(ours) = of(Peer::Watchfire, count) else {
                        continue;
                    };
                    let name = format!("p99 in ms at {count} listeners");
                    at_most(&name, ms(&ours.latency, 0.99), milliseconds);
                    for (peer, times) in [(Peer::Hidane, 1.2), (Peer::Redis, 2.5)] {
                        if let Some(theirs) = of(peer, count)
                            && count == 1_000
                        {
                            let name = format!("messages at {count} listeners to {peer:?}'s");
                            at_least(&name, ours.rate() / theirs.rate(), times);
                        }
                    }
                }
                if let (Some(some), Some(many)) =
                    (of(Peer::Watchfire, 1_000), of(Peer::Watchfire, 5_000))
                {
                    let name = "messages at 5000 listeners to those at 1000";
                    at_least(name, many.rate() / some.rate(), 0.8);
                }
            }
            Mode::Paced => {
                if let Some(ours) = of(Peer::Watchfire, 1_000) {
                    at_most("p99 in ms, paced", ms(&ours.latency, 0.99), 20.0);
                    at_least("share that was delivered", share(ours), 1.0);
                }
            }
            Mode::Distinct => {
                if let (Some(some), Some(many)) =
                    (of(Peer::Watchfire, 100), of(Peer::Watchfire, 10_000))
                {
                    let ratio = ms(&many.latency, 0.5) / ms(&some.latency, 0.5);
                    at_most("p50 of 10,000 documents to that of 100", ratio, 1.5);
                }
            }
            Mode::Quiet => {
                for flow in flows {
                    println!(
                        "  {:?}: a receipt comes {:.2} ms after the acknowledgement (p50 to p50)",
                        flow.peer,
                        ms(&flow.latency, 0.5) - ms(&flow.commit, 0.5)
                    );
                }
            }
            Mode::Memory | Mode::Commits | Mode::Storm => {}
        }
    }
}

/// Of several rounds, the one in the middle by messages per second.
fn middle_of(flows: &[Flow], peer: Peer, listeners: usize) -> Option<&Flow> {
    let mut of: Vec<&Flow> = flows
        .iter()
        .filter(|flow| flow.peer == peer && flow.listeners == listeners)
        .collect();
    of.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
    of.get(of.len() / 2).copied()
}

/// Of what would have been delivered, if every listener had got every version.
fn share(flow: &Flow) -> f64 {
    flow.delivered as f64 / (flow.writes * flow.heard_by as u64) as f64
}

fn ms(histogram: &Histogram<u64>, share: f64) -> f64 {
    histogram.value_at_quantile(share) as f64 / 1_000.0
}

/// Of this machine, over one, five and fifteen minutes.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
