//! Figures over HTTP.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stage::{Stage, told};

pub async fn ask(port: u16, request: &str) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn figures_are_told_in_the_format_of_prometheus() {
    told(async {
        let stage = Stage::open("clients_max = 77\n", |_| {}).await;
        let client = stage.client("postgres", "postgres").await;
        client.simple_query("select 1").await.unwrap();
        let page = ask(stage.metrics, "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        assert!(page.contains("content-type: text/plain; version=0.0.4"), "{page}");
        let labels = "database=\"postgres\",user=\"postgres\",target=\"write\"";
        for line in [
            "tanist_proxy_clients_max 77",
            "tanist_proxy_has_primary 1",
            &format!("tanist_proxy_clients{{{labels}}} 1"),
            &format!("tanist_proxy_servers{{{labels},state=\"idle\"}} 1"),
            "tanist_proxy_commits_settled_total{fate=\"unknown\"} 0",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is not in {page}");
        }
        let body = page.split_once("\r\n\r\n").unwrap().1;
        for line in body.lines().filter(|l| !l.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let family = name.split('{').next().unwrap();
            assert!(body.contains(&format!("# TYPE {family} ")), "{line}");
        }
        let old = ask(stage.metrics, "GET /metrics HTTP/1.0\r\n\r\n").await;
        assert!(old.contains("tanist_proxy_queries_total{database=\"postgres\"}"), "{old}");
        assert!(ask(stage.metrics, "GET / HTTP/1.0\r\n\r\n").await.contains(" 404 "));
        assert!(
            ask(stage.metrics, "POST /metrics HTTP/1.0\r\nContent-Length: 0\r\n\r\n").await.contains(" 405 ")
        );
    });
}
