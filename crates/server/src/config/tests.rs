//! What the command line means.

use std::path::PathBuf;

use clap::Parser;
use watchfire_engine::settings::{HISTORY_MAX, HISTORY_MIN};

use super::*;
use crate::origin::AllowedOrigin;

fn serve(arguments: &[&str]) -> Serve {
    match Config::try_parse_from(arguments).unwrap().into_command() {
        Command::Serve(serve) => serve,
        other => panic!("{other:?}"),
    }
}

fn check(arguments: &[&str], listen: &str, data: &str, memory: bool) {
    let serve = serve(arguments);
    assert_eq!(serve.listen, listen.parse().unwrap());
    assert_eq!(serve.data, PathBuf::from(data));
    assert_eq!(serve.memory, memory);
}

#[test]
fn alone_means_serve() {
    check(&["watchfire"], "127.0.0.1:8080", "watchfire-data", false);
    check(
        &["watchfire", "serve"],
        "127.0.0.1:8080",
        "watchfire-data",
        false,
    );
    check(
        &["watchfire", "--listen", "[::1]:1", "--memory"],
        "[::1]:1",
        "watchfire-data",
        true,
    );
    check(
        &[
            "watchfire",
            "serve",
            "--listen",
            "0.0.0.0:9",
            "--data",
            "/d",
        ],
        "0.0.0.0:9",
        "/d",
        false,
    );
}

#[test]
fn numbers_may_have_a_port_of_their_own() {
    assert_eq!(serve(&["watchfire"]).admin_listen, None);
    for (said, meant) in [
        ("9090", "127.0.0.1:9090"),
        ("0.0.0.0:9090", "0.0.0.0:9090"),
        ("[::1]:0", "[::1]:0"),
    ] {
        let asked = serve(&["watchfire", "serve", "--admin-listen", said]);
        assert_eq!(asked.admin_listen, Some(meant.parse().unwrap()));
    }
    for wrong in ["", "here", "65536", "127.0.0.1"] {
        let arguments = ["watchfire", "--admin-listen", wrong];
        assert!(Config::try_parse_from(arguments).is_err(), "{wrong}");
    }
}

#[test]
fn origins_are_said_one_by_one_or_with_commas() {
    assert!(serve(&["watchfire"]).allow_origins.is_empty());
    let said = [
        "watchfire",
        "--allow-origin",
        "https://a,http://b:1",
        "--allow-origin",
        "*",
    ];
    let origins = serve(&said).allow_origins;
    assert_eq!(origins.len(), 3);
    assert_eq!(origins[2], AllowedOrigin::Any);
    for wrong in ["app.example", "https://a/b", "null", ""] {
        let arguments = ["watchfire", "--allow-origin", wrong];
        assert!(Config::try_parse_from(arguments).is_err(), "{wrong}");
    }
}

#[test]
fn indexes_of_a_server() {
    assert_eq!(serve(&["watchfire"]).index_mode, IndexMode::Advise);
    let started = serve(&[
        "watchfire",
        "--index-mode",
        "enforce",
        "--indexes",
        "f.json",
        "--indexes-database",
        "projects/p/databases/d",
    ]);
    assert_eq!(started.index_mode, IndexMode::Enforce);
    assert_eq!(started.indexes, Some(PathBuf::from("f.json")));
    assert_eq!(started.indexes_database.unwrap().database(), "d");
    for wrong in [
        ["--index-mode", "maybe"],
        ["--indexes-database", "projects/p/databases/d"],
    ] {
        let arguments = [&["watchfire"], wrong.as_slice()].concat();
        assert!(Config::try_parse_from(arguments).is_err(), "{wrong:?}");
    }
}

#[test]
fn transactions_and_history_are_settings() {
    let plain = serve(&["watchfire"]);
    assert_eq!(plain.concurrency, Concurrency::Optimistic);
    assert_eq!(plain.history, HISTORY_MIN);
    let chosen = serve(&[
        "watchfire",
        "--concurrency",
        "pessimistic",
        "--history",
        "7d",
    ]);
    assert_eq!(chosen.concurrency, Concurrency::Pessimistic);
    assert_eq!(chosen.history, HISTORY_MAX);
    for wrong in ["0h", "8d", "1", "h", "-1h", "90m", "99999999999999999999d"] {
        assert!(
            Config::try_parse_from(["watchfire", "--history", wrong]).is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn which_database_is_meant() {
    let name = |arguments: &[&str]| {
        let arguments = [&["watchfire", "indexes", "list"], arguments].concat();
        match Config::try_parse_from(arguments).unwrap().into_command() {
            Command::Indexes(Indexes::List(remote)) => {
                remote.database().map(|name| name.to_string()).ok()
            }
            other => panic!("{other:?}"),
        }
    };
    let default = "projects/p/databases/(default)".to_owned();
    assert_eq!(name(&["--project", "p"]), Some(default.clone()));
    assert_eq!(name(&["--database", &default]), Some(default));
    let other = "projects/p/databases/other".to_owned();
    assert_eq!(
        name(&["--project", "p", "--database", "other"]),
        Some(other)
    );
    assert_eq!(name(&["--database", "other"]), None);
}

#[test]
fn a_check_repairs_only_when_it_is_told_to() {
    for (arguments, repairs) in [(&["--data", "/d"][..], false), (&["--repair"][..], true)] {
        let arguments = ["watchfire", "check"].iter().chain(arguments);
        match Config::try_parse_from(arguments).unwrap().into_command() {
            Command::Check(check) => assert_eq!(check.repair, repairs),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_check_of_a_server_names_the_server_and_the_database() {
    let name = "projects/p/databases/d";
    let check = |arguments: &[&str]| {
        let arguments = [&["watchfire", "check"], arguments].concat();
        Config::try_parse_from(arguments).map(Config::into_command)
    };
    match check(&["--server", "a:1", "--database", name]).unwrap() {
        Command::Check(check) => {
            assert_eq!(check.server.as_deref(), Some("a:1"));
            assert_eq!(check.database.unwrap().to_string(), name);
        }
        other => panic!("{other:?}"),
    }
    assert!(check(&["--server", "a:1"]).is_err());
    assert!(check(&["--database", name]).is_err());
    assert!(check(&["--server", "a:1", "--database", "d"]).is_err());
}

#[test]
fn nonsense_is_refused() {
    assert!(Config::try_parse_from(["watchfire", "indexes", "deploy"]).is_err());
    assert!(Config::try_parse_from(["watchfire", "--listen", "nowhere"]).is_err());
    assert!(Config::try_parse_from(["watchfire", "sing"]).is_err());
}
