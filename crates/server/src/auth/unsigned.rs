//! The credentials of tests: `Bearer owner`, and tokens whose signature nobody looks at.
//!
//! Only an emulator may ask this module, which is why only it can make the callers here.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde_json::{Map, Value};

use crate::auth::{Caller, TokenError};

/// The longest token, in bytes; real ones have a thousand or two.
const TOKEN_BYTES_MAX: usize = 32 * 1024;

/// Somebody without credentials.
#[derive(Clone, Debug)]
pub struct Visitor(());

/// The one for whom no rules hold.
#[derive(Clone, Debug)]
pub struct Owner(());

/// A user.
#[derive(Clone, Debug)]
pub struct User {
    claims: Arc<Map<String, Value>>,
}

impl User {
    /// What the token says.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// The user's id, if the token says one.
    pub fn uid(&self) -> Option<&str> {
        let id = self
            .claims
            .get("sub")
            .or_else(|| self.claims.get("user_id"));
        id.and_then(Value::as_str)
    }
}

/// Whom the credentials name.
pub(super) fn caller(credentials: Option<&HeaderValue>) -> Result<Caller, TokenError> {
    let refused = |text: &str| Err(TokenError(text.to_owned()));
    let Some(credentials) = credentials else {
        return Ok(Caller::Visitor(Visitor(())));
    };
    let Ok(text) = credentials.to_str() else {
        return refused("expected ASCII");
    };
    // SDKs send it empty when nobody is signed in.
    if text.trim().is_empty() {
        return Ok(Caller::Visitor(Visitor(())));
    }
    let token = match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => return refused("expected Bearer and a token"),
    };
    if token == "owner" {
        return Ok(Caller::Owner(Owner(())));
    }
    if token.len() > TOKEN_BYTES_MAX {
        return refused("the token is longer than any");
    }
    let mut parts = token.split('.');
    let (Some(head), Some(claims), Some(_signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return refused("expected \"owner\", or a JWT: three parts with points between");
    };
    let Some(head) = object(head) else {
        return refused("the first part of the JWT is no JSON object in base64url");
    };
    if !head.get("alg").is_some_and(Value::is_string) {
        return refused("the first part of the JWT does not say its alg");
    }
    match object(claims) {
        Some(claims) => Ok(Caller::User(User {
            claims: Arc::new(claims),
        })),
        None => refused("the second part of the JWT is no JSON object in base64url"),
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    let json = URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, header};

    use super::*;
    use crate::auth::Tokens;

    fn jwt(head: &str, claims: &str) -> String {
        let [head, claims] = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
        format!("Bearer {head}.{claims}.")
    }

    fn asked(tokens: &Tokens, credentials: &str) -> Result<Caller, TokenError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, credentials.parse().unwrap());
        tokens.caller(&headers)
    }

    #[test]
    fn an_emulator_takes_tokens_at_their_word() {
        let emulator = Tokens::of_emulator();
        let nobody = emulator.caller(&HeaderMap::new()).unwrap();
        assert!(matches!(nobody, Caller::Visitor(_)) && !nobody.may_list_names());
        for owner in ["Bearer owner", "bearer owner"] {
            let owner = asked(&emulator, owner).unwrap();
            assert!(matches!(owner, Caller::Owner(_)) && owner.may_list_names());
        }
        let token = jwt(r#"{"alg":"none"}"#, r#"{"sub":"alice","admin":true}"#);
        match asked(&emulator, &token).unwrap() {
            Caller::User(user) => {
                assert_eq!(user.uid(), Some("alice"));
                assert_eq!(user.claims()["admin"], Value::Bool(true));
            }
            other => panic!("{other:?}"),
        }
        assert!(!asked(&emulator, &token).unwrap().may_list_names());
        for wrong in [
            "owner".to_owned(),
            "Basic owner".to_owned(),
            "Bearer foo".to_owned(),
            "Bearer a.b.c".to_owned(),
            "Bearer a.b.c.d".to_owned(),
            jwt("{}", "{}"),
            jwt(r#"{"alg":"none"}"#, "[]"),
            format!("Bearer {}", "x".repeat(TOKEN_BYTES_MAX + 1)),
        ] {
            let error = asked(&emulator, &wrong).unwrap_err().to_string();
            assert!(error.starts_with("Invalid credentials"), "{error}");
        }
    }

    #[test]
    fn a_server_gives_nobody_anything_for_them() {
        let server = Tokens::of_server();
        let unsigned = jwt(r#"{"alg":"none"}"#, r#"{"sub":"alice"}"#);
        for credentials in ["Bearer owner", "Bearer foo", unsigned.as_str(), ""] {
            assert!(matches!(asked(&server, credentials), Ok(Caller::Anyone)));
        }
    }
}
