//! The checker on trial: doctored records, each refused for its own reason, and random ones, against another checker (`random.rs`).

mod random;

use super::super::history::{Answer, Call, Channel, Client, End, Id, Moment, Page, Post, Receipt, Shown, Wish};
use super::violation::Broken;
use super::{Verdict, check};

/// A channel's page, as most reads ask for it.
fn page(channel: Channel) -> Page {
    Page { channel, after: None, ascending: false, limit: 4 }
}

/// Channel and client of a post of the story below.
fn origin(post: Post) -> (Channel, Client) {
    [(0, 1), (0, 2), (1, 1), (0, 2), (0, 1), (0, 2)].get(post as usize).copied().unwrap_or((0, 1))
}

fn message(post: Post, id: u64, stars: &[Client]) -> Shown {
    let (channel, by) = origin(post);
    Shown { id: Id(id), post: Some(post), channel: Some(channel), by: Some(by), stars: stars.into() }
}

fn call(client: Client, wish: Wish, (called, at): (u64, u64), answer: Answer) -> Call {
    let end = End::Answered { at: Moment(at), answer, receipt: None };
    Call { client, wish, called: Moment(called), end, tries: 1, gateway: 0 }
}

fn post(post: Post, id: u64, when: (u64, u64)) -> Call {
    let (channel, client) = origin(post);
    call(client, Wish::Post { channel, post }, when, Answer::Message(message(post, id, &[])))
}

fn star(client: Client, on: bool, when: (u64, u64), shown: Shown) -> Call {
    call(client, Wish::Star { message: shown.id, on }, when, Answer::Message(shown))
}

fn history(channel: Channel, when: (u64, u64), shown: Vec<Shown>) -> Call {
    call(4, Wish::History(page(channel)), when, Answer::Page(shown))
}

fn starred(when: (u64, u64), shown: Vec<Shown>) -> Call {
    call(4, Wish::Stars { channel: 0, of: None, limit: 4 }, when, Answer::Page(shown))
}

fn one(when: (u64, u64), shown: Shown) -> Call {
    call(4, Wish::Message { message: shown.id }, when, Answer::Message(shown))
}

// Where the calls of the story stand.
const POST_1: usize = 1;
const POST_2: usize = 2;
const FIRST_READ: usize = 4;
const SECOND_READ: usize = 7;
const STARRED: usize = 11;
const MESSAGE: usize = 12;
const POST_5: usize = 13;
const LAST_READ: usize = 14;

/// What an honest cluster answers: posts in two channels, a star that is given and taken back, one that stays, a post that is in
/// doubt and took effect (3), one that was refused (4).
fn story() -> Vec<Call> {
    let mut in_doubt = post(3, 0, (66, 75));
    in_doubt.end = End::Unknown { at: Moment(75) };
    let mut refused = post(4, 0, (86, 87));
    refused.end = End::Refused { at: Moment(87) };
    vec![
        post(0, 10, (10, 20)),
        post(1, 20, (15, 30)),
        post(2, 30, (35, 40)),
        star(3, true, (45, 50), message(0, 10, &[3])),
        history(0, (55, 60), vec![message(1, 20, &[]), message(0, 10, &[3])]),
        star(3, false, (65, 70), message(0, 10, &[])),
        in_doubt,
        history(0, (80, 85), vec![message(3, 40, &[]), message(1, 20, &[]), message(0, 10, &[])]),
        refused,
        starred((90, 95), vec![]),
        star(1, true, (96, 98), message(1, 20, &[1])),
        starred((100, 105), vec![message(1, 20, &[1])]),
        one((106, 108), message(1, 20, &[1])),
        post(5, 50, (110, 115)),
        history(
            0,
            (120, 125),
            vec![message(5, 50, &[]), message(3, 40, &[]), message(1, 20, &[1]), message(0, 10, &[])],
        ),
    ]
}

fn judge(calls: &[Call]) -> Verdict {
    check(calls).expect("a record by the rules")
}

