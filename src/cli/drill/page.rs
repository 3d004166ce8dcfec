//! The report as a page: everything in one file, with a timeline as a drawing in it.
//!
//! Not here: what the report says (`report.rs`).

use super::report::{Report, Round, ViewSeen, time};
use std::fmt::Write as _;

/// The drawing's size, and where the load stands in it. Pixels.
const WIDTH: f64 = 1_160.0;
const HEIGHT: f64 = 344.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 12.0;
const LOAD_TOP: f64 = 96.0;
const LOAD_BOTTOM: f64 = 246.0;
const VIEWS_TOP: f64 = 268.0;
/// Labels of faults stand in so many rows, so that neighbours do not cover each other.
const LABEL_ROWS: usize = 4;
/// And those of views.
const VIEW_ROWS: usize = 4;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;color:#1d2730;margin:2em auto;max-width:1180px;padding:0 1em}\
h1{font-size:1.5em;margin-bottom:.2em}h2{font-size:1.1em;margin-top:1.8em}table{border-collapse:collapse}\
td,th{padding:.25em .8em;text-align:left;border-bottom:1px solid #dde3e8}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
.ok{color:#14713d;font-weight:600}.bad{color:#b3261e;font-weight:600}pre{background:#f5f2ea;padding:1em;white-space:pre-wrap}\
svg{width:100%;height:auto;background:#fff;border:1px solid #dde3e8}.legend span{margin-right:1.4em}.legend i{display:inline-block;\
width:.8em;height:.8em;margin-right:.4em}";

/// The page.
pub fn page(report: &Report) -> String {
    let failures = report.failures();
    let verdict = if failures.is_empty() {
        "<p class=\"ok\">Passed: one order of all calls explains every answer.</p>".to_owned()
    } else {
        let lines: Vec<_> =
            failures.iter().map(|failure| format!("<p class=\"bad\">Failed: {}</p>", escaped(failure))).collect();
        lines.join("\n")
    };
    let told: String = report.told.iter().map(|told| format!("<pre>{}</pre>\n", escaped(told))).collect();
    let skipped: String = report.skipped.iter().map(|why| format!("<p>Left out: {}</p>\n", escaped(why))).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Lockstep drill, seed {seed}</title>\n\
         <style>{STYLE}</style></head><body>\n<h1>Lockstep drill</h1>\n<p>{cluster}, seed {seed}, {seconds:.0} s</p>\n\
         {verdict}\n{told}<h2>Timeline</h2>\n{drawing}\n{LEGEND}\n<h2>Faults</h2>\n{faults}\n{skipped}\
         <h2>What was checked</h2>\n<p>{summary}.</p>\n<h2>What each gateway shows in the end</h2>\n{gateways}\n\
         <h2>Views</h2>\n{views}\n</body></html>\n",
        seed = report.seed,
        cluster = escaped(&report.cluster),
        seconds = report.seconds,
        drawing = drawing(report),
        faults = faults(report),
        summary = escaped(&report.summary()),
        gateways = gateways(report),
        views = views(report),
    )
}

const LEGEND: &str = "<p class=\"legend\"><span><i style=\"background:#2f6fab\"></i>writes answered, a second</span>\
<span><i style=\"background:#9cc3e4\"></i>reads answered</span><span><i style=\"background:#b3261e\"></i>failed tries (downwards)</span>\
<span><i style=\"background:#f6d9a8\"></i>fault</span><span><i style=\"background:#fbeeda\"></i>until whole again</span>\
<span><i style=\"background:#56616b\"></i>view: number, primary</span></p>";

/// Text in a page.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn table(head: &[&str], numbers_from: usize, rows: impl Iterator<Item = Vec<String>>) -> String {
    let class = |column: usize| if column >= numbers_from { " class=\"n\"" } else { "" };
    let line = |cells: &[String], tag: &str| {
        let cells =
            cells.iter().enumerate().map(|(column, cell)| format!("<{tag}{}>{}</{tag}>", class(column), escaped(cell)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let head: Vec<_> = head.iter().map(|cell| (*cell).to_owned()).collect();
    format!("<table>\n{}{}</table>", line(&head, "th"), rows.map(|row| line(&row, "td")).collect::<String>())
}

fn faults(report: &Report) -> String {
    let row = |round: &Round| {
        let lasted = round.lifted_ms.saturating_sub(round.began_ms);
        let times = [round.began_ms, lasted, round.stall_ms].map(|ms| format!("{ms} ms"));
        let [began, lasted, stall] = times;
        let (served, whole) = (time(round.served_ms), time(round.whole_ms));
        vec![
            round.number.to_string(),
            round.fault.to_owned(),
            round.target.clone(),
            began,
            lasted,
            stall,
            served,
            whole,
        ]
    };
    let head = ["", "fault", "whom", "at", "lasted", "no write for", "served again after", "whole after"];
    table(&head, 3, report.rounds.iter().map(row))
}

fn gateways(report: &Report) -> String {
    let head = ["gateway", "messages", "lost", "doubled", "reordered", "strange"];
    let row = |shows: &super::finale::Shows| {
        let numbers = [shows.messages, shows.lost, shows.doubled, shows.reordered, shows.strange];
        [shows.gateway.clone()].into_iter().chain(numbers.map(|number| number.to_string())).collect()
    };
    table(&head, 1, report.gateways.iter().map(row))
}

fn views(report: &Report) -> String {
    let row = |view: &ViewSeen| {
        let replicas: Vec<_> = view.replicas.iter().map(ToString::to_string).collect();
        let text = view.text.clone().unwrap_or_default();
        vec![
            format!("{:.1} s", seconds(view.at_ms)),
            view.number.to_string(),
            view.primary.to_string(),
            replicas.join(", "),
            text,
        ]
    };
    table(&["seen at", "view", "primary", "data nodes", "why"], 9, report.views.iter().map(row))
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

/// Where things stand along the time.
struct Scale {
    seconds: f64,
}

impl Scale {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (seconds / self.seconds).clamp(0.0, 1.0)
    }
}

/// The timeline. Writing to a String cannot fail, here and below.
fn drawing(report: &Report) -> String {
    let scale = Scale { seconds: report.seconds.max(1.0) };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"system-ui,sans-serif\" font-size=\"11\">\n"
    );
    report.rounds.iter().enumerate().for_each(|(place, round)| fault(&mut svg, &scale, place, round));
    load(&mut svg, &scale, report);
    report.views.iter().enumerate().for_each(|(place, view)| view_mark(&mut svg, &scale, place, view));
    axis(&mut svg, &scale);
    svg.push_str("</svg>");
    svg
}

fn fault(svg: &mut String, scale: &Scale, place: usize, round: &Round) {
    let (began, lifted) = (scale.x(seconds(round.began_ms)), scale.x(seconds(round.lifted_ms)));
    let whole = scale.x(seconds(round.lifted_ms + round.whole_ms.unwrap_or(0)));
    let (height, row) = (LOAD_BOTTOM - LOAD_TOP, 14.0 + 19.0 * (place % LABEL_ROWS) as f64);
    let is_late = round.served_ms.is_none() || round.trouble.is_some();
    let color = if is_late { "#b3261e" } else { "#7a4b00" };
    let _ = writeln!(
        svg,
        "<rect x=\"{began:.1}\" y=\"{LOAD_TOP}\" width=\"{:.1}\" height=\"{height}\" fill=\"#f6d9a8\"/>\
         <rect x=\"{lifted:.1}\" y=\"{LOAD_TOP}\" width=\"{:.1}\" height=\"{height}\" fill=\"#fbeeda\"/>\
         <line x1=\"{began:.1}\" x2=\"{began:.1}\" y1=\"{row}\" y2=\"{LOAD_BOTTOM}\" stroke=\"#d9a441\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{color}\">{} {}<title>{}</title></text>",
        (lifted - began).max(1.0),
        (whole - lifted).max(0.0),
        began + 3.0,
        row + 4.0,
        round.number,
        escaped(round.fault),
        escaped(&round.target),
    );
}

fn load(svg: &mut String, scale: &Scale, report: &Report) {
    let most = report.load.iter().map(|second| second.writes + second.reads).max().unwrap_or(0).max(1);
    let failed_most = report.load.iter().map(|second| second.failed).max().unwrap_or(0).max(1);
    let height = |count: u32| (LOAD_BOTTOM - LOAD_TOP - 6.0) * f64::from(count) / f64::from(most);
    let width = (scale.x(1.0) - scale.x(0.0)) * 0.86;
    for (at, second) in report.load.iter().enumerate() {
        let (x, writes, reads) = (scale.x(at as f64), height(second.writes), height(second.reads));
        let failed = 16.0 * f64::from(second.failed) / f64::from(failed_most);
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{writes:.1}\" fill=\"#2f6fab\"/>\
             <rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{reads:.1}\" fill=\"#9cc3e4\"/>\
             <rect x=\"{x:.1}\" y=\"{LOAD_BOTTOM}\" width=\"{width:.1}\" height=\"{failed:.1}\" fill=\"#b3261e\"/>",
            LOAD_BOTTOM - writes,
            LOAD_BOTTOM - writes - reads,
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{most}/s</text>\
         <text x=\"{:.1}\" y=\"{LOAD_BOTTOM}\" text-anchor=\"end\">0</text>",
        LEFT - 4.0,
        LOAD_TOP + 10.0,
        LEFT - 4.0,
    );
}

fn view_mark(svg: &mut String, scale: &Scale, place: usize, view: &ViewSeen) {
    let (x, row) = (scale.x(seconds(view.at_ms)), VIEWS_TOP + 8.0 + 10.0 * (place % VIEW_ROWS) as f64);
    let title = view.text.as_deref().unwrap_or_default();
    let _ = writeln!(
        svg,
        "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{LOAD_TOP}\" y2=\"{row}\" stroke=\"#56616b\" stroke-width=\".6\" stroke-dasharray=\"2 3\"/>\
         <text x=\"{x:.1}\" y=\"{row:.1}\" font-size=\"8\" text-anchor=\"middle\" fill=\"#56616b\">{}:{}<title>{}</title></text>",
        view.number,
        view.primary,
        escaped(title),
    );
}

fn axis(svg: &mut String, scale: &Scale) {
    let step = [5.0, 10.0, 30.0, 60.0, 300.0].into_iter().find(|step| scale.seconds / step <= 16.0).unwrap_or(900.0);
    let mut at = 0.0;
    while at <= scale.seconds {
        let x = scale.x(at);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#1d2730\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{at:.0} s</text>",
            HEIGHT - 26.0,
            HEIGHT - 21.0,
            HEIGHT - 8.0,
        );
        at += step;
    }
    let _ = writeln!(
        svg,
        "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{LOAD_BOTTOM}\" y2=\"{LOAD_BOTTOM}\" stroke=\"#1d2730\"/>",
        WIDTH - RIGHT
    );
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::passed;
    use super::*;

    #[test]
    fn a_page_needs_no_other_file_and_shows_every_fault_and_view() {
        let page = page(&passed());
        for foreign in ["src=", "href=", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.contains(">1 kill<title>node-3</title>") && page.contains(">2 cut-one-way<"), "{page}");
        assert!(page.contains(">2:2<title>") && page.contains("class=\"ok\""), "{page}");
        assert_eq!(page.matches("fill=\"#2f6fab\"").count(), passed().load.len());
    }

    #[test]
    fn what_failed_stands_on_top_and_nothing_of_it_is_markup() {
        let mut report = passed();
        report.violations = 1;
        report.told = vec!["Lost: <b>&".to_owned()];
        let page = page(&report);
        assert!(page.contains("<pre>Lost: &lt;b&gt;&amp;</pre>") && page.contains("Failed: 1 violations"), "{page}");
    }

    #[test]
    fn times_stand_in_order_within_the_drawing() {
        let scale = Scale { seconds: 10.0 };
        let places = [0.0, 1.0, 9.9, 10.0, 99.0].map(|at| scale.x(at));
        assert!(places.is_sorted() && places[0] >= LEFT && places[4] <= WIDTH, "{places:?}");
    }
}
