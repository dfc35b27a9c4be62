//! Proofs that go with TLS: certificates of clients, and SCRAM bound to the connection; libpq is the other side.

use std::path::Path;
use std::process::Command;

use cluster::NodeId;
use peers::certs::Authority;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wire::back::Authentication;

use crate::stage::{BIN, Stage, connect, connect_with, said, told};
use crate::tls::dial;

/// An authority with a certificate for the proxy and one for each of these users, and another authority's.
fn issue(dir: &Path, users: &[&str]) {
    let authority = Authority::create("shop").unwrap();
    std::fs::write(dir.join("ca.crt"), authority.certificate()).unwrap();
    let proxy = NodeId::new("front").unwrap();
    authority.issue(&proxy, &["localhost".to_string()]).unwrap().save_as(dir, "front").unwrap();
    for user in users {
        authority.issue_to_proxy(&NodeId::new(user).unwrap()).unwrap().save_as(dir, user).unwrap();
    }
    let other = Authority::create("elsewhere").unwrap();
    other.issue_to_proxy(&NodeId::new("clerk").unwrap()).unwrap().save_as(dir, "stranger").unwrap();
    std::fs::write(dir.join("users"), "\"clerk\" \"secret\"\n").unwrap();
}

/// What libpq says: what a query gives, or its complaint.
async fn psql(stage: &Stage, user: &str, more: &str) -> Result<String, String> {
    let dir = stage.dir().to_str().unwrap();
    let how = format!(
        "host=localhost hostaddr=127.0.0.1 port={} user={user} dbname=postgres password=secret sslmode=verify-full \
         sslrootcert={dir}/ca.crt {}",
        stage.port,
        more.replace("DIR", dir)
    );
    let mut command = Command::new(format!("{BIN}/psql"));
    command.args(["-XAtw", &how, "-c", "select 'it is ' || current_user"]).env("LC_ALL", "C");
    let out = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_string();
    if out.status.success() { Ok(text(out.stdout)) } else { Err(text(out.stderr)) }
}

const TLS: &str = "tls.cert = \"DIR/front.crt\"\ntls.key = \"DIR/front.key\"\n";

#[test]
fn scram_is_bound_to_the_connection() {
    told(async {
        let lines = format!("auth.kind = \"file\"\nauth.file = \"DIR/users\"\n{TLS}");
        let stage = Stage::open(&lines, |dir| issue(dir, &[])).await;
        let server = connect(stage.postgres.port, "postgres", "postgres").await.unwrap();
        server.batch_execute("create role clerk login").await.unwrap();
        for binding in ["require", "prefer", "disable"] {
            let said = psql(&stage, "clerk", &format!("channel_binding={binding}")).await;
            assert_eq!(said.as_deref(), Ok("it is clerk"), "{binding}");
        }
        let wrong = psql(&stage, "clerk", "password=wrong channel_binding=require").await.unwrap_err();
        assert!(wrong.contains("password authentication failed for user \"clerk\""), "{wrong}");
        // In clear there is nothing to bind to, and nothing is offered.
        connect(stage.port, "clerk", "postgres").await.unwrap();
        // Somebody in the middle took PLUS out of the offer: the client says that it could, had it been asked.
        let said = first_words(stage.port, b"SCRAM-SHA-256\0", b"y,,n=,r=abcdefghijklmnop").await;
        assert!(said.contains("SCRAM channel binding negotiation error"), "{said}");
        // Bound to another connection's kind of mark.
        let said =
            first_words(stage.port, b"SCRAM-SHA-256-PLUS\0", b"p=tls-unique,,n=,r=abcdefghijklmnop").await;
        assert!(said.contains("unsupported SCRAM channel-binding type"), "{said}");
        for (mechanism, first) in [
            (&b"SCRAM-SHA-256-PLUS\0"[..], &b"n,,n=,r=abcdefghijklmnop"[..]),
            (b"SCRAM-SHA-256\0", b"p=tls-server-end-point,,n=,r=abcdefghijklmnop"),
            (b"SCRAM-SHA-1\0", b"n,,n=,r=abcdefghijklmnop"),
        ] {
            let said = first_words(stage.port, mechanism, first).await;
            assert!(said.contains("C08P01"), "{said}");
        }
    });
}