/// What is said of the story once it is changed: the plainest thing, and how it is told.
fn doctored(change: impl FnOnce(&mut Vec<Call>)) -> (Broken, String) {
    let mut calls = story();
    change(&mut calls);
    let verdict = judge(&calls);
    let first = verdict.violations.first().unwrap_or_else(|| panic!("it was let pass: {calls:#?}"));
    assert!(!first.calls.is_empty(), "no call is named: {first:?}");
    (first.broken, first.story(&calls))
}

fn broken(change: impl FnOnce(&mut Vec<Call>)) -> Broken {
    doctored(change).0
}

fn shown(call: &mut Call) -> &mut Vec<Shown> {
    match &mut call.end {
        End::Answered { answer: Answer::Page(shown), .. } => shown,
        other => panic!("no page: {other:?}"),
    }
}

fn answer(call: &mut Call, with: Answer) {
    let End::Answered { answer, .. } = &mut call.end else { panic!("not answered: {call:?}") };
    *answer = with;
}

#[test]
fn an_honest_record_is_let_pass_and_counted() {
    let verdict = judge(&story());
    assert_eq!(verdict.violations, []);
    assert_eq!((verdict.unknown, verdict.refused), (1, 1));
    assert_eq!(verdict.judged.values().sum::<u64>(), 13);
}

#[test]
fn a_post_in_doubt_may_be_nowhere_or_late() {
    let mut nowhere = story();
    shown(&mut nowhere[SECOND_READ]).remove(0);
    shown(&mut nowhere[LAST_READ]).remove(1);
    assert_eq!(judge(&nowhere).violations, []);
    let mut late = nowhere;
    shown(&mut late[LAST_READ]).insert(0, message(3, 60, &[]));
    assert_eq!(judge(&late).violations, []);
}

#[test]
fn s1_an_acknowledged_post_that_is_gone_is_lost() {
    let (kind, told) = doctored(|calls| drop(shown(&mut calls[LAST_READ]).remove(0)));
    assert_eq!(kind, Broken::Lost);
    assert_eq!(
        told,
        "Lost: #13 had ended before #14 was called, and yet #14 must come before it: #14 does not show 0000000000.000050, \
         which #13 posted\n    #14 client 4 reads 4 messages of channel 0: called at 0.000120 s, answered at 0.000125 s, shown 3 \
         messages from post 3 as 0000000000.000040 to post 0 as 0000000000.000010\n    #13 client 2 posts post 5 to channel 0: \
         called at 0.000110 s, answered at 0.000115 s, shown post 5 as 0000000000.000050"
    );
    assert_eq!(broken(|calls| drop(shown(&mut calls[LAST_READ]).remove(2))), Broken::Lost, "in the middle");
    assert_eq!(broken(|calls| shown(&mut calls[LAST_READ]).clear()), Broken::Lost, "all");
    let found_before = broken(|calls| drop(shown(&mut calls[LAST_READ]).remove(1)));
    assert_eq!(found_before, Broken::Lost, "in doubt, but a read had shown it");
}

#[test]
fn s2_a_read_that_leaves_out_what_a_later_one_shows_is_stale() {
    assert_eq!(broken(|calls| drop(shown(&mut calls[SECOND_READ]).drain(..2))), Broken::Stale);
    assert_eq!(broken(|calls| drop(shown(&mut calls[SECOND_READ]).remove(1))), Broken::Gap);
    assert_eq!(broken(|calls| answer(&mut calls[MESSAGE], Answer::NotFound)), Broken::Stale);
}

#[test]
fn s2_a_post_that_was_seen_is_seen_by_whoever_asks_later() {
    // It is in doubt, so only the first read says that it is there.
    let late = broken(|calls| {
        let third = history(0, (88, 89), vec![message(1, 20, &[]), message(0, 10, &[])]);
        calls.insert(LAST_READ, third);
    });
    assert_eq!(late, Broken::Stale);
}

