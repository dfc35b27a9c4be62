//! PostgreSQL's programs, and what can be asked of them without a server.
//!
//! Never starts a server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::durable::off_loop;
use crate::error::{Error, Result};
use crate::os_user::RunAs;
use crate::version::{Differences, Version};

/// PostgreSQL's programs, of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    bin_dir: PathBuf,
    /// What they say they are.
    pub version: Version,
    /// That version's row of the table.
    pub differences: &'static Differences,
}

impl Programs {
    /// Asks `bin_dir/postgres` for its version.
    ///
    /// # Errors
    /// `NoPrograms`, `UnsupportedVersion`.
    pub fn find(bin_dir: &Path) -> Result<Programs> {
        let fail = |why: String| Error::NoPrograms { bin_dir: bin_dir.to_path_buf(), why };
        for program in ["postgres", "initdb"] {
            if !bin_dir.join(program).is_file() {
                return Err(fail(format!("there is no '{program}'")));
            }
        }
        let answer = Command::new(bin_dir.join("postgres"))
            .arg("--version")
            .env_clear()
            .output()
            .map_err(|e| fail(e.to_string()))?;
        let printed = String::from_utf8_lossy(&answer.stdout).into_owned();
        let version =
            Version::parse(&printed).ok_or_else(|| fail(format!("it calls itself '{}'", printed.trim())))?;
        Ok(Programs { bin_dir: bin_dir.to_path_buf(), version, differences: version.differences()? })
    }

    /// Those of a host without a server: a witness never runs any.
    #[must_use]
    pub fn none() -> Programs {
        let differences = &crate::version::TABLE[crate::version::TABLE.len() - 1];
        Programs { bin_dir: PathBuf::new(), version: Version(differences.major * 10_000), differences }
    }

    /// The path of one of them.
    #[must_use]
    pub fn path(&self, program: &str) -> PathBuf {
        self.bin_dir.join(program)
    }
    /// Lets PostgreSQL itself judge cluster-wide parameters: one that it does not
    /// know would keep it from starting, and would make it ignore every reload.
    ///
    /// # Errors
    /// `BadParameter` with what PostgreSQL says of the first that it refuses.
    pub async fn check_parameters(&self, parameters: &BTreeMap<String, String>, run_as: RunAs) -> Result<()> {
        for (name, value) in parameters {
            // Names with a dot belong to extensions; any is taken until theirs is loaded.
            if !name.contains('.') {
                self.check_parameter(name, value, run_as).await?;
            }
        }
        Ok(())
    }

    async fn check_parameter(&self, name: &str, value: &str, run_as: RunAs) -> Result<()> {
        // `-C` prints a setting and exits. It wants a configuration file; an empty one will do.
        let args = ["-C", name, "-c", &format!("{name}={value}"), "-c", "config_file=/dev/null", "-D", "/"];
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let mut asked = command::command(&self.path("postgres"), &args, run_as, Path::new("/"));
        let output = off_loop(move || {
            asked.output().map_err(|e| Error::ProgramFailed { program: "postgres", why: e.to_string() })
        });
        let output = output.await?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::BadParameter { name: name.to_string(), why: command::last_words(&output) })
    }
}
