//! Every story under `scenarios/` holds, with no law broken on the way.

use std::path::Path;

#[test]
fn every_story_holds() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    let mut paths: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|x| x == "story"));
    paths.sort();
    let only = std::env::var("STORY").unwrap_or_default();
    let told: Vec<_> = paths.iter().filter(|p| p.to_string_lossy().contains(&only)).collect();
    assert!(!told.is_empty(), "no stories in {}", dir.display());
    let mut failed = Vec::new();
    for path in told {
        let text = std::fs::read_to_string(path).unwrap();
        if let Err(why) = sim::runner::tell(&text) {
            failed.push(format!("{}: {why}", path.file_name().unwrap().to_string_lossy()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