#[test]
fn s2_channels_have_one_order_by_their_ids() {
    // Both posts are in doubt. Who saw the later one cannot be followed by one who does not see the earlier one.
    let mut calls: Vec<_> = story().into_iter().take(3).collect();
    for (number, origin) in [(10, 0), (11, 1)] {
        let wish = Wish::Post { channel: origin, post: number };
        let end = End::Unknown { at: Moment(65) };
        calls.push(Call {
            client: 1 + number,
            wish,
            called: Moment(50 + u64::from(number)),
            end,
            tries: 1,
            gateway: 0,
        });
    }
    let of =
        |post: Post, id: u64, channel| Shown { by: Some(1 + post), channel: Some(channel), ..message(post, id, &[]) };
    let later = history(1, (70, 75), vec![of(11, 200, 1), message(2, 30, &[])]);
    let without = history(0, (80, 85), vec![message(1, 20, &[]), message(0, 10, &[])]);
    let with = history(0, (90, 95), vec![of(10, 100, 0), message(1, 20, &[]), message(0, 10, &[])]);
    calls.extend([later, without.clone(), with]);
    let verdict = judge(&calls);
    assert_eq!(verdict.violations.first().map(|violation| violation.broken), Some(Broken::Stale), "{verdict:?}");
    // Beside it, it may be.
    calls[6].called = Moment(71);
    assert_eq!(judge(&calls).violations, []);
}

#[test]
fn s2_ids_grow_with_time_over_all_channels() {
    let reordered = broken(|calls| calls[POST_2] = post(2, 5, (35, 40)));
    assert_eq!(reordered, Broken::Reordered);
    let beside = {
        let mut calls = story();
        calls[POST_2] = post(2, 15, (16, 40));
        judge(&calls)
    };
    assert_eq!(beside.violations, [], "who posts at the same time may come before");
}

#[test]
fn s2_nobody_sees_what_is_posted_later() {
    let seen = broken(|calls| shown(&mut calls[SECOND_READ]).insert(0, message(5, 50, &[])));
    assert_eq!(seen, Broken::FromTheFuture);
}

#[test]
fn s2_a_split_brain_is_a_contradiction() {
    // Two stars at the same time, and two reads beside them, of which each saw one that the other did not.
    let (kind, told) = doctored(|calls| {
        calls.truncate(3);
        for client in [5, 6] {
            let mut in_doubt = star(client, true, (45 + u64::from(client), 90), message(0, 10, &[client]));
            in_doubt.end = End::Unknown { at: Moment(90) };
            calls.push(in_doubt);
        }
        calls.extend([
            one((60, 70), message(0, 10, &[5])),
            call(7, Wish::Message { message: Id(10) }, (61, 71), Answer::Message(message(0, 10, &[6]))),
        ]);
    });
    assert_eq!(kind, Broken::Contradiction, "{told}");
    assert_eq!(told.lines().count(), 5, "the circle is the two stars and the two reads: {told}");
}

#[test]
fn s3_a_post_that_stands_twice_is_doubled() {
    assert_eq!(
        broken(|calls| shown(&mut calls[LAST_READ])[0] = message(5, 55, &[])),
        Broken::Doubled,
        "another id than told"
    );
    let twice = broken(|calls| {
        let page = shown(&mut calls[LAST_READ]);
        page.pop();
        page.insert(0, message(5, 60, &[]));
    });
    assert_eq!(twice, Broken::Doubled);
    let mut again = story();
    shown(&mut again[LAST_READ])[0] = message(5, 60, &[]);
    again.push(history(0, (130, 135), vec![message(5, 60, &[])]));
    assert_eq!(judge(&again).found, 1, "it is told once, however many answers show it");
    assert_eq!(broken(|calls| calls[POST_2] = post(2, 10, (35, 40))), Broken::SharedId);
}

#[test]
fn s4_a_refused_post_that_is_there_is_resurrected() {
    let (kind, told) = doctored(|calls| shown(&mut calls[LAST_READ])[0] = message(4, 45, &[]));
    assert_eq!(kind, Broken::Resurrected);
    assert!(
        told.contains("#8 client 1 posts post 4 to channel 0: called at 0.000086 s, refused at 0.000087 s"),
        "{told}"
    );
}

