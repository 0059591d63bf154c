//! The `watchfire` command: reads its settings, serves until it is told to stop or does what else it
//! was asked to, and ends with exit code 0 when that went well.

use std::env;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tracing_subscriber::EnvFilter;
use watchfire_model::Clock;
use watchfire_server::assemble::{Server, SystemClock};
use watchfire_server::client::exchange::progress::Progress;
use watchfire_server::client::exchange::{export, import};
use watchfire_server::client::index_command::{self as index_command, Console};
use watchfire_server::config::{Check, Command, Config, Emulator, Indexes, Serve};
use watchfire_server::emulator::{self, Told, java};
use watchfire_server::service::commit::random;
use watchfire_server::{backup, check, client};

/// A commit allocates and frees on several threads; measured beside the system's, this allocator takes a quarter less
/// of the server's time for one, and gives memory back.
#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let config = match java::Call::of(env::args_os()) {
        java::Call::None => Config::parse(),
        java::Call::Emulator(arguments) => {
            let emulator = ["watchfire", "emulator"].map(OsString::from);
            Config::parse_from(emulator.into_iter().chain(arguments))
        }
        java::Call::Age => {
            java::tell_age();
            return ExitCode::SUCCESS;
        }
        java::Call::Other(arguments) => return java::leave_to_the_real_one(&arguments),
    };
    let done = match config.into_command() {
        Command::Serve(settings) => serve(settings).await,
        Command::Emulator(settings) => match emulate(settings).await {
            Ok(code) => return ExitCode::from(code),
            Err(error) => Err(error),
        },
        Command::Indexes(command) => indexes(command).await,
        Command::Check(settings) => check_data(settings).await,
        Command::Backup(settings) => client::backup::run(settings, &mut std::io::stdout())
            .await
            .map_err(anyhow::Error::from),
        Command::Restore(settings) => backup::restore::run(
            settings,
            SystemClock.now(),
            random(),
            &mut std::io::stdout(),
        )
        .await
        .map_err(anyhow::Error::from),
        Command::Export(settings) => {
            let mut progress = Progress::new(std::io::stderr());
            export::run(
                settings,
                &SystemClock,
                &mut std::io::stdout(),
                &mut progress,
            )
            .await
            .map_err(anyhow::Error::from)
        }
        Command::Import(settings) => {
            let mut progress = Progress::new(std::io::stderr());
            import::run(settings, &mut std::io::stdout(), &mut progress)
                .await
                .map_err(anyhow::Error::from)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("watchfire: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Talks to a running server about its indexes.
async fn indexes(command: Indexes) -> anyhow::Result<()> {
    let interactive = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let mut console = Console::new(std::io::stdout(), std::io::stderr(), interactive);
    match command {
        Indexes::Deploy(deploy) => index_command::deploy(deploy, &mut console).await?,
        Indexes::List(remote) => index_command::list(remote, &mut console).await?,
    }
    Ok(())
}

/// Looks at the data of a server, running or not.
async fn check_data(settings: Check) -> anyhow::Result<()> {
    Ok(check::run(settings, &mut std::io::stdout()).await?)
}

/// What goes on is told on the error output.
fn log() {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,watchfire=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// Serves tests until it is told to stop, or until the program beside it has ended, whose exit code it gives.
async fn emulate(settings: Emulator) -> anyhow::Result<u8> {
    log();
    let mut signals = Signals::new().context("cannot wait for signals")?;
    let mut emulator = emulator::start(settings).await?;
    // What a program beside it writes is that program's alone.
    if !emulator.has_program() {
        say(&emulator.greeting());
    }
    let code = emulator.run(async || signals.received().await).await;
    emulator.stop().await?;
    Ok(code?)
}

async fn serve(serve: Serve) -> anyhow::Result<()> {
    log();
    // The signals are taken before the greeting: who has read it may send one.
    let mut signals = Signals::new().context("cannot wait for signals")?;
    let mut server = Server::start(serve).await?;
    say(&server.greeting());
    tokio::select! {
        _ = signals.received() => {}
        ended = server.ended() => ended.context("the server has ended by itself")?,
    }
    say("Shutting down: streams end, commits in flight are finished");
    server.stop().await?;
    say("Stopped");
    Ok(())
}

/// Tells the person or script that has started the server. They may have closed the pipe once they knew
/// the address, which is no reason to serve or to stop any differently.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn received(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Terminate,
            _ = self.interrupt.recv() => Told::Interrupt {
                at_terminal: std::io::stdin().is_terminal(),
            },
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn received(&mut self) -> Told {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Told::Interrupt { at_terminal: true }
    }
}