/// What is answered to a client's first message of SCRAM, in TLS.
async fn first_words(port: u16, mechanism: &[u8], first: &[u8]) -> String {
    let (mut tls, _) = dial(port).await;
    let body = b"\0\x03\0\0user\0clerk\0database\0postgres\0\0";
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    tls.write_all(&[length.as_slice(), body].concat()).await.unwrap();
    let mut head = [0; 5];
    tls.read_exact(&mut head).await.unwrap();
    let length = u32::from_be_bytes(head[1..].try_into().unwrap()) - 4;
    let mut offer = vec![0; usize::try_from(length).unwrap()];
    tls.read_exact(&mut offer).await.unwrap();
    let both = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    assert_eq!(Authentication::read(&offer), Some(Authentication::Sasl(both)));
    let length = u32::try_from(first.len()).unwrap().to_be_bytes();
    let mut message = Vec::new();
    wire::front::password(&mut message, &[mechanism, &length, first].concat());
    tls.write_all(&message).await.unwrap();
    let mut said = Vec::new();
    let _ = tls.read_to_end(&mut said).await;
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn a_certificate_names_its_user() {
    told(async {
        let lines = format!(
            "auth.kind = \"file\"\nauth.file = \"DIR/users\"\n{TLS}tls.client_ca = \"DIR/ca.crt\"\n\
             [[hba]]\ntype = \"hostssl\"\nuser = \"clerk,boss\"\naddress = \"all\"\nmethod = \"cert\"\nmap = \"shop\"\n\
             [[hba]]\ntype = \"hostssl\"\naddress = \"all\"\nmethod = \"cert\"\n\
             [[hba]]\ntype = \"hostnossl\"\nuser = \"clerk\"\naddress = \"samehost\"\nmethod = \"scram-sha-256\"\n\
             [[ident]]\nmap = \"shop\"\nsystem = \"till-1\"\nuser = \"clerk\"\n"
        );
        let stage = Stage::open(&lines, |dir| issue(dir, &["till-1", "till-2"])).await;
        let server = connect(stage.postgres.port, "postgres", "postgres").await.unwrap();
        server.batch_execute("create role clerk login; create role \"till-2\" login").await.unwrap();
        let with = |name: &str| format!("sslcert=DIR/{name}.crt sslkey=DIR/{name}.key");
        assert_eq!(psql(&stage, "clerk", &with("till-1")).await.as_deref(), Ok("it is clerk"));
        assert_eq!(psql(&stage, "till-2", &with("till-2")).await.as_deref(), Ok("it is till-2"));
        for (user, certificate) in [("clerk", "till-2"), ("till-1", "till-2"), ("boss", "till-1")] {
            let said = psql(&stage, user, &with(certificate)).await.unwrap_err();
            let words = format!("certificate authentication failed for user \"{user}\"");
            assert!(said.contains(&words), "{said}");
        }
        let said = psql(&stage, "clerk", "sslcert=none sslkey=none").await.unwrap_err();
        assert!(said.contains("connection requires a valid client certificate"), "{said}");
        // Signed by somebody else: not even the handshake comes to its end.
        let said = psql(&stage, "clerk", &with("stranger")).await.unwrap_err();
        assert!(
            said.contains("unknown ca") || said.contains("decrypt error") || said.contains("closed"),
            "{said}"
        );
        // The first rule that fits is for TLS; in clear it is another.
        connect(stage.port, "clerk", "postgres").await.unwrap();
    });
}

#[test]
fn nobody_without_a_certificate_where_all_must_have_one() {
    told(async {
        let lines = format!(
            "auth.kind = \"file\"\nauth.file = \"DIR/users\"\n{TLS}tls.client_ca = \"DIR/ca.crt\"\n\
             tls.verify = \"required\"\n"
        );
        let stage = Stage::open(&lines, |dir| issue(dir, &["till"])).await;
        let server = connect(stage.postgres.port, "postgres", "postgres").await.unwrap();
        server.batch_execute("create role clerk login").await.unwrap();
        let error = connect_with(stage.port, "clerk", "postgres", "secret").await.err().unwrap();
        assert_eq!(said(&error).0, "28000");
        assert!(psql(&stage, "clerk", "sslcert=none sslkey=none").await.is_err());
        // A good certificate, and the password besides.
        let with = "sslcert=DIR/till.crt sslkey=DIR/till.key";
        assert_eq!(psql(&stage, "clerk", with).await.as_deref(), Ok("it is clerk"));
        assert!(psql(&stage, "clerk", &format!("{with} password=wrong")).await.is_err());
    });
}
