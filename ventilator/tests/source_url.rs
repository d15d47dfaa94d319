//! Tasks behind a URL, from a server that says exactly what a test wants.

#![allow(clippy::unwrap_used)] // helpers of tests fail by it

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use harmony_api::Tasks;
use harmony_ventilator::source::{Opened, Reach, SourceConfig, SourceError, open};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_millis(500);

/// Answers one request per entry, in turn, and then closes its door.
fn serve<Answer: FnOnce(&str, &mut TcpStream) + Send + 'static>(answers: Vec<Answer>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap())
                .lines()
                .map_while(Result::ok);
            let request = lines.next().unwrap_or_default();
            let _headers: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            answer(&request, &mut stream);
        }
    });
    address
}

/// Answers every request with the same bytes.
fn serve_bytes(answers: Vec<String>) -> SocketAddr {
    serve(
        answers
            .into_iter()
            .map(|text| move |_: &str, stream: &mut TcpStream| stream.write_all(text.as_bytes()).unwrap())
            .collect(),
    )
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn fetch(url: &str, folder: &Path) -> Result<Opened, SourceError> {
    let config = SourceConfig {
        patience: PATIENCE,
        ..SourceConfig::new(folder, folder.join("spool"))
    };
    open(&Tasks::Url(url.parse().unwrap()), None, &config)
}

fn refused(url: &str) -> String {
    let folder = TempDir::new().unwrap();
    let message = fetch(url, folder.path()).err().unwrap().to_string();
    let spooled = fs::read_dir(folder.path().join("spool")).map_or(0, Iterator::count);
    assert_eq!(spooled, 0, "nothing is left behind after {message}");
    message
}

fn lines(opened: &mut Opened) -> Vec<String> {
    let mut line = |number| {
        let mut buffer = Vec::new();
        opened.source.append(number, 0..u64::MAX, &mut buffer).unwrap();
        String::from_utf8(buffer).unwrap()
    };
    (0..2).map(&mut line).collect()
}

#[test]
fn a_url_is_read_once() {
    let address = serve_bytes(vec![ok("a\nb\n")]);
    let folder = TempDir::new().unwrap();
    let url = format!("http://{address}/tasks.txt");
    let mut opened = fetch(&url, folder.path()).unwrap();
    assert_eq!(opened.source.completions(), 2);
    assert_eq!(lines(&mut opened), ["a", "b"]);
    // The server is gone by now.
    assert_eq!(fetch(&url, folder.path()).unwrap().digest, opened.digest);
}

#[test]
fn redirects_are_followed() {
    let last = serve_bytes(vec![ok("a\nb")]);
    let first = serve_bytes(vec![format!(
        "HTTP/1.1 302 Found\r\nLocation: http://{last}/b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )]);
    let folder = TempDir::new().unwrap();
    assert_eq!(
        lines(&mut fetch(&format!("http://{first}/a"), folder.path()).unwrap()),
        ["a", "b"]
    );

    let hop = "HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned();
    let endless = serve_bytes(vec![hop; 20]);
    let message = refused(&format!("http://{endless}/again"));
    assert!(message.contains("too many redirects"), "{message}");
}

#[test]
fn any_answer_but_ok_is_refused() {
    for status in [
        "404 Not Found",
        "500 Internal Server Error",
        "204 No Content",
        "206 Partial Content",
    ] {
        let address = serve_bytes(vec![format!(
            "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )]);
        let url = format!("http://{address}/tasks.txt");
        assert_eq!(refused(&url), format!("{url} answered {status}, expected 200 OK"));
    }
}

#[test]
fn a_body_that_breaks_off_is_refused() {
    let cut = ok("a\nb\n").replace("Content-Length: 4", "Content-Length: 400");
    let message = refused(&format!("http://{}/tasks.txt", serve_bytes(vec![cut])));
    assert!(message.starts_with("cannot read http://127.0.0.1:"), "{message}");
    assert!(
        message.contains("end of file before message length reached"),
        "{message}"
    );

    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na\nb\n\r\n".to_owned();
    let message = refused(&format!("http://{}/tasks.txt", serve_bytes(vec![chunked])));
    assert!(message.contains("unexpected EOF"), "{message}");
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    // It answers when the client has hung up.
    let wait_for_the_end = |stream: &mut TcpStream| BufReader::new(stream).lines().map_while(Result::ok).count();
    let silent = serve(vec![move |_: &str, stream: &mut TcpStream| {
        wait_for_the_end(stream);
    }]);
    let url = format!("http://{silent}/tasks.txt");
    assert_eq!(refused(&url), format!("{url} did not answer within 500ms"));

    let stuck = serve(vec![move |_: &str, stream: &mut TcpStream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\na\n")
            .unwrap();
        wait_for_the_end(stream);
    }]);
    let message = refused(&format!("http://{stuck}/tasks.txt"));
    assert!(message.contains("timed out"), "{message}");
}

#[test]
fn a_slow_body_is_read_as_long_as_it_moves() {
    let slow = serve(vec![|_: &str, stream: &mut TcpStream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")
            .unwrap();
        for piece in ["a", "\n", "b", "\n", "c", "\n", "d", "\n"] {
            // The pace is what is tested: longer than the limit in all, shorter for each piece.
            thread::sleep(PATIENCE / 4);
            stream.write_all(piece.as_bytes()).unwrap();
        }
    }]);
    let folder = TempDir::new().unwrap();
    assert_eq!(
        fetch(&format!("http://{slow}/tasks.txt"), folder.path())
            .unwrap()
            .source
            .completions(),
        4
    );
}

#[test]
fn servers_out_of_reach_are_named_with_the_reason() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let message = refused(&format!("http://user:secret@{free}/tasks.txt"));
    assert!(
        message.starts_with(&format!("cannot read http://user@{free}/tasks.txt: ")),
        "{message}"
    );
    assert!(message.contains("Connection refused"), "{message}");
    assert!(!message.contains("secret"), "{message}");

    let message = refused("http://tasks.invalid/tasks.txt");
    assert!(
        message.contains("dns error") || message.contains("did not answer"),
        "{message}"
    );

    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = plain.local_addr().unwrap();
    thread::spawn(move || {
        plain
            .accept()
            .unwrap()
            .0
            .write_all(b"this is no TLS server\r\n")
            .unwrap();
    });
    let message = refused(&format!("https://{address}/tasks.txt"));
    assert!(
        message.starts_with(&format!("cannot read https://{address}/tasks.txt: ")),
        "{message}"
    );
    assert!(message.contains("InvalidContentType"), "{message}");
}

#[test]
fn the_size_limit_holds_for_urls() {
    let folder = TempDir::new().unwrap();
    let url = format!("http://{}/tasks.txt", serve_bytes(vec![ok("a\nb\n")]));
    let config = SourceConfig {
        max_spool_bytes: 3,
        ..SourceConfig::new(folder.path(), folder.path())
    };
    let refused = open(&Tasks::Url(url.parse().unwrap()), None, &config).err().unwrap();
    assert!(matches!(refused, SourceError::TooLarge { limit: 3, .. }), "{refused}");
}

#[test]
fn an_operator_asks_no_local_server() {
    let server = serve_bytes(vec![ok("a\nb\n")]);
    let port = server.port();
    let read = |url: &str, reach| {
        let folder = TempDir::new().unwrap();
        let config = SourceConfig {
            patience: PATIENCE,
            reach,
            ..SourceConfig::new(folder.path(), folder.path())
        };
        open(&Tasks::Url(url.parse().unwrap()), None, &config).map(|opened| opened.source.completions())
    };
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
    ] {
        let reach = Reach::NotLocal { hosts: [].into() };
        let refused = read(&format!("http://user:secret@{host}:{port}/a"), reach).unwrap_err();
        assert!(matches!(refused, SourceError::Local { .. }), "{host}: {refused}");
        let message = refused.to_string();
        assert!(
            message.contains("loopback, link-local") && !message.contains("secret"),
            "{message}"
        );
    }
    let hosts = ["data.example.org".parse().unwrap()].into();
    let refused = read(
        &format!("http://user:secret@other.example:{port}/a"),
        Reach::NotLocal { hosts },
    )
    .unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "cannot read http://user@other.example:{port}/a: other.example is not among the hosts that are allowed; put the tasks \
             behind one that is, or have it added: the chart's value sourceHosts, which is the operator's flag --source-host"
        )
    );
    // Nobody has asked the server so far, so it still has its one answer.
    assert_eq!(read(&format!("http://127.0.0.1:{port}/a"), Reach::Any).unwrap(), 2);
}