#[test]
fn a_message_keeps_its_text_its_channel_and_its_user() {
    let change = |change: fn(&mut Shown)| broken(|calls| change(&mut shown(&mut calls[LAST_READ])[1]));
    assert_eq!(change(|message| message.post = None), Broken::Strange);
    assert_eq!(change(|message| message.post = Some(99)), Broken::Strange);
    assert_eq!(change(|message| message.channel = Some(1)), Broken::OtherChannel);
    assert_eq!(change(|message| message.by = Some(1)), Broken::OtherUser);
    let elsewhere = broken(|calls| {
        calls[LAST_READ].wish = Wish::History(page(1));
    });
    assert_eq!(elsewhere, Broken::OtherChannel, "a page of another channel");
}

#[test]
fn a_page_is_in_order_and_no_longer_than_asked_for() {
    assert_eq!(broken(|calls| shown(&mut calls[LAST_READ]).swap(0, 1)), Broken::Page);
    assert_eq!(broken(|calls| shown(&mut calls[FIRST_READ])[1] = message(1, 20, &[])), Broken::Page, "one twice");
    let long = broken(|calls| calls[LAST_READ].wish = Wish::History(Page { limit: 3, ..page(0) }));
    assert_eq!(long, Broken::Page);
    let bounded = Page { after: Some(Id(20)), ascending: true, limit: 2, channel: 0 };
    let other = broken(|calls| {
        calls[LAST_READ].wish = Wish::History(bounded);
        *shown(&mut calls[LAST_READ]) = vec![message(1, 20, &[1]), message(3, 40, &[])];
    });
    assert_eq!(other, Broken::Page, "what is not after the bound");
    let mut honest = story();
    honest[LAST_READ].wish = Wish::History(bounded);
    *shown(&mut honest[LAST_READ]) = vec![message(3, 40, &[]), message(5, 50, &[])];
    assert_eq!(judge(&honest).violations, []);
    let short = broken(|calls| {
        calls[LAST_READ].wish = Wish::History(bounded);
        *shown(&mut calls[LAST_READ]) = vec![message(3, 40, &[])];
    });
    assert_eq!(short, Broken::Lost, "a page that is not full shows all that there is");
}

#[test]
fn a_full_page_of_the_oldest_says_nothing_of_newer_ones() {
    let mut calls = story();
    calls[LAST_READ].wish = Wish::History(Page { ascending: true, limit: 2, ..page(0) });
    *shown(&mut calls[LAST_READ]) = vec![message(0, 10, &[]), message(1, 20, &[1])];
    assert_eq!(judge(&calls).violations, []);
}

#[test]
fn an_answer_is_one_to_what_was_asked() {
    let wrong = |place: usize, with: Answer| broken(|calls| answer(&mut calls[place], with));
    assert_eq!(wrong(MESSAGE, Answer::Message(message(0, 10, &[]))), Broken::WrongAnswer, "another message");
    assert_eq!(wrong(POST_1, Answer::Message(message(0, 10, &[]))), Broken::WrongAnswer, "another post");
    assert_eq!(wrong(POST_1, Answer::Message(message(1, 20, &[3]))), Broken::WrongAnswer, "a new one has no stars");
    assert_eq!(wrong(LAST_READ, Answer::NotFound), Broken::WrongAnswer, "the channel is there");
    assert_eq!(wrong(LAST_READ, Answer::Unreadable), Broken::WrongAnswer);
    assert_eq!(wrong(MESSAGE, Answer::Page(vec![])), Broken::WrongAnswer);
    assert_eq!(wrong(10, Answer::Message(message(1, 20, &[]))), Broken::WrongAnswer, "its own star is missing");
}

#[test]
fn s1_a_star_that_is_gone_is_lost() {
    assert_eq!(broken(|calls| shown(&mut calls[STARRED]).clear()), Broken::StarLost, "in the list");
    assert_eq!(broken(|calls| shown(&mut calls[LAST_READ])[2].stars = [].into()), Broken::StarLost, "in a history");
    assert_eq!(broken(|calls| answer(&mut calls[MESSAGE], Answer::Message(message(1, 20, &[])))), Broken::StarLost);
}

