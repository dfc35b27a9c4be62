//! What a set of runs has reached: rules of `decide`, branches of `apply`, deeds,
//! points and kinds of faults.

use cluster::Refused;

/// The branch of `apply` that gave a refusal: its kind, and its sentence where
/// several branches share a kind.
#[must_use]
pub fn branch(refused: &Refused) -> String {
    match refused {
        Refused::NoTrigger(why) => format!("NoTrigger: {why}"),
        Refused::CandidateUnfit { why, .. } => format!("CandidateUnfit: {why}"),
        Refused::BadRule { why, .. } => format!("BadRule: {why}"),
        Refused::NothingToDo(why) => format!("NothingToDo: {why}"),
        Refused::NoCandidate(why) => format!("NoCandidate: {why}"),
        Refused::BadSettings(why) => format!("BadSettings: {why}"),
        Refused::NotRecruited(missing) => format!("NotRecruited: {:?}", missing.what),
        Refused::WrongPhase { phase, .. } => format!("WrongPhase: {phase:?}"),
        other => {
            let text = format!("{other:?}");
            text.split(['(', ' ', '{']).next().unwrap_or("").to_string()
        }
    }
}
