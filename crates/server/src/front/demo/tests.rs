//! What the page's files are answered with: their form, how long they may be kept, and what is refused.

use super::*;

fn ask(method: Method, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).unwrap();
    let demo = Demo::new();
    assert!(demo.takes(&request), "{path} is the page's");
    demo.answer(request).now_or_never().unwrap()
}

fn shown(answer: &Response<Body>, name: header::HeaderName) -> String {
    let value = answer.headers().get(name);
    value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
}

fn length(answer: &Response<Body>) -> u64 {
    http_body::Body::size_hint(answer.body()).exact().unwrap()
}

fn script() -> &'static File {
    let found = built::FILES.iter().find(|file| file.name.ends_with(".js"));
    found.expect("the page has a script")
}

#[test]
fn the_page_names_files_that_are_there() {
    let index = built::FILES.iter().find(|file| file.name == INDEX).unwrap();
    let html = std::str::from_utf8(index.plain).unwrap();
    let named: Vec<&str> = html
        .split('"')
        .filter(|part| part.starts_with("/demo/"))
        .collect();
    assert!(named.iter().any(|path| path.ends_with(".js")), "{named:?}");
    assert!(named.iter().any(|path| path.ends_with(".css")), "{named:?}");
    for path in named {
        assert_eq!(ask(Method::GET, path, &[]).status(), 200, "{path}");
    }
}

#[test]
fn each_request_gets_the_smallest_form_that_it_understands() {
    let path = format!("/demo/{}", script().name);
    for (accepted, coding, bytes) in [
        ("gzip, deflate, br, zstd", "br", script().brotli),
        ("gzip, deflate", "gzip", script().gzip),
        ("GZIP;q=0.5, br;q=0", "gzip", script().gzip),
        ("gzip;q=0.000", "", script().plain),
        ("identity", "", script().plain),
    ] {
        let answer = ask(Method::GET, &path, &[("accept-encoding", accepted)]);
        assert_eq!(
            shown(&answer, header::CONTENT_ENCODING),
            coding,
            "{accepted}"
        );
        assert_eq!(length(&answer), bytes.len() as u64, "{accepted}");
        assert_eq!(shown(&answer, header::VARY), "accept-encoding");
        let kind = shown(&answer, header::CONTENT_TYPE);
        assert_eq!(kind, "text/javascript; charset=utf-8");
    }
}

#[test]
fn what_has_its_hash_in_its_name_is_kept_and_the_page_is_asked_for_again() {
    let script = ask(Method::GET, &format!("/demo/{}", script().name), &[]);
    assert!(shown(&script, header::CACHE_CONTROL).ends_with("immutable"));
    for path in ["/demo", "/demo/", "/demo/LICENSES.txt"] {
        let answer = ask(Method::GET, path, &[]);
        assert_eq!(shown(&answer, header::CACHE_CONTROL), "no-cache", "{path}");
        let tag = shown(&answer, header::ETAG);
        let again = ask(Method::GET, path, &[("if-none-match", &tag)]);
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(length(&again), 0);
        let other = ask(Method::GET, path, &[("if-none-match", "\"other\"")]);
        assert_eq!(other.status(), StatusCode::OK);
    }
}

#[test]
fn the_browser_is_told_to_speak_with_nobody_else() {
    let answer = ask(Method::GET, "/demo", &[]);
    let policy = shown(&answer, header::CONTENT_SECURITY_POLICY);
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    let named: Vec<&str> = policy
        .split([' ', ';'])
        .filter(|word| word.contains("http"))
        .collect();
    assert_eq!(named, ["http://*.localhost:*"], "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
}

#[test]
fn a_head_is_the_get_without_its_content() {
    let answer = ask(Method::HEAD, "/demo", &[("accept-encoding", "gzip")]);
    let get = ask(Method::GET, "/demo", &[("accept-encoding", "gzip")]);
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(length(&answer), 0);
    assert_eq!(
        shown(&answer, header::CONTENT_LENGTH),
        length(&get).to_string()
    );
}

#[test]
fn other_paths_and_methods_are_refused() {
    for path in [
        "/demo/other",
        "/demo/assets/",
        "/demo/../secret",
        "/demo/index.html.gz",
    ] {
        assert_eq!(
            ask(Method::GET, path, &[]).status(),
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
    let answer = ask(Method::POST, "/demo", &[]);
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(shown(&answer, header::ALLOW), "GET, HEAD");
    let request = Request::get("/demonstration").body(Body::empty()).unwrap();
    assert!(!Demo::new().takes(&request));
}
