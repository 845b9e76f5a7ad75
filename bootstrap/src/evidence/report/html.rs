//! The report as one HTML file that needs nothing else: no script, no network.
//!
//! The drawing answers three questions at a look: who led when, what answered when, and where the gap was. Every text of a
//! bundle goes through [`esc`], so that no name becomes markup.

use std::fmt::Write as _;

use super::super::event::{CheckStatus, Claim};
use super::super::result::{Phase, RunResult};
use super::lanes::{Bar, Lanes};
use super::{count, one_line, seconds, sentence, title};

/// The width of the drawing, and where its time begins and ends.
const WIDTH: f64 = 1000.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 985.0;
/// The height of a lane, and of its bar.
const LANE: f64 = 30.0;
const BAR: f64 = 18.0;
/// The most bars of one lane; a service that flaps has more, and one cannot see them anyway.
const MOST_BARS: usize = 2000;
/// How many colours nodes have.
const COLOURS: usize = 6;

pub(super) fn render(result: &RunResult, lanes: &Lanes) -> String {
    let mut out = String::new();
    let heading = format!("{} {}: {}", result.kind, result.scenario, title(result));
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n\
         <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'; \
         base-uri 'none'; form-action 'none'\">\n\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
         <meta name=color-scheme content=\"light dark\">\n<title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n",
        esc(&heading),
        include_str!("page.css")
    );
    header(&mut out, result);
    figures(&mut out, result);
    drawing(&mut out, result, lanes);
    phases(&mut out, result);
    checks(&mut out, result);
    steps(&mut out, result);
    probers(&mut out, result);
    lists(&mut out, result);
    facts(&mut out, result);
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