#[test]
fn s2_a_star_is_there_from_when_it_is_given_until_it_is_taken_back() {
    assert_eq!(broken(|calls| shown(&mut calls[SECOND_READ])[2].stars = [3].into()), Broken::StarStale, "taken back");
    assert_eq!(
        broken(|calls| shown(&mut calls[SECOND_READ])[1].stars = [1].into()),
        Broken::StarStale,
        "not yet given"
    );
    assert_eq!(broken(|calls| shown(&mut calls[LAST_READ])[3].stars = [9].into()), Broken::StarStrange);
    assert_eq!(
        broken(|calls| shown(&mut calls[STARRED])[0].stars = [].into()),
        Broken::Page,
        "an unstarred one in the list"
    );
}

#[test]
fn s2_a_star_in_doubt_that_was_seen_stays() {
    let doubtful = |shown_later: bool| {
        let mut calls: Vec<_> = story().into_iter().take(3).collect();
        let mut star = star(5, true, (50, 55), message(0, 10, &[5]));
        star.end = End::Unknown { at: Moment(55) };
        let stars: &[Client] = if shown_later { &[5] } else { &[] };
        calls.extend([star, one((60, 65), message(0, 10, &[5])), one((70, 75), message(0, 10, stars))]);
        judge(&calls).violations.first().map(|violation| violation.broken)
    };
    assert_eq!(doubtful(true), None);
    assert_eq!(doubtful(false), Some(Broken::StarStale));
}

#[test]
fn a_message_is_starred_after_it_was_posted() {
    let early = broken(|calls| {
        calls.push(star(3, true, (107, 109), message(5, 50, &[3])));
        shown(&mut calls[LAST_READ])[0] = message(5, 50, &[3]);
    });
    assert_eq!(early, Broken::StarBeforePost);
}

#[test]
fn who_asks_later_is_told_no_earlier_index_and_no_earlier_view() {
    let with = |first: (u64, u64), second: (u64, u64)| {
        let mut calls = story();
        for (place, (view, index)) in [(POST_1, first), (LAST_READ, second)] {
            let End::Answered { receipt, .. } = &mut calls[place].end else { panic!("answered") };
            *receipt = Some(Receipt { view, index });
        }
        judge(&calls).violations.first().map(|violation| violation.broken)
    };
    assert_eq!(with((1, 7), (1, 7)), None);
    assert_eq!(with((1, 7), (1, 6)), Some(Broken::ReceiptFell));
    assert_eq!(with((2, 7), (1, 8)), Some(Broken::ReceiptFell));
}

#[test]
fn a_record_that_breaks_its_own_rules_is_not_judged() {
    let mut backwards = story();
    backwards[POST_5].called = Moment(116);
    assert!(check(&backwards).is_err());
    let mut twice = story();
    twice.push(star(3, true, (68, 200), message(0, 10, &[3])));
    assert!(check(&twice).is_err(), "one star is written twice at once");
}

/// Two long reads beside stars that come and go: which version each saw is open, and only one choice explains both.
fn open_choice(second_shows: &[Client]) -> Vec<Call> {
    let mut calls: Vec<_> = story().into_iter().take(3).collect();
    calls.extend([
        star(5, true, (50, 150), message(0, 10, &[5])),
        star(6, true, (60, 65), message(0, 10, &[6])),
        star(6, false, (70, 75), message(0, 10, &[])),
        // Star 5, and not 6: before 60 or after 70.
        one((51, 140), message(0, 10, &[5])),
        call(7, Wish::Message { message: Id(10) }, (52, 141), Answer::Message(message(0, 10, second_shows))),
    ]);
    calls
}

#[test]
fn a_choice_that_only_the_other_answers_decide_is_found() {
    // The second saw 6 and not 5, so 5 came after, and the first read after that.
    let verdict = judge(&open_choice(&[6]));
    assert_eq!(verdict.violations, []);
    assert!(verdict.choices > 0, "there was one to make");
    // Star 6 and its answer say that 5 was not there yet; both readers cannot have seen 5 with 6.
    assert!(judge(&open_choice(&[5, 6])).found > 0);
}
