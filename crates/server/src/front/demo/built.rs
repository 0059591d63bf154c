//! The files of the page `/demo`, from `web/dist`. Written by `cargo xtask web`.

use super::File;

macro_rules! file {
    ($name:literal) => {
        File {
            name: $name,
            plain: file!($name, ""),
            gzip: file!($name, ".gz"),
            brotli: file!($name, ".br"),
        }
    };
    ($name:literal, $ending:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../web/dist/",
            $name,
            $ending
        ))
    };
}

pub const FILES: &[File] = &[
    file!("LICENSES.txt"),
    file!("assets/firebase-DmvXgC0M.js"),
    file!("assets/index-Csdt1fGa.js"),
    file!("assets/index-Cw3amHJ2.css"),
    file!("index.html"),
];
