//! Where PgBouncer listens, and TLS towards its clients.

use toml::Value;

use super::Draft;

/// What a key of [pgbouncer] says.
pub type Get<'a> = dyn Fn(&str) -> Option<&'a str> + 'a;

/// TCP and unix sockets.
pub fn listen(get: &Get<'_>, draft: &mut Draft) {
    let port = get("listen_port").unwrap_or("6432");
    let hosts = get("listen_addr").unwrap_or_default();
    if hosts.is_empty() && get("unix_socket_dir").is_none() {
        draft.fail("listen_addr is missing, and so is unix_socket_dir: nobody could connect, say 127.0.0.1");
        return;
    }
    let mut addresses = Vec::new();
    for host in hosts.split(',').map(str::trim).filter(|h| !h.is_empty()) {
        addresses.push(match host {
            "*" => {
                draft.warn(
                    "listen_addr = *: it listens on all addresses of IPv4; add \"[::]\" to `listen` for IPv6",
                );
                Value::from(format!("0.0.0.0:{port}"))
            }
            v6 if v6.contains(':') => Value::from(format!("[{v6}]:{port}")),
            host => Value::from(format!("{host}:{port}")),
        });
    }
    draft.set("", "listen", addresses);
    unix_socket(get, port, draft);
}

fn unix_socket(get: &Get<'_>, port: &str, draft: &mut Draft) {
    match get("unix_socket_dir") {
        None => {
            for key in ["unix_socket_mode", "unix_socket_group"] {
                if get(key).is_some() {
                    draft.warn(format!("{key}: there is no unix_socket_dir"));
                }
            }
        }
        Some(abstracted) if abstracted.starts_with('@') => {
            draft.fail(format!("unix_socket_dir = {abstracted}: sockets without a file are not known here"));
        }
        Some(dir) => {
            draft.set("unix_socket", "dir", dir);
            match port.parse::<u16>() {
                Ok(port) => draft.set("unix_socket", "port", i64::from(port)),
                Err(_) => draft.fail(format!("listen_port = {port} is no port")),
            }
            for (key, ours) in [("unix_socket_mode", "mode"), ("unix_socket_group", "group")] {
                if let Some(value) = get(key) {
                    draft.set("unix_socket", ours, value);
                }
            }
        }
    }
}

/// TLS towards clients.
pub fn client_tls(get: &Get<'_>, draft: &mut Draft) {
    let mode = get("client_tls_sslmode").unwrap_or("disable");
    let (required, verify) = match mode {
        "disable" => return,
        "allow" | "prefer" => (false, false),
        "require" => (true, false),
        "verify-ca" | "verify-full" => (true, true),
        other => return draft.fail(format!("client_tls_sslmode = {other} is no mode")),
    };
    let (Some(cert), Some(key)) = (get("client_tls_cert_file"), get("client_tls_key_file")) else {
        return draft
            .fail(format!("client_tls_sslmode = {mode} needs client_tls_cert_file and client_tls_key_file"));
    };
    draft.set("tls", "cert", cert);
    draft.set("tls", "key", key);
    draft.set("tls", "required", required);
    match get("client_tls_ca_file") {
        Some(ca) => {
            draft.set("tls", "client_ca", ca);
            draft.set("tls", "verify", if verify { "required" } else { "optional" });
        }
        None if verify => draft.fail(format!("client_tls_sslmode = {mode} needs client_tls_ca_file")),
        None => {}
    }
}
