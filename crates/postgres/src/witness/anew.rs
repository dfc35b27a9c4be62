//! A witness's first segment: how far back what it keeps begins.
//!
//! As far as the data node that is farthest behind has come, so that it can be
//! given the rest, if the leader still has that; or else with the leader's newest.
//!
//! Throws away what was kept before: whoever calls has seen to C-10.

use std::future::Future;
use std::path::Path;

use cluster::lineage::INITDB_TIMELINE;
use cluster::{Lineage, Lsn, Timeline};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::RunAs;
use crate::error::{Error, Result};
use crate::history;
use crate::wal::segment::holders;
use crate::witness::receiver::{CONNECT_LIMIT, Upstream};
use crate::witness::replication::{Heard, Replication, System};
use crate::witness::store::{Origin, Store};

/// SQLSTATE of a segment that is not there any more (`undefined_file`).
const UNDEFINED_FILE: &str = "58P01";

/// Begins a store with what the leader has: from the segment of `oldest`, which
/// somebody may need, or else from its newest.
///
/// # Errors
/// `Unreachable`, `Sql`, `BadAnswer`, `File`.
pub async fn begin_anew<S, C, F>(
    dir: &Path,
    owner: RunAs,
    upstream: &Upstream,
    oldest: Option<Lsn>,
    connect: C,
) -> Result<Store>
where
    C: Fn() -> F,
    F: Future<Output = Result<S>>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = upstream.me.to_string();
    let asking = async {
        let mut leader = Replication::login(connect().await?, &upstream.password, &name).await?;
        let system = leader.identify().await?;
        let origin = newest_origin(&mut leader, system).await?;
        let lineage = leaders_lineage(&mut leader, system).await?;
        let form = origin.form()?;
        let from = |lsn: Lsn| {
            let segment = form.segment_of(lsn.min(system.flushed).0);
            let holder = holders(&lineage, &form, segment).first().map_or(system.timeline, |s| s.timeline);
            Origin { begin: Lsn(form.segment_start(segment)), timeline: holder.0, ..origin }
        };
        let newest = from(system.flushed);
        let wanted = oldest.map_or(newest, from);
        // Nothing is known to be there before it has been sent.
        let has = match leader.start(&upstream.me.slot_name(), Timeline(wanted.timeline), wanted.begin).await
        {
            Ok(_) if wanted == newest => true,
            Ok(streams) => streams && first_bytes(&mut leader).await?,
            Err(Error::Sql { sqlstate, .. }) if sqlstate == UNDEFINED_FILE => false,
            Err(why) => return Err(why),
        };
        Ok(if has { wanted } else { newest })
    };
    let late = Error::Hung { what: "answer the WAL witness", limit: CONNECT_LIMIT };
    let origin = timeout(CONNECT_LIMIT, asking).await.map_err(|_| late)??;
    Store::anew(dir, owner, origin)
}

/// Whether the stream that was begun brings WAL.
async fn first_bytes<S: AsyncRead + AsyncWrite + Unpin>(leader: &mut Replication<S>) -> Result<bool> {
    loop {
        match leader.next().await {
            Ok(Heard::Wal { .. }) => return Ok(true),
            Ok(Heard::Alive { .. }) => {}
            Ok(Heard::Ended) => return Ok(false),
            Err(Error::Sql { sqlstate, .. }) if sqlstate == UNDEFINED_FILE => return Ok(false),
            Err(why) => return Err(why),
        }
    }
}

async fn newest_origin<S>(leader: &mut Replication<S>, system: System) -> Result<Origin>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let number = |text: String| text.parse::<u32>().map_err(|_| Error::BadAnswer(format!("'{text}'")));
    let version = number(leader.show("server_version_num").await?)?;
    let page_bytes = number(leader.show("wal_block_size").await?)?;
    let size = leader.show("wal_segment_size").await?;
    let segment_bytes = bytes_of(&size).ok_or_else(|| Error::BadAnswer(format!("a segment of '{size}'")))?;
    let (sysid, timeline) = (system.sysid, system.timeline.0);
    Ok(Origin { sysid, major: version / 10_000, page_bytes, segment_bytes, begin: Lsn::ZERO, timeline })
}

async fn leaders_lineage<S>(leader: &mut Replication<S>, system: System) -> Result<Lineage>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if system.timeline == INITDB_TIMELINE {
        return Ok(Lineage::initdb());
    }
    Ok(history::parse(system.timeline, &leader.history(system.timeline).await?)?)
}

/// Reads `4MB` or `1GB`, as `SHOW` puts it.
fn bytes_of(size: &str) -> Option<u32> {
    let (digits, unit) = size.split_at(size.find(|c: char| !c.is_ascii_digit())?);
    let shift = match unit {
        "B" => 0,
        "kB" => 10,
        "MB" => 20,
        "GB" => 30,
        _ => return None,
    };
    digits.parse::<u32>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_the_server_shows_them() {
        assert_eq!(bytes_of("4MB"), Some(4 << 20));
        assert_eq!(bytes_of("1GB"), Some(1 << 30));
        for bad in ["", "16", "MB", "9GB", "1TB"] {
            assert_eq!(bytes_of(bad), None, "{bad}");
        }
    }
}
