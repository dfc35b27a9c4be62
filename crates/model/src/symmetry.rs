//! Worlds that differ only in the standbys' names are one world.
//!
//! n1 keeps its name, since it leads term 1 in all of them. Of all ways to name
//! the others, the least world stands for them all.

use crate::bounds::NODES_MAX;
use crate::step::Explorer;
use crate::world::{Index, NODES, Rule, Server, World};

/// Every way to name the standbys but the one they have.
pub struct Names(Vec<[Index; NODES_MAX]>);

impl Names {
    /// For a cluster of `nodes`.
    pub fn new(nodes: u8) -> Names {
        let mut all = vec![vec![0 as Index]];
        for i in 1..NODES.len() as Index {
            // Each place where the next one can stand; those that there are not keep theirs.
            let places = |row: &Vec<Index>| if i < nodes { 1..=row.len() } else { row.len()..=row.len() };
            let grown = all.iter().flat_map(|row| {
                places(row).map(|at| {
                    let mut row = row.clone();
                    row.insert(at, i);
                    row
                })
            });
            all = grown.collect();
        }
        let rows = all.into_iter().map(|row| [row[0], row[1], row[2], row[3]]);
        Names(rows.filter(|row| *row != [0, 1, 2, 3]).collect())
    }
}

impl Explorer {
    /// The world that stands for `world` and all that differ from it in names only.
    pub(crate) fn canonical(&mut self, world: &World) -> World {
        let mut least = *world;
        if self.bounds.plain {
            return least;
        }
        for way in 0..self.names.0.len() {
            let names = self.names.0[way];
            let state = self.store.rename(world.state, way as u8, &names);
            least = least.min(renamed(world, state, &names));
        }
        least
    }
}

fn renamed(world: &World, state: u32, names: &[Index; NODES_MAX]) -> World {
    let mut out = World { state, ..*world };
    for (i, node) in world.nodes.iter().enumerate() {
        let mut it = *node;
        for rule in [&mut it.rule, &mut it.before, &mut it.agreed] {
            *rule = rename(*rule, names);
        }
        if let Server::Following(leader) = &mut it.server {
            *leader = names[*leader as usize];
        }
        for (j, walsender) in node.walsenders.iter().enumerate() {
            let rule = rename(walsender.rule, names);
            it.walsenders[names[j] as usize] = crate::world::Walsender { rule, ..*walsender };
        }
        out.nodes[names[i] as usize] = it;
    }
    out
}

fn rename(rule: Rule, names: &[Index; NODES_MAX]) -> Rule {
    let moved = (0..NODES_MAX).filter(|i| rule.names(*i as Index)).fold(0, |bits, i| bits | 1 << names[i]);
    Rule::new(moved, rule.acks())
}
