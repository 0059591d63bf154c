//! What this program does when it is called `java`: tools that start the official emulator do so by that name.
//!
//! Whoever wants the archive of the official emulator gets Watchfire. Everything else goes to the real `java`, the next of
//! that name on the path, if there is one.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The name under which it is called.
const NAME: &str = "java";

/// What the name of the archive has in it.
const ARCHIVE: &str = "firestore-emulator";

/// What tools of Firebase ask to find out how old a `java` is.
const ASKED_AGE: [&str; 3] = ["-Duser.language=en", "-Dfile.encoding=UTF-8", "-version"];

/// New enough for all of them, which matters only to what the real one is for.
const AGE: &str = "openjdk version \"21.0.0\" (Watchfire in place of it)";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    /// Nobody has used that name.
    None,
    /// Be an emulator with these arguments.
    Emulator(Vec<OsString>),
    /// Say how old it is.
    Age,
    /// Leave it to the real one.
    Other(Vec<OsString>),
}

impl Call {
    /// What the arguments of a process, with its name first, ask for.
    pub fn of(mut arguments: impl Iterator<Item = OsString>) -> Self {
        let name = arguments.next().unwrap_or_default();
        if Path::new(&name).file_stem() != Some(OsStr::new(NAME)) {
            return Self::None;
        }
        let arguments: Vec<OsString> = arguments.collect();
        if arguments == ASKED_AGE {
            return Self::Age;
        }
        let mut rest = arguments
            .iter()
            .skip_while(|argument| *argument != "-jar")
            .skip(1);
        match rest.next() {
            Some(archive) if is_emulator(archive) => Self::Emulator(rest.cloned().collect()),
            Some(_) | None => Self::Other(arguments),
        }
    }
}

fn is_emulator(archive: &OsStr) -> bool {
    let name = Path::new(archive).file_name().unwrap_or_default();
    name.to_string_lossy().contains(ARCHIVE)
}

/// Says how old it is, where the real one does.
pub fn tell_age() {
    eprintln!("{AGE}");
}

/// Becomes the real one, or says that there is none.
pub fn leave_to_the_real_one(arguments: &[OsString]) -> ExitCode {
    let Some(program) = real() else {
        eprintln!(
            "watchfire: no java is installed on this machine, and this is none: it only stands in for the Firestore emulator's"
        );
        return ExitCode::from(127);
    };
    let mut command = Command::new(&program);
    command.args(arguments);
    #[cfg(unix)]
    let error = std::os::unix::process::CommandExt::exec(&mut command);
    #[cfg(not(unix))]
    let error = match command.status() {
        Ok(status) => return ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)),
        Err(error) => error,
    };
    eprintln!("watchfire: cannot run {}: {error}", program.display());
    ExitCode::from(126)
}

/// The first of that name on the path that is not this program.
fn real() -> Option<PathBuf> {
    let me = env::current_exe().ok()?.canonicalize().ok()?;
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(NAME))
        .find(|program| {
            program.is_file() && program.canonicalize().is_ok_and(|program| program != me)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(arguments: &[&str]) -> Call {
        Call::of(arguments.iter().map(OsString::from))
    }

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn only_the_emulator_is_taken_over() {
        assert_eq!(call(&["/usr/bin/watchfire", "-jar", "x"]), Call::None);
        assert_eq!(call(&[]), Call::None);
        let archive = "/home/me/.cache/cloud-firestore-emulator-v1.19.9.jar";
        let asked = ["/tmp/x/java", "-Dx=y", "-jar", archive, "--port", "1"];
        assert_eq!(call(&asked), Call::Emulator(words(&["--port", "1"])));
        let other = [
            "java",
            "-jar",
            "/x/firebase-database-emulator.jar",
            "--port",
            "1",
        ];
        assert_eq!(call(&other), Call::Other(words(&other[1..])));
        assert_eq!(call(&["java"]), Call::Other(Vec::new()));
        let age = [
            "java",
            "-Duser.language=en",
            "-Dfile.encoding=UTF-8",
            "-version",
        ];
        assert_eq!(call(&age), Call::Age);
        assert_eq!(
            call(&["java", "-version"]),
            Call::Other(words(&["-version"]))
        );
    }
}
