//! What answers say about themselves, held against time: who was called after another had returned names no earlier state, and
//! no earlier view (S2).
//!
//! An answer's index is at least that of what it shows, so this is no part of the order of calls; but a cluster whose receipts fall
//! went back.

use super::super::history::{Call, End, Moment, Receipt};
use super::violation::{Broken, Violation};

/// The first receipt that fell, of each kind.
pub fn check(calls: &[Call]) -> Vec<Violation> {
    let told = |(place, call): (usize, &Call)| match call.end {
        End::Answered { at, receipt: Some(receipt), .. } => Some((place, call.called, at, receipt)),
        End::Answered { receipt: None, .. } | End::Refused { .. } | End::Unknown { .. } => None,
    };
    let told: Vec<_> = calls.iter().enumerate().filter_map(told).collect();
    let view = fell(&told, "view", |receipt| receipt.view);
    let index = fell(&told, "index", |receipt| receipt.index);
    view.into_iter().chain(index).collect()
}

type Told = (usize, Moment, Moment, Receipt);

fn fell(told: &[Told], what: &str, number: impl Fn(Receipt) -> u64) -> Option<Violation> {
    let (mut by_call, mut by_return): (Vec<_>, Vec<_>) = (told.iter().collect(), told.iter().collect());
    by_call.sort_by_key(|(_, called, ..)| *called);
    by_return.sort_by_key(|(_, _, returned, _)| *returned);
    let mut returned = by_return.into_iter().peekable();
    let mut highest: Option<(u64, usize)> = None;
    for (place, called, _, receipt) in by_call {
        while let Some((before, _, _, earlier)) = returned.next_if(|(_, _, at, _)| at < called) {
            highest = highest.max(Some((number(*earlier), *before)));
        }
        if let Some((known, before)) = highest
            && number(*receipt) < known
        {
            let text = format!("{what} {} was named after {what} {known} had been", number(*receipt));
            return Some(Violation::new(Broken::ReceiptFell, text, &[before, *place]));
        }
    }
    None
}
