//! Sessions with their services in this process, on a clock that is moved.

use std::time::Duration;

use tokio::time::advance;
use watchfire_engine::Settings;
use watchfire_model::{Clock, DatabaseName, DocumentPath, Timestamp};
use watchfire_storage::Store;
use watchfire_storage::memory::MemoryStore;

use super::session::LINGER;
use super::*;
use crate::service::read::{self, Consistency};

const DATABASE: &str = "projects/p/databases/(default)";
const LISTEN: &str = "/google.firestore.v1.Firestore/Listen/channel?VER=8";
const WRITE: &str = "/google.firestore.v1.Firestore/Write/channel?VER=8";

/// More than any step of a stream takes here.
const STEPS: usize = 1_000;

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_000_000).unwrap()
    }
}

fn front() -> (WebChannel, Arc<Databases>) {
    let open = Box::new(|_| {
        async {
            let store: Arc<dyn Store> = MemoryStore::new();
            Ok(store)
        }
        .boxed()
    });
    let databases = Databases::new(open, Arc::new(Still), Settings::default(), None);
    let databases = Arc::new(databases);
    let tokens = Tokens::of_server();
    let front = WebChannel::new(Arc::clone(&databases), tokens, CancellationToken::new());
    (front, databases)
}

async fn ask(front: &WebChannel, method: &str, uri: String, form: String) -> Response<Body> {
    let request = Request::builder().method(method).uri(uri);
    front.answer(request.body(Body::new(form)).unwrap()).await
}

async fn next(answer: &mut Response<Body>) -> Option<String> {
    let data = data(answer.body_mut()).await.unwrap()?;
    Some(String::from_utf8(data.to_vec()).unwrap())
}

async fn open(front: &WebChannel, path: &str, message: &str) -> String {
    let form = format!("count=1&ofs=0&req0___data__={message}");
    let mut answer = ask(front, "POST", format!("{path}&RID=1"), form).await;
    let text = next(&mut answer).await.unwrap();
    text.split('"').nth(3).unwrap().to_owned()
}

fn back(sid: &str, has: u64) -> String {
    format!("{LISTEN}&RID=rpc&SID={sid}&AID={has}&CI=0&TYPE=xmlhttp")
}

async fn settle() {
    for _ in 0..STEPS {
        tokio::task::yield_now().await;
    }
}

fn target() -> String {
    format!(
        "{{\"database\":\"{DATABASE}\",\"addTarget\":{{\"targetId\":2,\"documents\":{{\"documents\":[\"{DATABASE}/documents/a/b\"]}}}}}}"
    )
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_client_stays_away_is_given_up_and_no_sooner() {
    let (front, databases) = front();
    let sid = open(&front, LISTEN, &target()).await;
    settle().await;
    advance(LINGER - Duration::from_secs(1)).await;
    settle().await;
    let mut answer = ask(&front, "GET", back(&sid, 0), String::new()).await;
    let mut has = 0;
    while has < 3 {
        let text = next(&mut answer).await.unwrap();
        has += text.matches("targetChange").count();
    }
    // As long as it is there, it hears something; and time does not end the session.
    for _ in 0..5 {
        advance(KEEP_ALIVE).await;
        assert!(next(&mut answer).await.is_some());
    }
    drop(answer);
    advance(LINGER - Duration::from_secs(1)).await;
    settle().await;
    assert!(front.channel.sessions.get(&sid).is_ok());
    advance(Duration::from_secs(2)).await;
    settle().await;
    assert!(front.channel.sessions.get(&sid).is_err());
    let mut answer = ask(&front, "GET", back(&sid, 0), String::new()).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(next(&mut answer).await.unwrap(), "Error: Unknown SID");
    databases.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_client_sends_is_carried_out_though_nobody_asks_for_arrays() {
    let (front, databases) = front();
    let sid = open(&front, WRITE, &format!("{{\"database\":\"{DATABASE}\"}}")).await;
    let write = format!(
        "{{\"database\":\"{DATABASE}\",\"writes\":[{{\"update\":{{\"name\":\"{DATABASE}/documents/a/b\"}}}}]}}"
    );
    let form = format!("count=1&ofs=1&req0___data__={write}");
    let answer = ask(
        &front,
        "POST",
        format!("{WRITE}&RID=2&SID={sid}&AID=0"),
        form,
    )
    .await;
    assert_eq!(answer.status(), StatusCode::OK);
    settle().await;
    let name = DatabaseName::parse(DATABASE).unwrap();
    let database = databases.get(&name).await.unwrap();
    let path = DocumentPath::parse("a/b").unwrap();
    let found = read::document(&database, path, None, Consistency::Latest).await;
    assert!(found.is_ok());
    let left = ask(
        &front,
        "POST",
        format!("{WRITE}&RID=3&SID={sid}&TYPE=terminate"),
        String::new(),
    );
    assert_eq!(left.await.status(), StatusCode::OK);
    assert!(front.channel.sessions.get(&sid).is_err());
    databases.close().await.unwrap();
}
