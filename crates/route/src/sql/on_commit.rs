//! CREATE TEMP TABLE ... ON COMMIT DROP: what its transaction takes with it, however that ends.
//!
//! The clause stands outside of brackets, in words without quotes, and before AS, behind which a query follows.

use super::Traits;

/// How far such a statement was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OnCommit {
    at: At,
    /// Brackets that are open.
    depth: u32,
    /// Something temporary was made by a statement before this one.
    made_before: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// It is no such statement, or the clause can't come any more.
    #[default]
    Nowhere,
    /// Behind TEMP.
    Temporary,
    /// Behind TABLE.
    Table,
    /// Behind ON.
    On,
    /// Behind COMMIT.
    Commit,
}

impl OnCommit {
    /// Whether no word means anything to it.
    pub fn is_nowhere(&self) -> bool {
        self.at == At::Nowhere
    }

    /// The statement says CREATE TEMP.
    pub fn made(&mut self, traits: &mut Traits) {
        *self = OnCommit { at: At::Temporary, depth: 0, made_before: traits.temporary };
        traits.temporary = true;
    }

    /// A word in lower case, before it is looked at for anything else.
    pub fn word(&mut self, word: &[u8], traits: &mut Traits) {
        if self.at == At::Nowhere {
            return;
        }
        self.at = match (self.at, word) {
            (At::Temporary, b"table") => At::Table,
            // A view, a sequence; a table from a query; a schema that outlives the transaction.
            (At::Temporary, _) | (_, b"as" | b"pg_temp") if self.depth == 0 => At::Nowhere,
            (At::Table, b"on") if self.depth == 0 => At::On,
            (At::On, b"commit") => At::Commit,
            (At::Commit, b"drop") => {
                traits.temporary = self.made_before;
                At::Nowhere
            }
            _ => At::Table,
        };
    }

    /// A string. Where it ends hangs on `standard_conforming_strings` if there is a backslash in it.
    pub fn literal(&mut self, text: &[u8]) {
        if self.at != At::Nowhere {
            self.at = if text.contains(&b'\\') { At::Nowhere } else { At::Table };
        }
    }

    /// A bracket, or anything else that is no word.
    pub fn symbol(&mut self, symbol: u8) {
        if self.at == At::Nowhere {
            return;
        }
        match symbol {
            b'(' => self.depth += 1,
            b')' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.at = if self.at == At::Temporary { At::Nowhere } else { At::Table };
    }
}

#[cfg(test)]
mod tests {
    use super::super::look;

    #[test]
    fn what_is_dropped_on_commit_outlives_nothing() {
        for text in [
            "create temp table x (a int) on commit drop",
            "CREATE TEMPORARY TABLE IF NOT EXISTS x (a int, b text DEFAULT ')') ON COMMIT DROP;",
            "create local temp table x (a numeric(5,2)) with (fillfactor = 70) on commit drop tablespace y",
            "create temp table \"X y\" (like z) on /* now */ commit drop as select 1",
            "create temp table x on commit drop as select 1 as a",
            "create temp table x () on commit drop; insert into x default values",
        ] {
            assert!(!look(text.as_bytes()).temporary, "{text}");
        }
    }

    #[test]
    fn all_else_is_kept() {
        for text in [
            "create temp table x (a int)",
            "create temp table x (a int) on commit delete rows",
            "create temp table x (a int) on commit preserve rows",
            "create temp table x as select a from t join u on commit drop",
            "create temp table x (a int) -- on commit drop",
            "create temp table x (a text default 'on commit drop')",
            "create temp table x (\"on\" int, commit int, drop int)",
            "create temp table x (a int check (on commit drop))",
            "create temp table x (a int) \"on\" commit drop",
            "create temp table x (a int) on \"commit\" drop",
            "create temp table x (a int) on commit, drop",
            "create temp table x (a int) on commit 'x' drop",
            "create temp table x (a int) on commit \"x\" drop",
            "create temp table x (a text default '\\') on commit drop; --')",
            "create temp view v as select 1",
            "create temp sequence s",
            "create temp view table on commit drop",
            "create temp table x (); create temp table y () on commit drop",
            "create temp table y () on commit drop; create temp table x ()",
            "create temp table y () on commit drop; select 1 into temp x",
            "create temp table y () on commit; drop table x",
            "create table pg_temp.x (a int) on commit drop",
        ] {
            assert!(look(text.as_bytes()).temporary, "{text}");
        }
    }
}
