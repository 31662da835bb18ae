use super::*;
use crate::admin::ServerState;
use crate::admin::fake_peer::{FakePeer, ok, server_info};

#[tokio::test]
async fn server_info_is_read() {
    let peer = FakePeer::always(server_info("LIVE", 4)).await;
    let info = peer.client().server_info().await.unwrap();
    assert_eq!(info.state, ServerState::Live);
    assert_eq!(info.restart_epoch, 4);
    assert_eq!(info.hot_restart_version, "11.104");
    assert_eq!(info.uptime, Duration::from_secs(5));
    assert_eq!(info.uptime_all_epochs, Duration::from_secs(65));
}

#[tokio::test]
async fn an_answer_in_small_chunks_and_without_a_length_is_read() {
    let chunked =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\na:\r\n3\r\n 1\n\r\n0\r\n\r\n";
    let peer = FakePeer::always(chunked.to_vec()).await;
    let stats = peer.client().stats("a").await.unwrap();
    assert_eq!(stats, [("a".to_owned(), 1)]);

    let until_close = b"HTTP/1.0 200 OK\r\n\r\nb: 2\n";
    let peer = FakePeer::always(until_close.to_vec()).await;
    let stats = peer.client().stats("b").await.unwrap();
    assert_eq!(stats, [("b".to_owned(), 2)]);
}

#[tokio::test]
async fn not_ready_is_an_answer() {
    let peer = FakePeer::answers([
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\nDRAINING\n".to_vec(),
        ok("LIVE\n"),
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
    ])
    .await;
    let client = peer.client();
    let state = |serving, state: &str| Ready {
        serving,
        state: state.to_owned(),
    };
    assert_eq!(client.ready().await.unwrap(), state(false, "DRAINING"));
    assert_eq!(client.ready().await.unwrap(), state(true, "LIVE"));
    assert!(matches!(
        client.ready().await,
        Err(AdminError::Status { status: 404, .. })
    ));
}

#[tokio::test]
async fn an_error_status_is_told_with_its_body_on_one_line() {
    let answer =
        b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 10\r\n\r\nuse\n\x1b[1mPO".to_vec();
    let peer = FakePeer::always(answer).await;
    let error = peer.client().quit().await.unwrap_err().to_string();
    assert!(
        error.ends_with("answers /quitquitquit with 405: use [1mPO"),
        "{error}"
    );
}

#[tokio::test]
async fn a_peer_that_never_answers_costs_no_more_than_the_limit() {
    let peer = FakePeer::silent().await;
    let client = peer.client().with_time_limit(Duration::from_millis(50));
    let error = client.server_info().await.unwrap_err();
    assert!(matches!(error, AdminError::TimedOut { .. }), "{error}");
    assert!(!error.is_nobody_there());
}

#[tokio::test]
async fn a_peer_that_stops_in_the_middle_costs_no_more_than_the_limit() {
    let peer = FakePeer::endless(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"",
    )
    .await;
    let client = peer.client().with_time_limit(Duration::from_millis(50));
    let error = client.server_info().await.unwrap_err();
    assert!(matches!(error, AdminError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn a_peer_that_never_ends_is_cut_at_the_size_limit() {
    let peer = FakePeer::endless(b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 4096]).await;
    let client = peer.client().with_time_limit(Duration::from_secs(20));
    let limit_of = |error: AdminError| {
        let AdminError::TooLarge { limit, .. } = error else {
            panic!("{error}");
        };
        limit
    };
    assert_eq!(
        limit_of(client.server_info().await.unwrap_err()),
        MAX_SERVER_INFO
    );
    assert_eq!(limit_of(client.stats("x").await.unwrap_err()), MAX_STATS);
    assert_eq!(limit_of(client.ready().await.unwrap_err()), MAX_OTHER);
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut() {
    let peer = FakePeer::endless(b"HTTP/1.1 200 OK\r\n", b"x-header: 0123456789\r\n").await;
    let client = peer.client().with_time_limit(Duration::from_secs(20));
    let error = client.server_info().await.unwrap_err();
    assert!(matches!(error, AdminError::Http { .. }), "{error}");
}

#[tokio::test]
async fn garbage_is_an_error() {
    for garbage in [
        &b""[..],
        b"\0\0\0\0",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{\"a\":",
    ] {
        let peer = FakePeer::always(garbage.to_vec()).await;
        let error = peer.client().server_info().await.unwrap_err();
        let shown = String::from_utf8_lossy(garbage).into_owned();
        assert!(
            matches!(
                error,
                AdminError::Http { .. } | AdminError::Unexpected { .. }
            ),
            "{shown}: {error}"
        );
    }
}

#[tokio::test]
async fn nobody_there_is_told_apart() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = AdminAddress::Tcp(free.local_addr().unwrap());
    drop(free);
    let error = AdminClient::new(address).ready().await.unwrap_err();
    assert!(error.is_nobody_there(), "{error}");

    let missing = AdminAddress::Unix("/nonexistent/admin.sock".into());
    let error = AdminClient::new(missing).ready().await.unwrap_err();
    assert!(error.is_nobody_there(), "{error}");
    assert_eq!(
        error.to_string(),
        "cannot connect to the admin endpoint unix:/nonexistent/admin.sock"
    );
}

#[test]
fn a_filter_is_percent_encoded() {
    assert_eq!(percent_encoded(r"^a\.b&c=ä$"), "%5Ea%5C.b%26c%3D%C3%A4%24");
}
