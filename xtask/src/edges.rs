//! Which of our crates may use which: the arrows of ARCHITECTURE.md, as a table.
//!
//! A new arrow fails here until this table changes, so it is seen in review as
//! the rare thing it is. Crates that are drawn but not yet written stand here
//! already: their place is decided.

/// A crate, and those of ours that it may name in its Cargo.toml (tests included).
pub const EDGES: &[(&str, &[&str])] = &[
    // Words.
    ("cluster", &[]),
    // Machines: they only think.
    ("failover", &["cluster"]),
    ("checker", &["cluster"]),
    ("consensus", &[]),
    ("wire", &[]),
    ("route", &["wire", "cluster"]),
    // Hands: they touch the world and decide nothing.
    ("api", &["route", "cluster"]),
    ("peers", &["cluster"]),
    ("postgres", &["cluster"]),
    ("rds", &["cluster"]),
    ("neighbours", &["cluster"]),
    ("store", &["consensus", "peers", "cluster"]),
    // Programs.
    ("agent", &["failover", "store", "peers", "postgres", "rds", "neighbours", "api", "cluster"]),
    ("proxy", &["route", "wire", "peers", "api", "cluster"]),
    // Stages. `drill` uses `peers` for the certificates and `postgres` for the passwords and processes of the
    // nodes that its stage sets up.
    ("sim", &["failover", "route", "wire", "consensus", "checker", "cluster"]),
    ("model", &["cluster"]),
    ("drill", &["checker", "api", "peers", "postgres", "cluster"]),
    (
        "cli",
        &[
            "agent",
            "proxy",
            "drill",
            "sim",
            "store",
            "peers",
            "postgres",
            "rds",
            "neighbours",
            "api",
            "failover",
            "route",
            "checker",
            "consensus",
            "wire",
            "cluster",
        ],
    ),
    // Chores stand outside.
    ("xtask", &[]),
];

/// Crates in which the compiler keeps clocks and sockets out (`no_std`).
pub const THINKING: &[&str] = &["cluster", "failover", "route", "wire", "checker"];

/// What the crate `name` may use; `None` if the table does not know it.
pub fn allowed(name: &str) -> Option<&'static [&'static str]> {
    EDGES.iter().find(|(from, _)| *from == name).map(|(_, to)| *to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_point_at_known_crates_and_form_no_circle() {
        // The table is in building order but for the stages, so walk it with a bound instead of trusting that.
        fn depth(name: &str, budget: usize) -> usize {
            assert!(budget > 0, "a circle through {name}");
            let to = allowed(name).unwrap_or_else(|| panic!("{name} is not in the table"));
            to.iter().map(|t| 1 + depth(t, budget - 1)).max().unwrap_or(0)
        }
        for (name, _) in EDGES {
            depth(name, EDGES.len());
        }
    }

    #[test]
    fn what_thinks_uses_only_what_thinks() {
        for name in THINKING {
            assert!(allowed(name).expect("known").iter().all(|to| THINKING.contains(to)), "{name}");
        }
    }
}
