//! Forms and queries as browsers write them, as nobody should, and cut into any pieces.

use proptest::prelude::*;

use super::*;

fn read(pieces: &[&[u8]]) -> Result<Vec<Part>, Complaint> {
    let mut form = Form::default();
    let mut parts = Vec::new();
    for piece in pieces {
        form.push(piece, &mut parts)?;
    }
    form.end(&mut parts)?;
    Ok(parts)
}

fn map(number: u64, text: &str) -> Part {
    Part::Map(number, Map::Text(Bytes::copy_from_slice(text.as_bytes())))
}

/// As browsers write it, and more.
fn escaped(text: &[u8]) -> String {
    let mut escaped = String::new();
    for byte in text {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' => escaped.push(char::from(*byte)),
            b' ' => escaped.push('+'),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

#[test]
fn a_handshake_is_headers_and_maps() {
    let form =
        b"headers=X-Goog-Api-Client%3Agl-js%2F%20fire%2F12%0D%0AAuthorization%3ABearer%20a.b%0D%0A\
        &count=2&ofs=0&req0___data__=%7B%22a%22%3A%22%C3%A9%22%7D&req1___data__=%7B%7D";
    let parts = read(&[form]).unwrap();
    let Part::Headers(headers) = &parts[0] else {
        panic!("headers come first");
    };
    assert_eq!(headers["authorization"], "Bearer a.b");
    assert_eq!(headers["x-goog-api-client"], "gl-js/ fire/12");
    assert_eq!(parts[1..], [map(0, "{\"a\":\"é\"}"), map(1, "{}")]);
}

#[test]
fn maps_have_the_number_of_their_place_in_the_session() {
    let parts = read(&[b"count=2&ofs=7&req0___data__=a&req3___data__=b"]).unwrap();
    assert_eq!(parts, [map(7, "a"), map(10, "b")]);
    assert_eq!(read(&[b""]).unwrap(), []);
    assert_eq!(read(&[b"count=0"]).unwrap(), []);
}

#[test]
fn what_a_client_would_not_send_is_refused_by_its_name() {
    for (form, complaint) in [
        (&b"count=2&ofs=0&req0___data__=a"[..], "expected 2 maps"),
        (b"count=1&req0___data__=a", "expected ofs before"),
        (b"count=1&ofs=0&req0_type=_badmap", "req0_type"),
        (b"count=x", "expected a number for count"),
        (b"count=1&ofs=0&req99999___data__=a", "req99999"),
        (b"other=1", "\"other\""),
        (b"headers=nonsense", "a name, a colon and a value"),
        (&[b'a'; 100], "names of at most"),
        (b"%ff=1", "names in UTF-8"),
    ] {
        let Err(Complaint::Bad(text)) = read(&[form]) else {
            panic!("{form:?} is accepted");
        };
        assert!(text.contains(complaint), "{text}");
    }
    let many = (0..=MAPS_PER_FORM_MAX).map(|n| format!("&req{n}___data__=a"));
    let many = format!("count=1001&ofs=0{}", many.collect::<String>());
    assert!(matches!(read(&[many.as_bytes()]), Err(Complaint::Bad(_))));
    let long = format!("headers=a:{}", "b".repeat(VALUE_LEN_MAX));
    assert!(matches!(read(&[long.as_bytes()]), Err(Complaint::Bad(_))));
}

#[test]
fn a_map_that_is_too_large_takes_its_place_and_no_memory() {
    let mut form = Form::default();
    let mut parts = Vec::new();
    form.push(b"count=2&ofs=0&req0___data__=", &mut parts)
        .unwrap();
    let piece = [b'a'; 1 << 20];
    for _ in 0..40 {
        form.push(&piece, &mut parts).unwrap();
        assert!(form.fields.value.len() <= MAP_SIZE_MAX);
    }
    form.push(b"&req1___data__=b", &mut parts).unwrap();
    form.end(&mut parts).unwrap();
    assert_eq!(parts, [Part::Map(0, Map::TooLarge), map(1, "b")]);
}

#[test]
fn parameters_are_read_and_foreign_ones_have_no_effect() {
    let query = Query::parse(
        "VER=8&database=projects%2Fp%2Fdatabases%2F(default)&RID=rpc&SID=s&AID=12&CI=1&TO=5000&TYPE=xmlhttp&zx=q&t=1&x",
    );
    let expected = Query {
        version: Some("8".to_owned()),
        sid: Some("s".to_owned()),
        rid: Some("rpc".to_owned()),
        acknowledged: Some(12),
        database: Some("projects/p/databases/(default)".to_owned()),
        kind: Some("xmlhttp".to_owned()),
        long_poll: true,
        hold_ms: Some(5_000),
        http_session_id: None,
        headers: None,
    };
    assert_eq!(query, Ok(expected));
    assert_eq!(Query::parse(""), Ok(Query::default()));
    assert_eq!(Query::parse("AID=-1").unwrap().acknowledged, Some(0));
    assert!(Query::parse("AID=x").is_err());
}

proptest! {
    #[test]
    fn what_is_escaped_is_read_in_any_pieces(
        maps in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
        cuts in prop::collection::vec(0..400_usize, 0..10),
    ) {
        let mut form = format!("count={}&ofs=3", maps.len());
        for (position, map) in maps.iter().enumerate() {
            form.push_str(&format!("&req{position}___data__={}", escaped(map)));
        }
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (form.len() + 1)).collect();
        cuts.extend([0, form.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &form.as_bytes()[cut[0]..cut[1]]).collect();
        let expected: Vec<Part> = (3..)
            .zip(&maps)
            .map(|(number, map)| Part::Map(number, Map::Text(Bytes::copy_from_slice(map))))
            .collect();
        prop_assert_eq!(read(&pieces), Ok(expected));
    }

    #[test]
    fn no_bytes_are_a_reason_to_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "[a-z0-9%&=+_:\r\n]{0,80}") {
        let _ = read(&[&bytes]);
        let _ = read(&[b"count=1&ofs=0&req0_", text.as_bytes(), &bytes]);
        let _ = Query::parse(&text);
        let _ = headers(&text);
    }
}