/// A text in which nothing is markup, and nothing turns the line around.
fn esc(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn header(out: &mut String, result: &RunResult) {
    let word = title(result);
    let _ = writeln!(
        out,
        "<header>\n<span class=\"tag verdict {word}\">{word}</span>\n<h1>{} of group {}</h1>\n\
         <div class=id>{} · {} · {}</div>\n<p>{}</p>\n</header>",
        esc(&format!("{} {}", capital(&result.scenario), result.kind)),
        esc(&result.group),
        esc(&result.id),
        result.started.strftime("%Y-%m-%d %H:%M:%S UTC"),
        seconds(result.duration_ms),
        esc(&sentence(result))
    );
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

fn figures(out: &mut String, result: &RunResult) {
    let measured = &result.measured;
    let limit = |name: &str, unit: &str| match result.limits.get(name) {
        Some(limit) => format!("limit {limit}{unit}"),
        None => "no limit".to_owned(),
    };
    let rto = measured.rto_ms.map_or_else(|| "–".to_owned(), seconds);
    let error = measured.rto_error_ms.map_or_else(String::new, |ms| format!("±{ms} ms, "));
    let rpo = measured.rpo_events.map_or_else(|| "–".to_owned(), |lost| lost.to_string());
    let over = match measured.rpo_events {
        Some(lost) if lost > 0 => format!("over {}, ", seconds(measured.rpo_ms.unwrap_or(0))),
        _ => String::new(),
    };
    let proven = count(result, Claim::Proven);
    let others = [(Claim::Asserted, "asserted"), (Claim::Unproven, "unproven")];
    let others: Vec<String> = others.iter().map(|(claim, word)| format!("{} {word}", count(result, *claim))).collect();
    let restored = measured.restored_bytes.zip(measured.restored_files);
    let cells = [
        ("Time without an answer", rto, format!("{error}{}", limit("max_failover_seconds", " s"))),
        ("Acknowledged writes lost", rpo, format!("{over}{}", limit("max_data_lag_events", ""))),
        ("Claims proven", format!("{proven} of {}", result.checks.len()), others.join(", ")),
        ("Grade", result.grade.word().to_owned(), format!("mode {}", result.mode.word())),
        (
            "Restored",
            restored.map_or_else(|| "–".to_owned(), |(bytes, _)| bytes_text(bytes)),
            restored.map_or_else(|| "no receipt".to_owned(), |(_, files)| format!("{files} files, by receipts")),
        ),
    ];
    out.push_str("<dl class=figures>\n");
    for (name, value, more) in cells {
        let _ = writeln!(out, "<div><dt>{name}</dt><dd>{}<small>{}</small></dd></div>", esc(&value), esc(&more));
    }
    out.push_str("</dl>\n");
}

fn bytes_text(bytes: u64) -> String {
    match bytes {
        bytes if bytes < 10_000 => format!("{bytes} B"),
        bytes if bytes < 10_000_000 => format!("{} kB", bytes / 1000),
        bytes if bytes < 10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        bytes => format!("{} GB", bytes / 1_000_000_000),
    }
}

/// The scale of the drawing.
struct Scale {
    total_ms: u64,
}

impl Scale {
    fn x(&self, ms: u64) -> f64 {
        LEFT + (RIGHT - LEFT) * ms.min(self.total_ms) as f64 / self.total_ms as f64
    }

    /// A mark every so many milliseconds, so that there are four to ten.
    fn every(&self) -> u64 {
        let steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400];
        let fits = |seconds: &&u64| self.total_ms / (*seconds * 1000) <= 9;
        steps.iter().find(fits).map_or(self.total_ms.div_ceil(9).max(1), |seconds| seconds * 1000)
    }
}

fn drawing(out: &mut String, result: &RunResult, lanes: &Lanes) {
    let ends = lanes.lanes.iter().flat_map(|lane| &lane.bars).map(|bar| bar.until_ms).max().unwrap_or(0);
    let scale = Scale { total_ms: result.duration_ms.max(ends).max(1) };
    let with_leaders = usize::from(!result.leaders.is_empty());
    let rows = 1 + with_leaders + lanes.lanes.len();
    let (top, bottom) = (44.0, 44.0 + rows as f64 * LANE);
    let height = bottom + 26.0;
    let _ = writeln!(
        out,
        "<h2>Who led, who answered, and where the gap was</h2>\n<div class=\"card drawing\"><div class=scroll>\n\
         <svg viewBox=\"0 0 {WIDTH} {height}\" role=img aria-label=\"{}\">",
        esc(&sentence(result))
    );
    for at in (0..=scale.total_ms).step_by(usize::try_from(scale.every()).unwrap_or(1000)) {
        let x = scale.x(at);
        let _ = writeln!(
            out,
            "<line class=grid x1={x:.1} x2={x:.1} y1={top} y2={bottom} /><text class=dim x={x:.1} y={:.1} \
             text-anchor=middle>{}</text>",
            bottom + 17.0,
            mark(at)
        );
    }
    let mut y = top;
    label(out, y, "phases", "");
    result.phases.iter().for_each(|phase| phase_bar(out, &scale, phase, y));
    y += LANE;
    let colour = |node: &str| lanes.nodes.iter().position(|known| known == node).unwrap_or(0) % COLOURS;
    if with_leaders == 1 {
        label(out, y, "lease", "who led");
        let since = |time: jiff::Timestamp| u64::try_from(time.duration_since(result.started).as_millis()).unwrap_or(0);
        for leader in &result.leaders {
            let who = (leader.node.clone(), Some(leader.term));
            let bar = Bar { from_ms: since(leader.from), until_ms: since(leader.until), who: Some(who), count: 1 };
            answer_bar(out, &scale, &bar, y, colour(&leader.node));
        }
        y += LANE;
    }
    for lane in &lanes.lanes {
        let of = if lane.is_ingress { "ingress".to_owned() } else { lane.of.clone() };
        label(out, y, &lane.name, &of);
        let (x, width) = (LEFT, RIGHT - LEFT);
        let _ = writeln!(out, "<rect class=lane x={x} y={:.1} width={width} height={BAR} rx=2 />", y + 6.0);
        for bar in lane.bars.iter().take(MOST_BARS) {
            let index = bar.who.as_ref().map_or(0, |(node, _)| colour(node));
            answer_bar(out, &scale, bar, y, index);
        }
        y += LANE;
    }
    for (at, fault) in result.faults.iter().filter_map(|fault| Some((fault.at_ms?, fault))) {
        let x = scale.x(at);
        let anchor = if x > 800.0 { "end" } else { "start" };
        let text_x = if x > 800.0 { x + 1.0 } else { x - 1.0 };
        let _ = writeln!(
            out,
            "<line class=fault x1={x:.1} x2={x:.1} y1={:.1} y2={bottom} /><text class=fault-text x={text_x:.1} y=17 \
             text-anchor={anchor}>{} {}</text>",
            top - 4.0,
            esc(&fault.fault),
            esc(&fault.node)
        );
    }
    if let Some((from, until)) = lanes.gap {
        gap(out, &scale, from, until, result.measured.rto_ms.unwrap_or(0), top, bottom);
    }
    out.push_str("</svg></div>\n<ul class=key>");
    for node in &lanes.nodes {
        let _ = write!(out, "<li><i class=n{}></i>{}</li>", colour(node), esc(node));
    }
    out.push_str("<li><i class=nobody></i>no good answer</li></ul></div>\n");
}

fn mark(ms: u64) -> String {
    match ms {
        ms if ms % 60_000 == 0 && ms > 0 => format!("{} min", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}

fn label(out: &mut String, y: f64, name: &str, of: &str) {
    let more = if of.is_empty() || of == name {
        String::new()
    } else {
        format!(" <tspan class=dim>{}</tspan>", esc(&cut(of, 12)))
    };
    let _ = writeln!(out, "<text x=4 y={:.1}>{}{more}</text>", y + 19.0, esc(&cut(name, 14)));
}

fn cut(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

fn phase_bar(out: &mut String, scale: &Scale, phase: &Phase, y: f64) {
    let (Some(start), Some(took)) = (phase.start_ms, phase.duration_ms) else {
        return;
    };
    let (x, end) = (scale.x(start), scale.x(start + took));
    let failed = if phase.status.word() == "failed" { " failed" } else { "" };
    let name = format!("{}: {}, {}", phase.id, phase.status.word(), seconds(took));
    let _ = writeln!(
        out,
        "<rect class=\"phase{failed}\" x={x:.1} y={:.1} width={:.1} height={BAR} rx=2><title>{}</title></rect>",
        y + 6.0,
        (end - x - 1.0).max(1.5),
        esc(&name)
    );
    // Where its time was over, if it took longer.
    if let Some(timebox) = phase.timebox_ms.filter(|timebox| took > *timebox) {
        let at = scale.x(start.saturating_add(timebox));
        let _ = writeln!(out, "<line class=over x1={at:.1} x2={at:.1} y1={:.1} y2={:.1} />", y + 2.0, y + 28.0);
    }
    let fits = ((end - x - 8.0) / 6.6).max(0.0) as usize;
    if fits >= 4 {
        let _ = writeln!(out, "<text x={:.1} y={:.1}>{}</text>", x + 5.0, y + 19.0, esc(&cut(&phase.id, fits)));
    }
}

fn answer_bar(out: &mut String, scale: &Scale, bar: &Bar, y: f64, colour: usize) {
    let (x, end) = (scale.x(bar.from_ms), scale.x(bar.until_ms));
    let width = (end - x).max(1.5);
    let (class, text) = match &bar.who {
        None => ("none".to_owned(), format!("no good answer, {} tries", bar.count)),
        Some((node, Some(term))) => (format!("n{colour}"), format!("{node}, term {term}")),
        Some((node, None)) => (format!("n{colour}"), node.clone()),
    };
    let _ = writeln!(
        out,
        "<rect class={class} x={x:.1} y={:.1} width={width:.1} height={BAR} rx=2><title>{}, {} to {}</title></rect>",
        y + 6.0,
        esc(&text),
        seconds(bar.from_ms),
        seconds(bar.until_ms)
    );
    let fits = ((width - 8.0) / 6.6).max(0.0) as usize;
    if bar.who.is_some() && fits >= text.chars().count() {
        let _ = writeln!(out, "<text class=in x={:.1} y={:.1}>{}</text>", x + 5.0, y + 19.0, esc(&text));
    }
}

fn gap(out: &mut String, scale: &Scale, from: u64, until: u64, gap_ms: u64, top: f64, bottom: f64) {
    let (x, end) = (scale.x(from), scale.x(until));
    let middle = ((x + end) / 2.0).clamp(LEFT + 60.0, RIGHT - 60.0);
    let _ = writeln!(
        out,
        "<rect class=gap x={x:.1} y={:.1} width={:.1} height={:.1} /><line class=gap-line x1={x:.1} x2={end:.1} y1={:.1} \
         y2={:.1} /><text class=gap-text x={middle:.1} y={:.1} text-anchor=middle>{} without an answer</text>",
        top - 4.0,
        (end - x).max(1.5),
        bottom - top + 4.0,
        top - 4.0,
        top - 4.0,
        top - 9.0,
        seconds(gap_ms)
    );
}

fn phases(out: &mut String, result: &RunResult) {
    if result.phases.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Phases</h2>\n<div class=card><table class=\"wide phases\"><thead><tr><th>phase<th>status<th>took<th>of its timebox</tr></thead><tbody>\n",
    );
    for phase in &result.phases {
        let took = phase.duration_ms.map_or_else(|| "–".to_owned(), seconds);
        let timebox = phase.timebox_ms.map_or_else(|| "no limit".to_owned(), seconds);
        let bar = match (phase.duration_ms, phase.timebox_ms) {
            (Some(took), Some(most)) if most > 0 => {
                let over = if took > most { " over" } else { "" };
                let percent = (took.saturating_mul(100) / most).clamp(1, 100);
                format!("<div class=\"bar{over}\"><i style=\"width:{percent}%\"></i></div>")
            }
            _ => String::new(),
        };
        let word = phase.status.word();
        let _ = writeln!(
            out,
            "<tr><td>{}<td><span class=\"tag {word}\">{}</span><td class=num>{took}<td class=box>{timebox}{bar}</tr>",
            esc(&phase.id),
            word.replace('_', " ")
        );
    }
    out.push_str("</tbody></table></div>\n");
}

fn checks(out: &mut String, result: &RunResult) {
    out.push_str(
        "<h2>Claims</h2>\n<p class=dim>Proven: computed from signed or raw files of the bundle, and computed again by whoever \
         verifies it. Asserted: somebody says so. Unproven: nothing speaks for it; where it is required, the run failed.</p>\n\
         <div class=card><table class=\"checks wide\"><thead><tr><th>check<th>status<th>claim<th>observed<th>file</tr></thead><tbody>\n",
    );
    let mut sorted: Vec<_> = result.checks.iter().collect();
    // What is wrong first, then what is only said.
    sorted.sort_by_key(|check| (check.status == CheckStatus::Passed, !check.required, check.claim == Claim::Proven));
    for check in sorted {
        let (status, claim) = (check.status.word(), check.claim.word());
        let optional = if check.required { "" } else { " <span class=dim>(not required)</span>" };
        let _ = writeln!(
            out,
            "<tr><td>{}{optional}<td><span class=\"tag {status}\">{status}</span><td><span class=\"tag {claim}\">{claim}</span>\
             <td>{}<span class=why>{}</span><td><code>{}</code></tr>",
            esc(&check.id),
            esc(&check.observed),
            match check.expected.is_empty() {
                true => String::new(),
                false => format!("expected: {}", esc(&check.expected)),
            },
            esc(&check.source)
        );
    }
    out.push_str("</tbody></table></div>\n");
}

fn steps(out: &mut String, result: &RunResult) {
    if result.steps.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Steps</h2>\n<div class=card><table class=\"steps wide\"><thead><tr><th>step<th>status<th>what<th>took<th>timebox</tr></thead><tbody>\n",
    );
    for step in &result.steps {
        let word = step.status.word();
        let why = step.error.as_ref().map_or_else(String::new, |error| {
            format!("<span class=why>{}: {}</span>", esc(&error.code), esc(&error.text))
        });
        let _ = writeln!(
            out,
            "<tr><td>{}<td><span class=\"tag {word}\">{}</span><td>{}{why}<td class=num>{}<td class=num>{}</tr>",
            esc(&step.id),
            word.replace('_', " "),
            esc(&step.title),
            step.duration_ms.map_or_else(|| "–".to_owned(), seconds),
            seconds(step.timebox_ms)
        );
    }
    out.push_str("</tbody></table></div>\n");
}

fn probers(out: &mut String, result: &RunResult) {
    if result.probers.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Who watched</h2>\n<div class=card><table class=wide><thead><tr><th>prober<th>asks<th>answers<th>longest gap<th>file</tr></thead><tbody>\n",
    );
    for prober in &result.probers {
        let _ = writeln!(
            out,
            "<tr><td>{}<td>{} every {} ms<td class=num>{} good of {}<td class=num>{}<td><code>{}</code></tr>",
            esc(&prober.name),
            esc(&prober.of),
            prober.interval_ms,
            prober.good,
            prober.asked,
            seconds(prober.longest_gap_ms),
            esc(&prober.file)
        );
    }
    out.push_str("</tbody></table></div>\n");
}

fn lists(out: &mut String, result: &RunResult) {
    let mut list = |title: &str, items: Vec<String>| {
        if !items.is_empty() {
            let _ = writeln!(out, "<h2>{title}</h2>\n<div class=card><ul class=plain>");
            for item in &items {
                let _ = writeln!(out, "<li>{}</li>", esc(item));
            }
            out.push_str("</ul></div>\n");
        }
    };
    list(
        "Files that do not hold",
        result.problems.iter().map(|problem| format!("{}: {}", problem.file, problem.why)).collect(),
    );
    list(
        "Waived",
        result.waivers.iter().map(|waiver| format!("{} by {}: {}", waiver.id, waiver.who, waiver.reason)).collect(),
    );
    list("Done by hand", result.deviations.clone());
    list(
        "Statements of people",
        result.attestations.iter().map(|said| format!("{}, {}: {}", said.who, said.at, said.text)).collect(),
    );
    let state = |open: bool| if open { "open" } else { "closed" };
    list(
        "To be put right",
        result.debts.iter().map(|debt| format!("{}: {} ({})", debt.id, debt.text, state(debt.open))).collect(),
    );
    let made = result.nodes.iter().filter_map(|node| {
        let life = node.temporary.as_ref()?;
        Some(match (&life.destroyed, &life.kept) {
            (Some(at), _) => format!("{}: made at {}, removed at {at}", node.name, life.created),
            (None, Some(why)) => format!("{}: made at {}, kept: {why}", node.name, life.created),
            (None, None) => format!("{}: made at {}, left behind", node.name, life.created),
        })
    });
    list("Machines made for this run", made.collect());
}

fn facts(out: &mut String, result: &RunResult) {
    let head = result.head.as_ref();
    let rows = [
        ("operator", format!("{}: {}", result.operator, result.reason)),
        ("approved by", result.approver.clone().unwrap_or_else(|| "nobody was asked".to_owned())),
        ("challenge", result.challenge.clone().unwrap_or_else(|| "none".to_owned())),
        ("from, until", format!("{} – {}", result.started, result.ended)),
        ("plan", result.plan_sha256.to_string()),
        ("chain", result.chain.to_string()),
        ("root", format!("sha256:{}", result.root)),
        (
            "newest record",
            head.map_or_else(
                || "not in the bundle".to_owned(),
                |head| format!("{}, term {}, {}", head.seq, head.term, head.sha256),
            ),
        ),
        (
            "manifest",
            result.manifest.as_ref().map_or_else(
                || "not in the bundle".to_owned(),
                |manifest| {
                    format!(
                        "{} version {}, expires {}, {}",
                        manifest.name, manifest.version, manifest.expires, manifest.sha256
                    )
                },
            ),
        ),
        (
            "begun in the chain",
            result
                .begun
                .map_or_else(|| "not recorded".to_owned(), |begun| format!("record {}, {}", begun.seq, begun.digest)),
        ),
        ("tool", format!("{} {}, {}", result.tool.name, result.tool.version, result.tool.sha256)),
    ];
    out.push_str("<h2>What this rests on</h2>\n<div class=card><dl class=facts>\n");
    for (name, value) in rows {
        let _ = writeln!(out, "<dt>{name}</dt><dd>{}</dd>", esc(&value));
    }
    let _ = writeln!(
        out,
        "</dl></div>\n<p class=dim>Do not believe this page: check the bundle it came with. \
         <code>bootstrap evidence verify BUNDLE --pin sha256:{}</code></p>",
        result.root
    );
}
