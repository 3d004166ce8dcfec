//! how large a batch becomes, and how often it is tried.

use super::*;

/// How many operations the batches have into which three posts of three bytes each go, which waited together.
fn sizes(ops_max: usize, bytes_max: usize) -> Vec<usize> {
    let mut setup = setup(&node(3));
    setup.limits.batch_ops_max = ops_max;
    setup.limits.batch_bytes_max = bytes_max;
    let begun = (Index(0), Hash::default());
    let mut primary = Primary::leading(Coordinator::new(&setup), view(1, 3, &[3], 0), Vec::new(), begun).serving();
    let _ = primary.submit(1, post("a"));
    for (request, text) in [(2, "bbb"), (3, "ccc"), (4, "ddd")] {
        let _ = primary.submit(request, post(text));
    }
    let mut sizes = Vec::new();
    loop {
        let effects = primary.complete();
        let effects = primary.settle(effects);
        let Some((_, _, entry)) = prepares(&effects).pop() else { return sizes };
        let Batch::Operations { operations, .. } = &entry.batch else { panic!("only posts wait: {entry:?}") };
        sizes.push(operations.len());
    }
}

#[test]
fn r1_a_batch_has_at_most_so_many_operations_and_bytes() {
    assert_eq!(sizes(10, 9), [3]);
    assert_eq!(sizes(2, 9), [2, 1], "batch.max_ops");
    assert_eq!(sizes(10, 8), [2, 1], "batch.max_bytes");
    assert_eq!(sizes(10, 2), [1, 1, 1], "one that is larger alone goes alone");
}

#[test]
fn r8_a_batch_that_three_attempts_did_not_decide_is_aborted() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let _ = primary.submit(1, post("a"));
    let (_, entry) = primary.flight();
    let committed = (entry.index.before(), entry.prev_hash);
    let mut sent_in = |number| {
        let sent = primary.next_view(view(number, 3, &[1, 2, 3], 0), vec![entry.clone()], committed);
        prepares(&sent).pop().map(|(_, _, entry)| entry)
    };
    for number in [2, 3] {
        assert_eq!(sent_in(number).as_ref(), Some(&entry), "attempt {number}");
    }
    let last = sent_in(4).expect("it is sent");
    assert!(matches!(&last.batch, Batch::Abort { keys, .. } if keys.len() == 1), "{last:?}");
    assert_eq!(last.index, entry.index);
}
