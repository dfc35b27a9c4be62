//! Finds the cluster and the token, in the order that docs promise.

use std::path::Path;

use anyhow::{Context, Result};
use api::Client;
use drill::Stage;

const DEFAULT: &str = "http://127.0.0.1:8008";

/// `--api`, else `$TANIST_API`, else the playground here, else the default.
pub fn client(api: Option<&str>, token_file: Option<&Path>) -> Result<Client> {
    let stage = Stage::open(Path::new("./playground")).ok();
    let named = api.map(ToString::to_string).or_else(|| std::env::var("TANIST_API").ok());
    let urls = match (&named, &stage) {
        (Some(list), _) => list.split(',').map(|u| u.trim().to_string()).collect(),
        (None, Some(stage)) => stage.client().urls,
        (None, None) => vec![DEFAULT.to_string()],
    };
    let from_env = std::env::var_os("TANIST_TOKEN_FILE").map(std::path::PathBuf::from);
    let file = token_file.map(Path::to_path_buf).or(from_env);
    let token = match file {
        Some(file) => {
            let text = std::fs::read_to_string(&file);
            let text = text.with_context(|| {
                format!("TAN0006: the token file '{}' can't be read. Name another", file.display())
            })?;
            Some(text.trim().to_string())
        }
        None => stage.and_then(|s| s.client().token),
    };
    Ok(Client { urls, token })
}
