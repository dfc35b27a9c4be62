//! Who may read a file with secrets in it, by its mode.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;

/// Everybody but the file's owner: its group, and the others.
pub const NOT_OWNER: u32 = 0o077;
/// Everybody but its owner and its group.
pub const OTHERS: u32 = 0o007;

/// The mode of an open file as `chmod` takes it, if those may do anything with it; `None` if they may not.
///
/// # Errors
/// What the system says.
pub fn open_to(file: &File, whom: u32) -> io::Result<Option<String>> {
    let mode = file.metadata()?.permissions().mode() & 0o777;
    Ok((mode & whom != 0).then(|| format!("{mode:04o}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    #[test]
    fn a_mode_is_told_to_those_whom_it_lets_in() {
        let file = tempfile::tempfile().expect("there is room");
        for (mode, owner_only, group_too) in
            [(0o600, None, None), (0o640, Some("0640"), None), (0o604, Some("0604"), Some("0604"))]
        {
            file.set_permissions(Permissions::from_mode(mode)).expect("it is ours");
            assert_eq!(open_to(&file, NOT_OWNER).expect("it has a mode").as_deref(), owner_only);
            assert_eq!(open_to(&file, OTHERS).expect("it has a mode").as_deref(), group_too);
        }
    }
}
