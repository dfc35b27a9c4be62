//! A wall clock is set to something else: `jump n1 +5s`, `jump n1 -30s`.

use super::{Fault, host_at};
use crate::clock::us;
use crate::story::span;

pub(super) const FAULT: Fault = Fault {
    name: "clock",
    verbs: &["jump"],
    draw: |rng, scene| {
        let sign = if rng.chance(500) { '+' } else { '-' };
        Some(format!("jump {} {sign}{}ms", scene.any(rng), rng.range(50, 3_600_000)))
    },
    act: |world, line| {
        Some((|| {
            let at = host_at(world, line, 1)?;
            let by = line.word(2);
            let (sign, rest) = by.split_at_checked(1).ok_or("jump NODE +5s")?;
            let far = i64::try_from(us(span(rest)?)).unwrap_or(i64::MAX);
            let offset = &mut world.hosts[at].clock.wall_offset;
            *offset = offset.saturating_add(if sign == "-" { -far } else { far });
            Ok(())
        })())
    },
};
