//! A store of one process: for tests, and to show what a store must do.

use std::sync::Arc;

use cluster::ClusterState;
use tokio::sync::{mpsc, watch};

use crate::{Ask, Health, Store, SubmitError};

/// A store that lives as long as its handles.
#[must_use]
pub fn open() -> Store {
    let (asks, mut rx) = mpsc::unbounded_channel();
    let (state_tx, state) = watch::channel(Arc::new(ClusterState::default()));
    let (_, health) = watch::channel(Health { id: 1, leader: 1, voters: vec![1], ..Health::default() });
    tokio::spawn(async move {
        while let Some(ask) = rx.recv().await {
            let now = state_tx.borrow().clone();
            match ask {
                Ask::Submit(command, answer) => {
                    let judged = now.apply(&command).map(Arc::new).map_err(SubmitError::Refused);
                    if let Ok(next) = &judged {
                        state_tx.send_replace(next.clone());
                    }
                    let _ = answer.send(judged);
                }
                Ask::Read(answer) => {
                    let _ = answer.send(now);
                }
            }
        }
    });
    Store { asks, state, health }
}
